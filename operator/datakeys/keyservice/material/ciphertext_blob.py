"""The ciphertext blob, format version 1: pure bytes in, parts out.

Zone: ciphertext. Clients must not parse it; everything but the encrypted part is authenticated as AAD.

    offset  bytes  part
    0       1      format version, 1
    1       16     key id (UUID)
    17      32     key material id
    49      4      CRC-32 of the 49 bytes before it
    53      16     nonce: derives the key of this one encryption
    69      12     IV
    81      n+16   ciphertext and tag

The checksum protects nothing (the tag does). It lets a damaged id answer like any other damage,
InvalidCiphertext, instead of naming a key that doesn't exist.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from datakeys.contract.encrypted_data_key import MAX_CIPHERTEXT_BYTES
from datakeys.contract.errors import InvalidCiphertextError

BLOB_FORMAT_V1: Final = 1
NONCE_BYTES: Final = 16
IV_BYTES: Final = 12
TAG_BYTES: Final = 16
CHECKSUM_START: Final = 49
NONCE_START: Final = 53
IV_START: Final = 69
HEADER_BYTES: Final = 81
MIN_BLOB_BYTES: Final = HEADER_BYTES + 1 + TAG_BYTES
#: Key id, material id, checksum and nonce: the context of the key derivation.
KDF_CONTEXT: Final = slice(1, IV_START)


@dataclass(slots=True)
class CiphertextBlob:
    """A parsed, not yet authenticated blob.

    Attributes:
        header: The first 81 bytes.
        key_id: UUID text of the KMS key.
        material_id: 64 hex characters.
        payload: Ciphertext and 16-byte tag.
    """

    header: bytes
    key_id: str
    material_id: str
    payload: bytes

    @property
    def iv(self) -> bytes:
        """Return the 12-byte IV."""
        return self.header[IV_START:]


def build_header_prefix(key_id: str, material_id: str) -> bytes:
    """Return the first 53 bytes of every blob of one backing key.

    Raises:
        ValueError: An id isn't hex of the right length.
    """
    prefix = bytes([BLOB_FORMAT_V1]) + bytes.fromhex(key_id.replace("-", "")) + bytes.fromhex(material_id)
    if len(prefix) != CHECKSUM_START:
        raise ValueError("a key id has 16 bytes, a key material id 32")
    return prefix + _checksum(prefix)


def parse_blob(raw: bytes) -> CiphertextBlob:
    """Split an untrusted blob.

    Args:
        raw: 98..6144 bytes of format version 1.

    Raises:
        InvalidCiphertextError: Length, version or checksum is wrong. It has no text, like a failed tag.
    """
    if not MIN_BLOB_BYTES <= len(raw) <= MAX_CIPHERTEXT_BYTES or raw[0] != BLOB_FORMAT_V1:
        raise InvalidCiphertextError
    key_id, material_id = _parse_prefix(raw[:NONCE_START])
    return CiphertextBlob(raw[:HEADER_BYTES], key_id, material_id, raw[HEADER_BYTES:])


#: The same for all blobs of one version of a key's material.
@lru_cache(maxsize=4096)
def _parse_prefix(prefix: bytes) -> tuple[str, str]:
    if prefix[CHECKSUM_START:] != _checksum(prefix[:CHECKSUM_START]):
        raise InvalidCiphertextError
    digits = prefix[1:CHECKSUM_START].hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}", digits[32:]


def _checksum(prefix: bytes) -> bytes:
    return zlib.crc32(prefix).to_bytes(4, "big")
