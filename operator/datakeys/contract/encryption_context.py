"""The encryption context: its canonical bytes and the pairs that bind a data key to a workload.

Zone: no secrets, no I/O. The context isn't secret: it appears in audit records.
Source: AWS KMS Developer Guide, "Encryption context"; the byte layout is this project's own.
"""

from collections.abc import Mapping
from typing import Final

from datakeys.contract.errors import ValidationError

#: Total length of all keys and values, in characters.
MAX_CONTEXT_CHARACTERS: Final = 8192

RESERVED_PREFIX: Final = "datakeys.dev/"
PAIR_NAMESPACE: Final = "datakeys.dev/namespace"
PAIR_REQUEST: Final = "datakeys.dev/request"
PAIR_SERVICE_ACCOUNT: Final = "datakeys.dev/service-account"

EncryptionContext = Mapping[str, str]


def canonical_bytes(context: EncryptionContext) -> bytes:
    """Return the one byte string that stands for a context; injective.

    Layout: number of pairs (4 bytes, big endian), then per pair, sorted by the UTF-8 bytes of the key:
    length of the key (4 bytes), key, length of the value (4 bytes), value. No Unicode normalisation.
    ``{}`` gives four zero bytes.

    Raises:
        ValidationError: A string holds a lone surrogate and so has no UTF-8 form.
    """
    try:
        pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    except UnicodeEncodeError:
        raise ValidationError(
            "1 validation error detected: Value at 'encryptionContext' failed to satisfy constraint: "
            "Member must be valid Unicode"
        ) from None
    out = [len(pairs).to_bytes(4, "big")]
    for key, value in pairs:
        out += [len(key).to_bytes(4, "big"), key, len(value).to_bytes(4, "big"), value]
    return b"".join(out)


def check_size(context: EncryptionContext) -> None:
    """Check the total size.

    Raises:
        ValidationError: Keys and values together have more than 8192 characters.
    """
    if sum(len(key) + len(value) for key, value in context.items()) > MAX_CONTEXT_CHARACTERS:
        raise ValidationError(
            "1 validation error detected: Value at 'encryptionContext' failed to satisfy constraint: "
            f"Member must have a total length less than or equal to {MAX_CONTEXT_CHARACTERS}"
        )


def build_bound_context(
    user_pairs: EncryptionContext, *, namespace: str, request: str, service_account: str
) -> dict[str, str]:
    """Return the context that is authenticated: the user's pairs and the three reserved pairs.

    Names, not UIDs: a backup that is restored elsewhere still decrypts.

    Raises:
        ValidationError: A user pair has the reserved prefix ``datakeys.dev/``.
    """
    reserved = sorted(key for key in user_pairs if key.lower().startswith(RESERVED_PREFIX))
    if reserved:
        raise ValidationError(
            f"1 validation error detected: Value '{reserved[0]}' at 'encryptionContext' failed to satisfy "
            f"constraint: Member must not have the reserved prefix {RESERVED_PREFIX}"
        )
    return {
        **user_pairs,
        PAIR_NAMESPACE: namespace,
        PAIR_REQUEST: request,
        PAIR_SERVICE_ACCOUNT: service_account,
    }
