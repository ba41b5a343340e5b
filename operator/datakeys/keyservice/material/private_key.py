"""Private keys of asymmetric KMS keys and of data key pairs: an opaque handle that signs and decrypts.

Zone: key material. The handle never shows its key: not in repr, not by pickling; only a seal or the caller
of GenerateDataKeyPair gets its PKCS#8 form. Sources: RFC 8017 (RSA), FIPS 186-5 (ECDSA, EdDSA), FIPS 204
(ML-DSA), RFC 5958 (PKCS#8), RFC 5280 (SubjectPublicKeyInfo).
"""

from typing import Any, Final, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from datakeys.contract.errors import (
    InvalidCiphertextError,
    KmsInvalidSignatureError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.contract.key_types import KeySpec

_PUBLIC_EXPONENT: Final = 65537
#: What "external mu" of ML-DSA has. Source: FIPS 204, section 6.2.
MU_BYTES: Final = 64

RSA_BITS: Final = {KeySpec.RSA_2048: 2048, KeySpec.RSA_3072: 3072, KeySpec.RSA_4096: 4096}
CURVES: Final[dict[KeySpec, type[ec.EllipticCurve]]] = {
    KeySpec.ECC_NIST_P256: ec.SECP256R1,
    KeySpec.ECC_NIST_P384: ec.SECP384R1,
    KeySpec.ECC_NIST_P521: ec.SECP521R1,
    KeySpec.ECC_SECG_P256K1: ec.SECP256K1,
}
_OTHERS: Final[dict[KeySpec, Any]] = {
    KeySpec.ECC_NIST_EDWARDS25519: ed25519.Ed25519PrivateKey,
    KeySpec.ML_DSA_44: mldsa.MLDSA44PrivateKey,
    KeySpec.ML_DSA_65: mldsa.MLDSA65PrivateKey,
    KeySpec.ML_DSA_87: mldsa.MLDSA87PrivateKey,
    KeySpec.ML_KEM_768: mlkem.MLKEM768PrivateKey,
    KeySpec.ML_KEM_1024: mlkem.MLKEM1024PrivateKey,
}
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1": hashes.SHA1(),  # noqa: S303 - OAEP's hash, where collisions are no matter; AWS offers it
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}

RAW: Final = "RAW"
DIGEST: Final = "DIGEST"
EXTERNAL_MU: Final = "EXTERNAL_MU"


