"""Another implementation of the socket's ciphertext, on the package ``cryptography``, to compare with.

Source: Tink "AES-GCM-HKDF Streaming AEAD", sizes of the template AES256_GCM_HKDF_1MB.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEGMENT_BYTES = 1_048_576
HEADER_BYTES = 40
TAG_BYTES = 16
#: Plaintext of the first segment, and of any other.
FIRST_BYTES = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
NEXT_BYTES = SEGMENT_BYTES - TAG_BYTES


def _build_cipher(key: bytes, salt: bytes, associated_data: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, associated_data).derive(key))


def _build_nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\1" if last else b"\0")


def encrypt(key: bytes, plaintext: bytes, associated_data: bytes = b"") -> bytes:
    """Return a ciphertext."""
    salt, prefix = os.urandom(32), os.urandom(7)
    cipher = _build_cipher(key, salt, associated_data)
    starts = [0, *range(FIRST_BYTES, len(plaintext), NEXT_BYTES)]
    ends = [*starts[1:], len(plaintext)]
    segments = [
        cipher.encrypt(_build_nonce(prefix, index, last=end == len(plaintext)), plaintext[start:end], None)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    return bytes([HEADER_BYTES]) + salt + prefix + b"".join(segments)


def decrypt(key: bytes, ciphertext: bytes, associated_data: bytes = b"") -> bytes:
    """Return the plaintext.

    Raises:
        ValueError: It isn't authentic.
    """
    if ciphertext[:1] != bytes([HEADER_BYTES]):
        raise ValueError("no header")
    cipher = _build_cipher(key, ciphertext[1:33], associated_data)
    starts = [HEADER_BYTES, *range(SEGMENT_BYTES, len(ciphertext), SEGMENT_BYTES)]
    ends = [*starts[1:], len(ciphertext)]
    try:
        return b"".join(
            cipher.decrypt(
                _build_nonce(ciphertext[33:40], index, last=end == len(ciphertext)),
                ciphertext[start:end],
                None,
            )
            for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        )
    except InvalidTag:
        raise ValueError("not authentic") from None
