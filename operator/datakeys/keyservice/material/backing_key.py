"""Backing keys: one version of a KMS key's material, clear and sealed.

Zone: key material. A `BackingKey` never shows its bytes: not in repr, not by pickling.
"""

import hmac
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from datakeys.contract.errors import IntegrityError
from datakeys.keyservice.material.derive import RandomSource

BACKING_KEY_BYTES: Final = 32
SEAL_FORMAT_V1: Final = 1
SEAL_NONCE_BYTES: Final = 16
IV_BYTES: Final = 12
TAG_BYTES: Final = 16
#: Format version, nonce, IV and tag; the wrapped key is between the IV and the tag.
SEAL_OVERHEAD_BYTES: Final = 1 + SEAL_NONCE_BYTES + IV_BYTES + TAG_BYTES


class BackingKey:
    """32 bytes of symmetric key material."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != BACKING_KEY_BYTES:
            raise ValueError("a backing key has 32 bytes")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls, random: RandomSource) -> Self:
        """Return new material from a random source."""
        return cls(random(BACKING_KEY_BYTES))

    def reveal(self) -> bytes:
        """Return the 32 bytes. Only this package calls it; a test looks for other callers."""
        return self._secret

    def __repr__(self) -> str:
        return "BackingKey(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackingKey) and hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a backing key can't be pickled or copied")


@dataclass(frozen=True, slots=True)
class SealBinding:
    """What a sealed backing key belongs to. All of it is authenticated, so nothing of it can be swapped.

    The cluster's name isn't part of it: a backup opens under another name with the same root key.
    """

    key_id: str
    material_id: str
    account: str
    key_spec: str
    key_usage: str
    origin: str

    def to_aad(self) -> bytes:
        """Return the additional authenticated data: every field after its length (4 bytes, big endian)."""
        fields = (self.key_id, self.material_id, self.account, self.key_spec, self.key_usage, self.origin)
        out = [b"datakeys.dev/sealed-backing-key", bytes([SEAL_FORMAT_V1])]
        for field in fields:
            raw = field.encode()
            out += [len(raw).to_bytes(4, "big"), raw]
        return b"".join(out)


@dataclass(frozen=True, slots=True)
class SealedBackingKey:
    """Key material under the root key. Layout: version (1), nonce (16), IV (12), wrapped key, tag (16)."""

    nonce: bytes
    iv: bytes
    wrapped: bytes

    def to_bytes(self) -> bytes:
        """Return format version 1: 77 bytes for a symmetric key, up to 2,500 for a private key."""
        return bytes([SEAL_FORMAT_V1]) + self.nonce + self.iv + self.wrapped

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Parse format version 1.

        Raises:
            IntegrityError: The length or the format version is wrong.
        """
        if len(raw) <= SEAL_OVERHEAD_BYTES:
            raise IntegrityError("sealed key material is too short")
        if raw[0] != SEAL_FORMAT_V1:
            raise IntegrityError(
                f"sealed key material has format version {raw[0]}, this key service reads version "
                f"{SEAL_FORMAT_V1} only: run the version that wrote it"
            )
        iv_start = 1 + SEAL_NONCE_BYTES
        wrapped_start = iv_start + IV_BYTES
        return cls(raw[1:iv_start], raw[iv_start:wrapped_start], raw[wrapped_start:])
