"""Import tokens: everything that a later ImportKeyMaterial needs, so that no replica keeps any state for it.

Zone: the private wrapping key as an opaque handle, sealed under the root key. Layout, format version 1:

    offset  bytes  part
    0       1      format version, 1
    1       16     key id (UUID): the KMS key it is for
    17      1      wrapping algorithm, its place in `WrappingAlgorithm`
    18      8      end of validity, milliseconds since the epoch
    26      n      nonce, IV and sealed private key, which also authenticate the 26 bytes before

Source: kms-semantics section 4.6.
"""

import struct
from dataclasses import dataclass
from typing import Final

from datakeys.contract.errors import ExpiredImportTokenError, IntegrityError, InvalidImportTokenError
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.import_wrapping import WrappingAlgorithm, WrappingKey
from datakeys.keyservice.material.root_key import RootKey

TOKEN_FORMAT_V1: Final = 1
MAX_TOKEN_BYTES: Final = 6144
VALID_SECONDS: Final = 24 * 3600

_HEADER: Final = struct.Struct(">B16sBQ")
_ALGORITHMS: Final = tuple(WrappingAlgorithm)
_INVALID: Final = "The import token is not valid for this KMS key."


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """What a token holds: how material for one KMS key is unwrapped."""

    algorithm: WrappingAlgorithm
    wrapping_key: WrappingKey


def build_import_token(
    root_key: RootKey, key_id: str, parameters: ImportParameters, valid_to: float, random: RandomSource
) -> bytes:
    """Return a token of at most 6144 bytes that is valid up to a time."""
    place = _ALGORITHMS.index(parameters.algorithm)
    header = _HEADER.pack(TOKEN_FORMAT_V1, _to_bytes(key_id), place, int(valid_to * 1000))
    aad = b"datakeys.dev/import-token" + header
    return header + root_key.seal_wrapping_key(parameters.wrapping_key, aad, random)


def open_import_token(root_key: RootKey, key_id: str, token: bytes, now: float) -> ImportParameters:
    """Return what a genuine token for a key holds.

    Raises:
        InvalidImportTokenError: It isn't one of this service, or is for another key.
        ExpiredImportTokenError: Its time is over.
    """
    header, sealed = token[: _HEADER.size], token[_HEADER.size :]
    if len(header) != _HEADER.size:
        raise InvalidImportTokenError(_INVALID)
    version, named, place, valid_to = _HEADER.unpack(header)
    if version != TOKEN_FORMAT_V1:
        raise InvalidImportTokenError(
            f"The import token has format version {version}, this key service reads {TOKEN_FORMAT_V1} only: "
            "get new parameters for import."
        )
    if place >= len(_ALGORITHMS):
        raise InvalidImportTokenError(_INVALID)
    try:
        wrapping_key = root_key.unseal_wrapping_key(sealed, b"datakeys.dev/import-token" + header)
    except IntegrityError:
        raise InvalidImportTokenError(_INVALID) from None
    if named != _to_bytes(key_id):
        raise InvalidImportTokenError(_INVALID)
    if now * 1000 >= valid_to:
        raise ExpiredImportTokenError("The import token is expired: get new parameters for import.")
    return ImportParameters(_ALGORITHMS[place], wrapping_key)


def _to_bytes(key_id: str) -> bytes:
    return bytes.fromhex(key_id.replace("-", ""))
