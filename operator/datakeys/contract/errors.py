"""The errors of the KMS protocol, split by whose fault they are.

Zone: no secrets, no I/O. A message here travels to callers, conditions and Events: it may name keys,
members and states, never values that could be secret. Misuse by a programmer is a plain ``TypeError``
or ``ValueError``, never a ``KmsError``. Source: AWS KMS API, section "Errors" of each operation.
"""

from http import HTTPStatus
from typing import ClassVar


class KmsError(Exception):
    """Root of all errors of the KMS protocol."""

    #: The AWS error name on the wire (``__type``) and the ``reason`` of a condition.
    code: ClassVar[str] = "KMSInternalException"
    http_status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    #: True if the same request can succeed later without anybody changing anything.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    @property
    def reason(self) -> str:
        """Return the condition reason, which is the KMS error name."""
        return self.code


class RequestError(KmsError):
    """The caller's request can't be served as it is."""


class ServiceError(KmsError):
    """The service failed; the request may be fine."""

    http_status = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable = True


class ValidationError(RequestError):
    """A member breaks its constraint."""

    code = "ValidationException"


class SerializationError(RequestError):
    """The body isn't JSON, or a member has the wrong JSON type, or bad base64."""

    code = "SerializationException"


class UnknownOperationError(RequestError):
    """The X-Amz-Target names no operation of this service."""

    code = "UnknownOperationException"


class UnsupportedOperationError(RequestError):
    """The operation exists, but not for this key or not here."""

    code = "UnsupportedOperationException"


class MissingAuthenticationTokenError(RequestError):
    """The request carries no credentials."""

    code = "MissingAuthenticationTokenException"


class UnrecognizedClientError(RequestError):
    """The credentials can't be verified. One text for every cause."""

    code = "UnrecognizedClientException"


class AccessDeniedError(RequestError):
    """The caller isn't authorised; also for keys that don't exist in another account."""

    code = "AccessDeniedException"


class NotAuthorizedError(RequestError):
    """The name belongs to AWS: nobody may use it, whatever the policies say. AWS sends no text with it."""

    code = "NotAuthorizedException"


class NotFoundError(RequestError):
    """No such key or alias in the caller's account."""

    code = "NotFoundException"


class AlreadyExistsError(RequestError):
    """The name is taken."""

    code = "AlreadyExistsException"


class InvalidAliasNameError(RequestError):
    """The alias name is reserved or malformed."""

    code = "InvalidAliasNameException"


class LimitExceededError(RequestError):
    """A resource quota is reached."""

    code = "LimitExceededException"


class InvalidGrantTokenError(RequestError):
    """A grant token is malformed or unknown."""

    code = "InvalidGrantTokenException"


class InvalidGrantIdError(RequestError):
    """No such grant on this key."""

    code = "InvalidGrantIdException"


class InvalidMarkerError(RequestError):
    """The marker isn't one that a list operation of this service gave out."""

    code = "InvalidMarkerException"


class MalformedPolicyDocumentError(RequestError):
    """A key policy isn't valid."""

    code = "MalformedPolicyDocumentException"


class KeyDisabledError(RequestError):
    """The key state is Disabled."""

    code = "DisabledException"


class KeyStateError(RequestError):
    """The key state doesn't allow the operation."""

    code = "KMSInvalidStateException"


class InvalidKeyUsageError(RequestError):
    """The key's usage, spec or origin can't do the operation."""

    code = "InvalidKeyUsageException"


class IncorrectKeyError(RequestError):
    """KeyId names another key than the ciphertext."""

    code = "IncorrectKeyException"


class InvalidCiphertextError(RequestError):
    """Bad format, bad tag or other context: one error for all causes, so there is no oracle."""

    code = "InvalidCiphertextException"


class KmsInvalidSignatureError(RequestError):
    """The signature doesn't belong to message and key."""

    code = "KMSInvalidSignatureException"


class KmsInvalidMacError(RequestError):
    """The MAC doesn't belong to message and key."""

    code = "KMSInvalidMacException"


class TagError(RequestError):
    """A tag isn't valid."""

    code = "TagException"


class InvalidArnError(RequestError):
    """An ARN isn't one of this service."""

    code = "InvalidArnException"


class ConflictError(RequestError):
    """Another change of the same kind is under way."""

    code = "ConflictException"


class InvalidImportTokenError(RequestError):
    """The import token isn't one for this key."""

    code = "InvalidImportTokenException"


class ExpiredImportTokenError(RequestError):
    """The import token's time is over."""

    code = "ExpiredImportTokenException"


class IncorrectKeyMaterialError(RequestError):
    """The material isn't the one that the key had before, or has no right form."""

    code = "IncorrectKeyMaterialException"


class IncompleteSignatureError(RequestError):
    """The Authorization header isn't a complete signature."""

    code = "IncompleteSignatureException"


class InvalidSignatureError(RequestError):
    """The request's signature doesn't match, or its time is too far away."""

    code = "InvalidSignatureException"


class ExpiredTokenError(RequestError):
    """The credentials' time is over."""

    code = "ExpiredTokenException"


class DryRunOperationError(RequestError):
    """DryRun was given and the request would have succeeded."""

    code = "DryRunOperationException"


class ThrottlingError(RequestError):
    """The caller's rate quota is used up."""

    code = "ThrottlingException"
    retryable = True


class DependencyTimeoutError(ServiceError):
    """A system behind the service didn't answer in time."""

    code = "DependencyTimeoutException"


class KeyUnavailableError(ServiceError):
    """The key can't be reached for now."""

    code = "KeyUnavailableException"


class InternalError(ServiceError):
    """The service failed internally."""

    code = "KMSInternalException"


class AuditError(ServiceError):
    """The audit record couldn't be written, so there is no reply either."""

    code = "KMSInternalException"


class IntegrityError(ServiceError):
    """A stored record fails authentication: somebody must look, a retry can't help."""

    code = "KMSInternalException"
    retryable = False


def all_error_types() -> list[type[KmsError]]:
    """Return every concrete error class, in the order of definition."""
    found: list[type[KmsError]] = []
    queue: list[type[KmsError]] = [KmsError]
    while queue:
        subclasses = queue.pop(0).__subclasses__()
        queue += subclasses
        found += [cls for cls in subclasses if cls not in (RequestError, ServiceError)]
    return found


def error_from_code(code: str, message: str) -> KmsError:
    """Return the error that a code on the wire stands for; unknown codes are retryable internal errors.

    Args:
        code: The value of ``__type``, possibly with a namespace before ``#`` or a URL after ``:``.
        message: The text that came with it.
    """
    bare = code.split(":", 1)[0].rsplit("#", 1)[-1]
    for error_type in all_error_types():
        if error_type.code == bare:
            return error_type(message)
    return InternalError(f"{bare}: {message}")
