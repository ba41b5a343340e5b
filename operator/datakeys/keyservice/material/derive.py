"""Key derivation: one SP 800-108 counter-mode KDF for every derived key, told apart by label.

Zone: key material. Source: NIST SP 800-108r1, section 4.1, PRF HMAC-SHA-256, 32-bit counter before the fixed
data, 32-bit length, 256 bits of output: exactly one block, so the KDF is one HMAC call.
"""

import hmac
from collections.abc import Callable
from typing import Final

#: Gives n random bytes. ``os.urandom`` in production, a counter in tests.
RandomSource = Callable[[int], bytes]

DERIVED_KEY_BYTES: Final = 32

#: Every use of a key has its own label; a label never changes its meaning.
LABEL_ENCRYPT: Final = b"datakeys.dev/v1/encrypt"
LABEL_SEAL: Final = b"datakeys.dev/v1/seal"
LABEL_RECORD_MAC: Final = b"datakeys.dev/v1/record-mac"
LABEL_GRANT_TOKEN_MAC: Final = b"datakeys.dev/v1/grant-token-mac"
LABEL_WRAPPING_KEY: Final = b"datakeys.dev/v1/wrapping-key"
LABEL_IMPORT_FINGERPRINT: Final = b"datakeys.dev/v1/import-fingerprint"

_COUNTER: Final = (1).to_bytes(4, "big")
_LENGTH_BITS: Final = (DERIVED_KEY_BYTES * 8).to_bytes(4, "big")


def build_prefix(label: bytes) -> bytes:
    """Return what comes before the context in the PRF's input: counter, label, separator.

    Raises:
        ValueError: The label is empty or holds the separator, a zero byte.
    """
    if not label or b"\x00" in label:
        raise ValueError("a label is not empty and has no zero byte")
    return _COUNTER + label + b"\x00"


def derive_key(secret: bytes, label: bytes, context: bytes) -> bytes:
    """Return 32 bytes derived from a 32-byte secret for the use that ``label`` names.

    Args:
        secret: The key-derivation key, 32 bytes.
        label: The use of the derived key.
        context: Bytes that bind the derived key; every use has a fixed layout, so they can't be ambiguous.

    Raises:
        ValueError: The label is empty or holds a zero byte.
    """
    return hmac.digest(secret, build_prefix(label) + context + _LENGTH_BITS, "sha256")


class KeyDeriver:
    """`derive_key` for one secret and one label, where many keys are derived."""

    __slots__ = ("_hmac",)

    def __init__(self, secret: bytes, label: bytes) -> None:
        # Copied for every key: that saves hashing secret and prefix anew.
        self._hmac = hmac.new(secret, build_prefix(label), "sha256")

    def derive(self, context: bytes) -> bytes:
        """Return the same 32 bytes as `derive_key`."""
        prf = self._hmac.copy()
        prf.update(context + _LENGTH_BITS)
        return prf.digest()
