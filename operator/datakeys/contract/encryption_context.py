"""The encryption context: its canonical bytes and the pairs that bind a data key to a workload.

Zone: no secrets, no I/O. The context isn't secret: it appears in audit records.
Source: AWS KMS Developer Guide, "Encryption context"; the byte layout is this project's own.
"""

import struct
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

_pack_length: Final = struct.Struct(">I").pack


def canonical_bytes(context: EncryptionContext) -> bytes:
    """Return the one byte string that stands for a context; injective.

    Layout: number of pairs (4 bytes, big endian), then per pair, sorted by the UTF-8 bytes of the key:
    length of the key (4 bytes), key, length of the value (4 bytes), value. No Unicode normalisation.
    ``{}`` gives four zero bytes.

    Raises:
        ValidationError: A string holds a lone surrogate and so has no UTF-8 form.
    """
    out = [_pack_length(len(context))]
    try:
        # Strings are in the order of their code points, which is that of their UTF-8 bytes.
        for key, value in sorted(context.items()):
            raw_key, raw_value = key.encode(), value.encode()
            out += (_pack_length(len(raw_key)), raw_key, _pack_length(len(raw_value)), raw_value)
    except UnicodeEncodeError:
        raise ValidationError(
            "1 validation error detected: Value at 'encryptionContext' failed to satisfy constraint: "
            "Member must be valid Unicode"
        ) from None
    return b"".join(out)


def check_size(context: EncryptionContext) -> None:
    """Check the total size.

    Raises:
        ValidationError: Keys and values together have more than 8192 characters.
    """
    if sum(map(len, context)) + sum(map(len, context.values())) > MAX_CONTEXT_CHARACTERS:
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
