"""Every kind of key with every cryptographic operation: what it can't do is refused; state comes first."""

from typing import Any

import pytest

from datakeys.contract.errors import (
    InvalidCiphertextError,
    InvalidKeyUsageError,
    KeyDisabledError,
    KmsError,
    UnsupportedOperationError,
)
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from keyservice_rig import Rig, b64

ROOT = Principal(PrincipalKind.ACCOUNT_ROOT, "team-a", "", arn="arn:k8s:iam::team-a:root")

KINDS = {
    "symmetric": ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
    "RSA encrypting": ("RSA_2048", "ENCRYPT_DECRYPT"),
    "RSA signing": ("RSA_2048", "SIGN_VERIFY"),
    "P-256 signing": ("ECC_NIST_P256", "SIGN_VERIFY"),
    "P-256 agreeing": ("ECC_NIST_P256", "KEY_AGREEMENT"),
    "Ed25519": ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"),
    "ML-DSA": ("ML_DSA_65", "SIGN_VERIFY"),
    "ML-KEM": ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE"),
    "HMAC": ("HMAC_256", "GENERATE_VERIFY_MAC"),
}
TEXT = b64(b"x" * 32)
RSA_BLOB = b64(b"y" * 256)

#: Every operation in a form that some kind of key can do, with the kinds that can.
OPERATIONS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "data key": ("GenerateDataKey", {"KeySpec": "AES_256"}, {"symmetric"}),
    "blind data key": ("GenerateDataKeyWithoutPlaintext", {"KeySpec": "AES_256"}, {"symmetric"}),
    "key pair": ("GenerateDataKeyPair", {"KeyPairSpec": "ECC_NIST_P256"}, {"symmetric"}),
    "blind key pair": (
        "GenerateDataKeyPairWithoutPlaintext",
        {"KeyPairSpec": "ECC_NIST_P256"},
        {"symmetric"},
    ),
    "encrypt": ("Encrypt", {"Plaintext": TEXT}, {"symmetric"}),
    "encrypt, OAEP": (
        "Encrypt",
        {"Plaintext": TEXT, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
        {"RSA encrypting"},
    ),
    "decrypt, OAEP": (
        "Decrypt",
        {"CiphertextBlob": RSA_BLOB, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
        {"RSA encrypting"},
    ),
    "sign, PSS": (
        "Sign",
        {"Message": TEXT, "SigningAlgorithm": "RSASSA_PSS_SHA_256"},
        {"RSA signing"},
    ),
    "sign, ECDSA": ("Sign", {"Message": TEXT, "SigningAlgorithm": "ECDSA_SHA_256"}, {"P-256 signing"}),
    "sign, ECDSA of P-384": ("Sign", {"Message": TEXT, "SigningAlgorithm": "ECDSA_SHA_384"}, set()),
    "sign, Ed25519": ("Sign", {"Message": TEXT, "SigningAlgorithm": "ED25519_SHA_512"}, {"Ed25519"}),
    "sign, ML-DSA": ("Sign", {"Message": TEXT, "SigningAlgorithm": "ML_DSA_SHAKE_256"}, {"ML-DSA"}),
    "sign, SM2": ("Sign", {"Message": TEXT, "SigningAlgorithm": "SM2DSA"}, set()),
    "MAC": ("GenerateMac", {"Message": TEXT, "MacAlgorithm": "HMAC_SHA_256"}, {"HMAC"}),
    "MAC of another hash": ("GenerateMac", {"Message": TEXT, "MacAlgorithm": "HMAC_SHA_384"}, set()),
    "verify MAC, another hash": (
        "VerifyMac",
        {"Message": TEXT, "MacAlgorithm": "HMAC_SHA_512", "Mac": TEXT},
        set(),
    ),
    "verify, another curve": (
        "Verify",
        {"Message": TEXT, "SigningAlgorithm": "ECDSA_SHA_512", "Signature": TEXT},
        set(),
    ),
}
PUBLIC = {name for name in KINDS if name not in ("symmetric", "HMAC")}


def call(rig: Rig, operation: str, **body: Any) -> dict[str, Any]:
    return rig.call(operation, body, by=ROOT)


def create(rig: Rig, kind: str) -> str:
    spec, usage = KINDS[kind]
    return str(call(rig, "CreateKey", KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_does_only_what_it_is_for(rig: Rig, kind: str) -> None:
    """A fitting operation works (or fails on its own input); all others are InvalidKeyUsage."""
    arn = create(rig, kind)
    for name, (operation, members, fitting) in OPERATIONS.items():
        failure: KmsError | None = None
        try:
            call(rig, operation, KeyId=arn, **members)
        except KmsError as error:
            failure = error
        if kind not in fitting:
            assert isinstance(failure, InvalidKeyUsageError), (name, failure)
        elif operation == "Decrypt":
            assert isinstance(failure, InvalidCiphertextError), (name, failure)
        else:
            assert failure is None, (name, failure)


@pytest.mark.parametrize("kind", KINDS)
def test_only_asymmetric_keys_have_a_public_key(rig: Rig, kind: str) -> None:
    """GetPublicKey answers for asymmetric keys of every usage; for the others an error of its list."""
    arn = create(rig, kind)
    if kind in PUBLIC:
        assert call(rig, "GetPublicKey", KeyId=arn)["PublicKey"]
        return
    with pytest.raises((UnsupportedOperationError, InvalidKeyUsageError)):
        call(rig, "GetPublicKey", KeyId=arn)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "RSA signing"])
def test_state_is_tested_before_usage(rig: Rig, kind: str) -> None:
    """A disabled key answers DisabledException to every operation, also to those it could never do."""
    arn = create(rig, kind)
    call(rig, "DisableKey", KeyId=arn)
    for operation, members, _ in OPERATIONS.values():
        with pytest.raises(KeyDisabledError):
            call(rig, operation, KeyId=arn, **members)
    with pytest.raises(KeyDisabledError):
        call(rig, "GetPublicKey", KeyId=arn)
