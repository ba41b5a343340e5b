"""What a DataKeyRequest needs next. Zone: ciphertext only, no I/O.

The Secret's create is the atomic step: whoever wins it has set the ciphertext for good. So the order of trust
is the status (it can't be changed once set), then an own Secret (a crash came before the status was written),
and only with neither is a data key generated.
"""

from dataclasses import dataclass

from datakeys.contract.conditions import REASON_CONFLICT, REASON_ISSUED
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.controller.decisions.keys import KeyResolution, UnresolvedKey
from datakeys.controller.decisions.request_view import RequestView
from datakeys.controller.decisions.secret import SecretView, digest_of


@dataclass(frozen=True, slots=True)
class DoNothing:
    """Everything is as it should be."""


@dataclass(frozen=True, slots=True)
class CheckDryRun:
    """Ask the key service whether the request would succeed."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Generate a data key, create the Secret, write the status."""

    key_id: str


@dataclass(frozen=True, slots=True)
class WriteReady:
    """The Secret is right: write the status. ``adopted``: it wasn't known to the status."""

    encrypted: EncryptedDataKey
    adopted: bool


@dataclass(frozen=True, slots=True)
class RestoreSecret:
    """The Secret is lost: create it again from the status."""

    encrypted: EncryptedDataKey


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing can be done before something else changes.

    Attributes:
        settling: The obstacle often goes away by itself within a second: look again before it is reported.
    """

    reason: str
    message: str
    settling: bool


Action = DoNothing | CheckDryRun | Generate | WriteReady | RestoreSecret | Refuse


def decide_request_action(request: RequestView, secret: SecretView | None, key: KeyResolution) -> Action:
    """Return the next step for a request.

    Args:
        request: The request.
        secret: The Secret of the request's name, or None; with its content if the status has no ciphertext.
        key: The KMS key that the request names.
    """
    if request.deleting:
        return DoNothing()
    if request.dry_run:
        return _decide_dry_run(request, key)
    if request.damaged:
        return Refuse(
            REASON_CONFLICT,
            "the status holds a ciphertextBlob that can't be read: restore the status, or make a new request",
            settling=False,
        )
    if request.issued is not None:
        return _decide_issued(request, request.issued, secret)
    if secret is not None:
        return _decide_found(request, secret)
    if isinstance(key, UnresolvedKey):
        return Refuse(key.reason, key.message, settling=True)
    return Generate(key.key_id)


def is_ready(request: RequestView) -> bool:
    """Return whether the status says Issued and lacks nothing."""
    outcome = request.outcome
    return (
        outcome is not None
        and outcome.is_true
        and outcome.reason == REASON_ISSUED
        and request.secret_ref == request.secret_name
        and request.observed_generation == request.generation
    )


def _decide_dry_run(request: RequestView, key: KeyResolution) -> Action:
    outcome = request.outcome
    if outcome is not None and outcome.is_true and request.observed_generation == request.generation:
        return DoNothing()
    if isinstance(key, UnresolvedKey):
        return Refuse(key.reason, key.message, settling=True)
    return CheckDryRun(key.key_id)


def _decide_issued(request: RequestView, issued: EncryptedDataKey, secret: SecretView | None) -> Action:
    if secret is None:
        return RestoreSecret(issued)
    if secret.owner_uid != request.uid:
        return _foreign(request)
    if secret.digest != digest_of(issued.to_secret_data()):
        return Refuse(
            REASON_CONFLICT,
            f"Secret {request.secret_name} holds another data key than this status: delete the Secret, "
            "and it is restored from the status",
            settling=True,
        )
    return DoNothing() if is_ready(request) else WriteReady(issued, adopted=False)


def _decide_found(request: RequestView, secret: SecretView) -> Action:
    if secret.owner_uid != request.uid:
        return _foreign(request)
    if secret.encrypted is None or secret.encrypted.encryption_context != request.bound_context:
        return Refuse(
            REASON_CONFLICT,
            f"Secret {request.secret_name} doesn't hold this request's data key: delete the Secret, "
            "and a data key is issued",
            settling=True,
        )
    return WriteReady(secret.encrypted, adopted=True)


def _foreign(request: RequestView) -> Refuse:
    # A Secret of a former request of the same name is about to be collected as garbage.
    return Refuse(
        REASON_CONFLICT,
        f"Secret {request.secret_name} belongs to somebody else and is never overwritten: delete it, or make "
        "a request with another secretName; this continues by itself once it is gone",
        settling=True,
    )
