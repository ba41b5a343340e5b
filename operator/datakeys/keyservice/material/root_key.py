"""The root key: an opaque handle that seals backing keys and authenticates records.

Zone: key material. Nothing here says where the root key comes from; that is the provider's duty.
"""

import hmac
from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datakeys.contract.errors import IntegrityError
from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.backing_key import (
    IV_BYTES,
    SEAL_NONCE_BYTES,
    BackingKey,
    SealBinding,
    SealedBackingKey,
)
from datakeys.keyservice.material.derive import (
    LABEL_GRANT_TOKEN_MAC,
    LABEL_IMPORT_FINGERPRINT,
    LABEL_RECORD_MAC,
    LABEL_SEAL,
    LABEL_WRAPPING_KEY,
    RandomSource,
    derive_key,
)
from datakeys.keyservice.material.import_wrapping import ImportedKey, WrappingKey
from datakeys.keyservice.material.mac_key import MacKey
from datakeys.keyservice.material.private_key import PrivateKey

T = TypeVar("T")

ROOT_KEY_BYTES: Final = 32
MAC_BYTES: Final = 32


class RootKey:
    """32 bytes that never leave this object; every use has its own derived key."""

    __slots__ = ("_grant_token_mac_key", "_record_mac_key", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != ROOT_KEY_BYTES:
            raise ValueError("a root key has 32 bytes")
        self._secret = bytes(secret)
        self._record_mac_key = derive_key(self._secret, LABEL_RECORD_MAC, b"")
        self._grant_token_mac_key = derive_key(self._secret, LABEL_GRANT_TOKEN_MAC, b"")

    def seal(
        self, key: BackingKey | PrivateKey | MacKey, binding: SealBinding, random: RandomSource
    ) -> SealedBackingKey:
        """Wrap key material with AES-256-GCM under a key derived from the root key and a fresh nonce.

        Source: NIST SP 800-38D (GCM, random 96-bit IV).
        """
        return SealedBackingKey(*self._encrypt(LABEL_SEAL, key.reveal(), binding.to_aad(), random))

    def unseal(self, sealed: SealedBackingKey, binding: SealBinding) -> BackingKey:
        """Unwrap a backing key.

        Raises:
            IntegrityError: Another root key, another binding, or edited bytes.
        """
        return self._unseal(sealed, binding, BackingKey)

    def unseal_private_key(
        self, sealed: SealedBackingKey, binding: SealBinding, key_spec: KeySpec
    ) -> PrivateKey:
        """Unwrap a private key.

        Raises:
            IntegrityError: Another root key, another binding, or edited bytes.
        """
        return self._unseal(sealed, binding, lambda der: PrivateKey.from_der(key_spec, der))

    def unseal_mac_key(self, sealed: SealedBackingKey, binding: SealBinding, key_spec: KeySpec) -> MacKey:
        """Unwrap an HMAC key.

        Raises:
            IntegrityError: Another root key, another binding, or edited bytes.
        """
        return self._unseal(sealed, binding, lambda secret: MacKey(key_spec, secret))

    def _encrypt(
        self, label: bytes, secret: bytes, aad: bytes, random: RandomSource
    ) -> tuple[bytes, bytes, bytes]:
        """Return nonce, IV and ciphertext with tag, under a key derived for this label and nonce."""
        nonce, iv = random(SEAL_NONCE_BYTES), random(IV_BYTES)
        return nonce, iv, AESGCM(derive_key(self._secret, label, nonce)).encrypt(iv, secret, aad)

    def _unseal(self, sealed: SealedBackingKey, binding: SealBinding, build: Callable[[bytes], T]) -> T:
        cipher = AESGCM(derive_key(self._secret, LABEL_SEAL, sealed.nonce))
        try:
            return build(cipher.decrypt(sealed.iv, sealed.wrapped, binding.to_aad()))
        except (InvalidTag, ValueError):
            raise IntegrityError("sealed key material doesn't belong to its record") from None

    def seal_wrapping_key(self, key: WrappingKey, aad: bytes, random: RandomSource) -> bytes:
        """Return nonce (16 bytes), IV (12) and the sealed private key; ``aad`` binds it (AES-256-GCM)."""
        return b"".join(self._encrypt(LABEL_WRAPPING_KEY, key.reveal(), aad, random))

    def unseal_wrapping_key(self, sealed: bytes, aad: bytes) -> WrappingKey:
        """Return what `seal_wrapping_key` sealed.

        Raises:
            IntegrityError: Another root key, another ``aad``, or edited bytes.
        """
        nonce, iv = sealed[:SEAL_NONCE_BYTES], sealed[SEAL_NONCE_BYTES : SEAL_NONCE_BYTES + IV_BYTES]
        cipher = AESGCM(derive_key(self._secret, LABEL_WRAPPING_KEY, nonce))
        try:
            return WrappingKey(cipher.decrypt(iv, sealed[SEAL_NONCE_BYTES + IV_BYTES :], aad))
        except (InvalidTag, ValueError):
            raise IntegrityError("not a wrapping key of this service") from None

    def fingerprint_import(self, key_id: str, key: ImportedKey) -> str:
        """Return 64 hex characters that tell imported material of a KMS key apart from any other.

        It is an HMAC under a key that only the root key gives, so it is no way to test guesses.
        """
        fingerprint_key = derive_key(self._secret, LABEL_IMPORT_FINGERPRINT, key_id.encode())
        return hmac.digest(fingerprint_key, key.reveal(), "sha256").hex()

    def mac_record(self, message: bytes) -> bytes:
        """Return the 32-byte HMAC-SHA-256 of a stored record."""
        return hmac.digest(self._record_mac_key, message, "sha256")

    def mac_grant_token(self, message: bytes) -> bytes:
        """Return the 32-byte HMAC-SHA-256 of a grant token's content."""
        return hmac.digest(self._grant_token_mac_key, message, "sha256")

    def __repr__(self) -> str:
        return "RootKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a root key can't be pickled or copied")
