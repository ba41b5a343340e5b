"""The ciphertext of the socket: Tink's streaming AEAD with AES-256-GCM, HKDF-SHA256 and segments of 1 MiB.

Zone: handles the data key and bodies by address. Any program that has the data key and Tink (key type
``AesGcmHkdfStreamingKey``), or AES-GCM and HKDF, can read and write it too.

    header    = 40 | salt (32 bytes) | nonce prefix (7 bytes)
    segment i = AES-256-GCM(HKDF-SHA256(data key, salt, info = associated data),
                            nonce = nonce prefix | i (4 bytes, big-endian) | 1 for the last segment, else 0)
    ciphertext = header | segment 0 | segment 1 | …

All segments but the last are full: 1 MiB with the tag, the first one together with the header. So a segment
that is missing, doubled, moved or from another message fails, and so does the end of a message that was cut.
Source: Tink "AES-GCM-HKDF Streaming AEAD"; RFC 5869 (HKDF); NIST SP 800-38D (GCM).
"""

import ctypes
import os
from typing import Final

from datakeys.sidecar.libcrypto import DIGEST_BYTES, TAG_BYTES, Gcm, Library
from datakeys.sidecar.locked_memory import Memory

SEGMENT_BYTES: Final = 1 << 20
HEADER_BYTES: Final = 40
SALT_BYTES: Final = 32
PREFIX_BYTES: Final = 7
#: Salt and nonce prefix.
RANDOM_BYTES: Final = SALT_BYTES + PREFIX_BYTES
#: The ciphertext of no bytes.
MIN_CIPHERTEXT_BYTES: Final = HEADER_BYTES + TAG_BYTES
MIN_KEY_BYTES: Final = 32
#: Source: AWS KMS GenerateDataKey, NumberOfBytes.
MAX_KEY_BYTES: Final = 1024
MAX_SEGMENTS: Final = 1 << 32
#: 4 PiB: what the counter of segments allows.
MAX_CIPHERTEXT_BYTES: Final = MAX_SEGMENTS * SEGMENT_BYTES

#: Where a ``KeyPage`` keeps what: the data key, then the pseudorandom key of HKDF, then the derived key.
_EXTRACTED: Final = MAX_KEY_BYTES
_DERIVED: Final = _EXTRACTED + DIGEST_BYTES
_PAGE_BYTES: Final = 4096


class InvalidCiphertextError(Exception):
    """It can't be decrypted: which of the possible causes it is, nobody is told."""


def build_header(randomness: bytes) -> bytes:
    """Return the header (40 bytes) for 39 random bytes, which must never be used again."""
    return bytes((HEADER_BYTES,)) + randomness


def parse_header(header: bytes) -> tuple[bytes, bytes]:
    """Return salt (32 bytes) and nonce prefix (7 bytes).

    Raises:
        InvalidCiphertextError: It isn't such a header.
    """
    if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
        raise InvalidCiphertextError
    return header[1 : 1 + SALT_BYTES], header[1 + SALT_BYTES :]


def build_nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    """Return the 12 bytes of a segment's nonce.

    Raises:
        OverflowError: The message has more than 2^32 segments.
    """
    return prefix + index.to_bytes(4, "big") + bytes((last,))


class KeyPage:
    """A locked page with a data key; made for one message and wiped after."""

    __slots__ = ("_memory", "size")

    def __init__(self) -> None:
        self._memory = Memory(_PAGE_BYTES, locked=True)
        self.size = 0

    def read(self, fd: int, size: int) -> bool:
        """Read a data key of ``size`` bytes; return False if its lifetime is over.

        At the end of its lifetime the file is shortened first and zeroed then: if it still has its size after
        it was read, what was read is the key.
        """
        self.size = size
        with self._memory.view[:size] as place:
            done = os.preadv(fd, [place], 0)
        return done == size == os.fstat(fd).st_size

    def derive(self, library: Library, salt: bytes, associated_data: bytes) -> int:
        """Return the address of the message's key (32 bytes), derived by HKDF-SHA256 from the data key."""
        base = self._memory.address
        # One block is all that 32 bytes take: T(1) = HMAC(PRK, info | 0x01).
        public = ctypes.create_string_buffer(
            salt + associated_data + b"\x01", SALT_BYTES + len(associated_data) + 1
        )
        address = ctypes.addressof(public)
        library.write_hmac(address, SALT_BYTES, base, self.size, base + _EXTRACTED)
        info_bytes = len(associated_data) + 1
        library.write_hmac(base + _EXTRACTED, DIGEST_BYTES, address + SALT_BYTES, info_bytes, base + _DERIVED)
        return base + _DERIVED

    def close(self) -> None:
        """Wipe the data key and all that was derived from it."""
        self._memory.close()


class MessageCipher:
    """Encrypts or decrypts the segments of one message, in order.

    Args:
        library: libcrypto.
        page: The data key; not needed any more afterwards.
        header: 40 bytes.
        associated_data: Any bytes; the same for both directions.
        seals: True to encrypt.

    Raises:
        InvalidCiphertextError: The header is none.
    """

    __slots__ = ("_gcm", "_index", "_prefix")

    def __init__(
        self, library: Library, page: KeyPage, header: bytes, associated_data: bytes, *, seals: bool
    ) -> None:
        salt, self._prefix = parse_header(header)
        self._index = 0
        self._gcm = Gcm(library, page.derive(library, salt, associated_data), seals=seals)

    def seal(self, address: int, size: int, *, last: bool) -> None:
        """Encrypt the next segment in place; the tag (16 bytes) goes behind it."""
        self._gcm.seal(build_nonce(self._prefix, self._index, last=last), address, size, address + size)
        self._index += 1

    def opens(self, source: int, size: int, target: int, *, last: bool) -> bool:
        """Decrypt the next segment to ``target``, which may be ``source``; ``size`` is without the tag.

        Returns:
            Whether it is authentic; if not, what lies at ``target`` must not be given out.
        """
        authentic = self._gcm.open(build_nonce(self._prefix, self._index, last=last), source, size, target)
        self._index += 1
        return authentic

    def close(self) -> None:
        """Clear the message's key."""
        self._gcm.close()
