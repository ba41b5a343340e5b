"""What a person can do about a failed Decrypt. Zone: no secrets: fixed texts, never a server's words."""

from typing import Final


class Failure(Exception):  # noqa: N818 - the outcome of an attempt, reported and never raised to a caller
    """An attempt failed.

    Attributes:
        code: The KMS error name, or one of this module's own.
        retryable: True if the same attempt can succeed later without anybody changing anything.
    """

    def __init__(self, code: str, *, retryable: bool) -> None:
        super().__init__(code)
        self.code = code
        self.retryable = retryable


_RESTORE: Final = "the Secret was changed: delete it, and it comes back from its request's status"
_ADVICE: Final = {
    "AccessDeniedException": (
        "run the pod as the request's spec.serviceAccountName: nobody else can decrypt its data key"
    ),
    "DisabledException": "enable the KmsKey (spec.enabled: true)",
    "KMSInvalidStateException": (
        "if the KmsKey was deleted, apply it again, which cancels the deletion; else look at its status"
    ),
    "NotFoundException": (
        "the KMS key of this data key is gone: was it destroyed, or the cluster restored without it?"
    ),
    "InvalidCiphertextException": _RESTORE,
    "IncorrectKeyException": _RESTORE,
    "InvalidKeyUsageException": "the KmsKey can't decrypt; use keySpec SYMMETRIC_DEFAULT",
    "UnrecognizedClientException": "the pod's token was refused: look at the key service's audit records",
    "MissingAuthenticationTokenException": "the pod's token is missing: look at the volume datakeys-token",
    "ThrottlingException": "nothing: it will be tried again",
    "ValidationException": _RESTORE,
    "MissingInput": "wait for the Secret, the token and ConfigMap datakeys-trust-bundle",
    "InvalidInput": _RESTORE,
    "WrongRequest": "the Secret holds the data key of another DataKeyRequest; " + _RESTORE,
    "VolumeFull": "give the pod fewer data keys: its memory-backed volume has no room for another one",
    "InvalidResponse": "look at the key service's logs: its answer isn't the answer of Decrypt",
    "CertificateNotTrusted": (
        "compare ConfigMap datakeys-trust-bundle of this namespace with the one in the system namespace"
    ),
    "KeyServiceUnreachable": "look at Service datakeys-keyservice, cluster DNS and the NetworkPolicies here",
}


def advise(code: str) -> str:
    """Return the next step for an error code: one sentence in ASCII without tabs."""
    return _ADVICE.get(code, "look at the key service's logs")
