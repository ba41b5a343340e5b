"""Encrypt and decrypt under a backing key: a fresh derived key for every call.

Zone: plaintext and key material. Source: kms-semantics section 6; NIST SP 800-38D, SP 800-108.
A random 128-bit nonce derives a 256-bit key for one AES-GCM call, so no usage counter is needed.
"""

from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datakeys.contract.errors import InvalidCiphertextError
from datakeys.keyservice.material.backing_key import BackingKey
from datakeys.keyservice.material.ciphertext_blob import (
    IV_BYTES,
    IV_START,
    KDF_CONTEXT,
    NONCE_BYTES,
    CiphertextBlob,
    build_header_prefix,
)
from datakeys.keyservice.material.derive import LABEL_ENCRYPT, KeyDeriver, RandomSource

MIN_PLAINTEXT_BYTES: Final = 1
MAX_PLAINTEXT_BYTES: Final = 4096


class EncryptionKey:
    """A backing key together with the ids that go into every blob."""

    __slots__ = ("_deriver", "_header_prefix", "key_id", "material_id")

    def __init__(self, key_id: str, material_id: str, backing_key: BackingKey) -> None:
        self.key_id = key_id
        self.material_id = material_id
        self._deriver = KeyDeriver(backing_key.reveal(), LABEL_ENCRYPT)
        self._header_prefix = build_header_prefix(key_id, material_id)

    def encrypt(self, plaintext: bytes, context_bytes: bytes, random: RandomSource) -> bytes:
        """Return a ciphertext blob of ``len(plaintext) + 97`` bytes.

        Args:
            plaintext: 1..4096 bytes.
            context_bytes: The canonical bytes of the encryption context: authenticated, not stored.
            random: Gives the 16-byte nonce and the 12-byte IV.

        Raises:
            ValueError: The plaintext's length is out of bounds.
        """
        if not MIN_PLAINTEXT_BYTES <= len(plaintext) <= MAX_PLAINTEXT_BYTES:
            raise ValueError("a plaintext has 1..4096 bytes")
        header = self._header_prefix + random(NONCE_BYTES + IV_BYTES)
        return header + self._cipher(header).encrypt(header[IV_START:], plaintext, header + context_bytes)

    def decrypt(self, blob: CiphertextBlob, context_bytes: bytes) -> bytes:
        """Return the plaintext, 1..4096 bytes.

        Raises:
            InvalidCiphertextError: Any bit or any pair of the context differs; it has no text.
        """
        aad = blob.header + context_bytes
        try:
            return self._cipher(blob.header).decrypt(blob.iv, blob.payload, aad)
        except InvalidTag:
            raise InvalidCiphertextError from None

    def _cipher(self, header: bytes) -> AESGCM:
        return AESGCM(self._deriver.derive(header[KDF_CONTEXT]))

    def __repr__(self) -> str:
        return f"EncryptionKey(key_id={self.key_id!r}, material_id={self.material_id!r}, hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an encryption key can't be pickled or copied")
