"""HMAC keys: an opaque handle that makes and checks MACs.

Zone: key material. Source: RFC 2104, FIPS 198-1; AWS KMS API, GenerateMac. Key and MAC have the hash's
length.
"""

import hmac
from typing import Final, NoReturn, Self

from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.derive import RandomSource

#: Bytes of a key by its spec. Source: AWS KMS Developer Guide, "HMAC keys in AWS KMS".
MAC_KEY_BYTES: Final = {
    KeySpec.HMAC_224: 28,
    KeySpec.HMAC_256: 32,
    KeySpec.HMAC_384: 48,
    KeySpec.HMAC_512: 64,
}


class MacKey:
    """28, 32, 48 or 64 bytes of HMAC key material."""

    __slots__ = ("_secret", "key_spec")

    def __init__(self, key_spec: KeySpec, secret: bytes) -> None:
        if len(secret) != MAC_KEY_BYTES[key_spec]:
            raise ValueError("an HMAC key has as many bytes as its hash")
        self.key_spec = key_spec
        self._secret = bytes(secret)

    @classmethod
    def generate(cls, key_spec: KeySpec, random: RandomSource) -> Self:
        """Return new material from a random source."""
        return cls(key_spec, random(MAC_KEY_BYTES[key_spec]))

    def reveal(self) -> bytes:
        """Return the bytes. Only this package calls it."""
        return self._secret

    def compute(self, message: bytes) -> bytes:
        """Return the MAC of a message of 1..4096 bytes; it has as many bytes as the key."""
        return hmac.digest(self._secret, message, self.key_spec.replace("HMAC_", "sha"))

    def matches(self, message: bytes, mac: bytes) -> bool:
        """Return whether a MAC belongs to a message, in a time that doesn't tell how much of it is right."""
        return hmac.compare_digest(self.compute(message), mac)

    def __repr__(self) -> str:
        return f"MacKey(key_spec={self.key_spec.value!r}, hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an HMAC key can't be pickled or copied")