class PrivateKey:
    """One private key of a key spec."""

    __slots__ = ("_key", "key_spec")

    def __init__(self, key_spec: KeySpec, key: Any) -> None:  # noqa: ANN401 - one class per kind of key
        self.key_spec = key_spec
        self._key = key

    @classmethod
    def generate(cls, key_spec: KeySpec) -> Self:
        """Return a new private key, from the library's generator; takes up to seconds for RSA.

        Raises:
            UnsupportedOperationError: The library can't make keys of this spec.
        """
        cls.require_supported(key_spec)
        if key_spec in RSA_BITS:
            return cls(key_spec, rsa.generate_private_key(_PUBLIC_EXPONENT, RSA_BITS[key_spec]))
        if key_spec in CURVES:
            return cls(key_spec, ec.generate_private_key(CURVES[key_spec]()))
        return cls(key_spec, _OTHERS[key_spec].generate())

    @staticmethod
    def require_supported(key_spec: KeySpec) -> None:
        """Check that keys of a spec can be made.

        Raises:
            UnsupportedOperationError: They can't.
        """
        if key_spec not in {*RSA_BITS, *CURVES, *_OTHERS}:
            raise UnsupportedOperationError(f"Keys of KeySpec {key_spec} are not supported.")

    def export(self) -> bytes:
        """Return PKCS#8 in DER for the caller whose data key pair this is, up to 2,400 bytes."""
        return self.reveal()

    @classmethod
    def from_der(cls, key_spec: KeySpec, der: bytes) -> Self:
        """Parse what `reveal` gave. It was authenticated before, so its checks aren't repeated.

        Raises:
            ValueError: It isn't PKCS#8 in DER.
        """
        return cls(key_spec, load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True))

    def reveal(self) -> bytes:
        """Return PKCS#8 in DER, up to 2,400 bytes."""
        der: bytes = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return der

    def public_der(self) -> bytes:
        """Return the public key as SubjectPublicKeyInfo in DER, up to 2,700 bytes."""
        der: bytes = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return der

    def sign(self, algorithm: str, message: bytes, message_type: str) -> bytes:
        """Return a signature, up to 4,700 bytes; ECDSA's is DER (RFC 3279, section 2.2.3).

        Args:
            algorithm: A signing algorithm of this key spec.
            message: 1..4096 bytes: the message, its digest, or 64 bytes of ML-DSA's mu.
            message_type: ``RAW``, ``DIGEST`` or ``EXTERNAL_MU``.

        Raises:
            ValidationError: The digest's length isn't the algorithm's, or the type isn't of this algorithm.
        """
        _check_message(algorithm, message, message_type)
        signature: bytes
        if algorithm.startswith("RSASSA"):
            signature = self._key.sign(message, _rsa_padding(algorithm), _hash(algorithm, message_type))
        elif algorithm.startswith("ECDSA"):
            signature = self._key.sign(message, ec.ECDSA(_hash(algorithm, message_type)))
        elif message_type == EXTERNAL_MU:
            signature = self._key.sign_mu(message)
        else:
            signature = self._key.sign(message)
        return signature

    def verify(self, algorithm: str, message: bytes, message_type: str, signature: bytes) -> None:
        """Check a signature.

        Raises:
            KmsInvalidSignatureError: It isn't one of this key over this message.
            ValidationError: The digest's length isn't the algorithm's, or the type isn't of this algorithm.
        """
        _check_message(algorithm, message, message_type)
        public_key = self._key.public_key()
        try:
            if algorithm.startswith("RSASSA"):
                hashed = _hash(algorithm, message_type)
                public_key.verify(signature, message, _rsa_padding(algorithm), hashed)
            elif algorithm.startswith("ECDSA"):
                public_key.verify(signature, message, ec.ECDSA(_hash(algorithm, message_type)))
            elif message_type == EXTERNAL_MU:
                public_key.verify_mu(signature, message)
            else:
                public_key.verify(signature, message)
        except InvalidSignature:
            raise KmsInvalidSignatureError from None

    def encrypt(self, algorithm: str, plaintext: bytes) -> bytes:
        """Return the RSA-OAEP ciphertext under the public key: 256, 384 or 512 bytes.

        Raises:
            ValidationError: The plaintext is too long for the key and the algorithm.
        """
        oaep, overhead = _oaep(algorithm)
        most = RSA_BITS[self.key_spec] // 8 - overhead
        if len(plaintext) > most:
            raise ValidationError(
                f"Algorithm {algorithm} and key spec {self.key_spec} cannot encrypt data larger than "
                f"{most} bytes."
            )
        ciphertext: bytes = self._key.public_key().encrypt(plaintext, oaep)
        return ciphertext

    def decrypt(self, algorithm: str, ciphertext: bytes) -> bytes:
        """Return the plaintext of an RSA-OAEP ciphertext.

        Raises:
            InvalidCiphertextError: It isn't one of this key and algorithm; it has no text.
        """
        try:
            plaintext: bytes = self._key.decrypt(ciphertext, _oaep(algorithm)[0])
        except ValueError:
            raise InvalidCiphertextError from None
        return plaintext

    def __repr__(self) -> str:
        return f"PrivateKey(key_spec={self.key_spec.value!r}, hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key can't be pickled or copied")


def _check_message(algorithm: str, message: bytes, message_type: str) -> None:
    """Check type and length of what is signed.

    ML-DSA knows no digest but its own mu, the other way round; Ed25519 signs whole messages.
    """
    is_ml_dsa = algorithm.startswith("ML_DSA")
    fits = {RAW: True, DIGEST: not is_ml_dsa and not algorithm.startswith("ED25519"), EXTERNAL_MU: is_ml_dsa}
    if not fits[message_type]:
        raise ValidationError(f"MessageType {message_type} is not valid for algorithm {algorithm}.")
    wanted = None
    if message_type == DIGEST:
        wanted = _HASHES[algorithm.rpartition("_")[2]].digest_size
    elif message_type == EXTERNAL_MU:
        wanted = MU_BYTES
    if wanted is not None and len(message) != wanted:
        raise ValidationError(f"Digest is invalid length for algorithm {algorithm}.")


def _hash(algorithm: str, message_type: str) -> Any:  # noqa: ANN401 - two unrelated classes of the library
    hashed = _HASHES[algorithm.rpartition("_")[2]]
    return utils.Prehashed(hashed) if message_type == DIGEST else hashed


def _rsa_padding(algorithm: str) -> padding.AsymmetricPadding:
    if "PSS" not in algorithm:
        return padding.PKCS1v15()
    hashed = _HASHES[algorithm.rpartition("_")[2]]
    return padding.PSS(padding.MGF1(hashed), hashed.digest_size)


def _oaep(algorithm: str) -> tuple[padding.OAEP, int]:
    """Return the padding and the bytes it takes. Source: RFC 8017, section 7.1.1."""
    hashed = _HASHES[algorithm.rpartition("_")[2]]
    return padding.OAEP(padding.MGF1(hashed), hashed, None), 2 * hashed.digest_size + 2
