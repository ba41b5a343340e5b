"""Wrap and unwrap key material that comes from outside.

Zone: key material. The private wrapping key never shows its bytes: not in repr, not by pickling.
Source: AWS KMS API, GetParametersForImport; RFC 8017, section 7.1 (RSAES-OAEP, MGF1 with the same hash, no
label); RFC 5649 (AES key wrap with padding); RSA_AES_KEY_WRAP as PKCS #11 defines CKM_RSA_AES_KEY_WRAP: an
AES-256 key under RSAES-OAEP, then the material under that key.
"""

from enum import StrEnum
from typing import Final, NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding

from datakeys.contract.errors import IncorrectKeyMaterialError, InvalidCiphertextError
from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.backing_key import BACKING_KEY_BYTES, BackingKey
from datakeys.keyservice.material.mac_key import MAC_KEY_BYTES, MacKey
from datakeys.keyservice.material.private_key import CURVES, RSA_BITS, PrivateKey

_AES_KEY_BYTES: Final = 32


class WrappingKeySpec(StrEnum):
    """The RSA key pair that material is wrapped under; the number is its size in bits."""

    RSA_2048 = "RSA_2048"
    RSA_3072 = "RSA_3072"
    RSA_4096 = "RSA_4096"


class WrappingAlgorithm(StrEnum):
    """How material is wrapped. New members go to the end: import tokens hold the place."""

    RSAES_OAEP_SHA_1 = "RSAES_OAEP_SHA_1"
    RSAES_OAEP_SHA_256 = "RSAES_OAEP_SHA_256"
    RSA_AES_KEY_WRAP_SHA_1 = "RSA_AES_KEY_WRAP_SHA_1"
    RSA_AES_KEY_WRAP_SHA_256 = "RSA_AES_KEY_WRAP_SHA_256"


_SHA_1: Final = frozenset({WrappingAlgorithm.RSAES_OAEP_SHA_1, WrappingAlgorithm.RSA_AES_KEY_WRAP_SHA_1})
_TWO_STEPS: Final = frozenset(
    {WrappingAlgorithm.RSA_AES_KEY_WRAP_SHA_1, WrappingAlgorithm.RSA_AES_KEY_WRAP_SHA_256}
)


ImportedKey = BackingKey | MacKey | PrivateKey

#: What can be imported.
IMPORTABLE: Final = frozenset(
    {KeySpec.SYMMETRIC_DEFAULT, KeySpec.ECC_NIST_EDWARDS25519, *MAC_KEY_BYTES, *RSA_BITS, *CURVES}
)


def parse_material(material: bytes, key_spec: KeySpec) -> ImportedKey:
    """Return the key of raw bytes (symmetric and HMAC keys), or of PKCS #8 in DER.

    Raises:
        IncorrectKeyMaterialError: They are no key of the spec; the text quotes none of them.
    """
    wanted = BACKING_KEY_BYTES if key_spec is KeySpec.SYMMETRIC_DEFAULT else MAC_KEY_BYTES.get(key_spec)
    if wanted is None:
        return PrivateKey(key_spec, _parse_private_key(material, key_spec))
    if len(material) != wanted:
        raise IncorrectKeyMaterialError(f"The key material must have {wanted} bytes.")
    return BackingKey(material) if key_spec is KeySpec.SYMMETRIC_DEFAULT else MacKey(key_spec, material)


def _parse_private_key(der: bytes, key_spec: KeySpec) -> object:
    try:
        key = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IncorrectKeyMaterialError("The key material must be PKCS #8 in DER.") from None
    if isinstance(key, rsa.RSAPrivateKey):
        fits = key.key_size == RSA_BITS.get(key_spec)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        fits = key_spec in CURVES and isinstance(key.curve, CURVES[key_spec])
    else:
        fits = isinstance(key, ed25519.Ed25519PrivateKey) and key_spec is KeySpec.ECC_NIST_EDWARDS25519
    if not fits:
        raise IncorrectKeyMaterialError(f"The key material must be a private key of {key_spec}.")
    return key


class WrappingKey:
    """The private half of a wrapping key, PKCS #8 in DER."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = bytes(secret)

    @classmethod
    def generate(cls, spec: WrappingKeySpec) -> tuple[Self, bytes]:
        """Return a new private key and its public half, SubjectPublicKeyInfo in DER. May take seconds."""
        private = PrivateKey.generate(KeySpec(spec))
        return cls(private.reveal()), private.public_der()

    def unwrap(self, algorithm: WrappingAlgorithm, wrapped: bytes, key_spec: KeySpec) -> ImportedKey:
        """Return the wrapped material of a key spec.

        Raises:
            InvalidCiphertextError: It isn't wrapped under this key with this algorithm.
            IncorrectKeyMaterialError: The material isn't one of the key spec.
        """
        return parse_material(self._unwrap(algorithm, wrapped), key_spec)

    def reveal(self) -> bytes:
        """Return the DER bytes. Only this package calls it."""
        return self._secret

    def _unwrap(self, algorithm: WrappingAlgorithm, wrapped: bytes) -> bytes:
        private = serialization.load_der_private_key(
            self._secret, password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(private, rsa.RSAPrivateKey):
            raise TypeError("a wrapping key is an RSA key")
        digest = hashes.SHA1() if algorithm in _SHA_1 else hashes.SHA256()  # noqa: S303 - RFC 8017 allows it
        oaep = padding.OAEP(padding.MGF1(digest), digest, label=None)
        size = private.key_size // 8 if algorithm in _TWO_STEPS else len(wrapped)
        try:
            first = private.decrypt(wrapped[:size], oaep)
            if algorithm not in _TWO_STEPS:
                return first
            if len(first) != _AES_KEY_BYTES:
                raise InvalidCiphertextError
            return aes_key_unwrap_with_padding(first, wrapped[size:])
        except (ValueError, InvalidUnwrap, UnsupportedAlgorithm):
            raise InvalidCiphertextError from None

    def __repr__(self) -> str:
        return "WrappingKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wrapping key can't be pickled or copied")
