"""The openssl program, a second implementation, agrees with what the key service signs and encrypts."""

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import InvalidCiphertextError, KmsInvalidSignatureError
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from keyservice_rig import Rig, b64

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")

ROOT = Principal(PrincipalKind.ACCOUNT_ROOT, "team-a", "", arn="arn:k8s:iam::team-a:root")
MESSAGE = b"what is signed"

RSA_ALGORITHMS = [
    f"RSASSA_{scheme}_SHA_{bits}" for scheme in ("PSS", "PKCS1_V1_5") for bits in (256, 384, 512)
]
SIGNATURES = [
    *(("RSA_2048", algorithm) for algorithm in RSA_ALGORITHMS),
    ("RSA_3072", "RSASSA_PSS_SHA_384"),
    ("ECC_NIST_P256", "ECDSA_SHA_256"),
    ("ECC_NIST_P384", "ECDSA_SHA_384"),
    ("ECC_NIST_P521", "ECDSA_SHA_512"),
    ("ECC_SECG_P256K1", "ECDSA_SHA_256"),
]


def call(rig: Rig, operation: str, **body: Any) -> dict[str, Any]:
    return rig.call(operation, body, by=ROOT)


def create(rig: Rig, spec: str, usage: str) -> str:
    return str(call(rig, "CreateKey", KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"])


def write_public_key(rig: Rig, arn: str, folder: Path) -> None:
    der = base64.b64decode(call(rig, "GetPublicKey", KeyId=arn)["PublicKey"])
    (folder / "public.der").write_bytes(der)


def openssl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], cwd=folder, check=False, capture_output=True, timeout=120)


def verify(folder: Path, algorithm: str, message: bytes, signature: bytes) -> bool:
    """Return whether openssl takes a signature over a digest that hashlib has made."""
    bits = algorithm.rpartition("_")[2]
    (folder / "digest").write_bytes(hashlib.new(f"sha{bits}", message).digest())
    (folder / "signature").write_bytes(signature)
    command = ["pkeyutl", "-verify", "-in", "digest", "-sigfile", "signature", "-inkey", "public.der"]
    command += ["-keyform", "DER", "-pubin", "-pkeyopt", f"digest:sha{bits}"]
    if "PSS" in algorithm:
        for option in ("rsa_padding_mode:pss", "rsa_pss_saltlen:digest", f"rsa_mgf1_md:sha{bits}"):
            command += ["-pkeyopt", option]
    return openssl(folder, *command).returncode == 0


@pytest.mark.parametrize(("spec", "algorithm"), SIGNATURES)
@pytest.mark.parametrize("message_type", ["RAW", "DIGEST"])
def test_openssl_takes_signatures(
    rig: Rig, tmp_path: Path, spec: str, algorithm: str, message_type: str
) -> None:
    """Over a message or its digest it verifies; over another message, or changed, it doesn't."""
    arn = create(rig, spec, "SIGN_VERIFY")
    write_public_key(rig, arn, tmp_path)
    digest = hashlib.new(f"sha{algorithm.rpartition('_')[2]}", MESSAGE).digest()
    sent = MESSAGE if message_type == "RAW" else digest
    answer = call(
        rig, "Sign", KeyId=arn, Message=b64(sent), MessageType=message_type, SigningAlgorithm=algorithm
    )
    signature = base64.b64decode(answer["Signature"])
    assert verify(tmp_path, algorithm, MESSAGE, signature)
    assert not verify(tmp_path, algorithm, MESSAGE + b".", signature)
    assert not verify(tmp_path, algorithm, MESSAGE, signature[:-1] + bytes([signature[-1] ^ 1]))


def test_openssl_takes_ed25519_signatures(rig: Rig, tmp_path: Path) -> None:
    """Ed25519 signs the message itself, as openssl understands it."""
    arn = create(rig, "ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    write_public_key(rig, arn, tmp_path)
    answer = call(rig, "Sign", KeyId=arn, Message=b64(MESSAGE), SigningAlgorithm="ED25519_SHA_512")
    (tmp_path / "signature").write_bytes(base64.b64decode(answer["Signature"]))
    command = ["pkeyutl", "-verify", "-rawin", "-in", "message", "-sigfile", "signature"]
    command += ["-inkey", "public.der", "-keyform", "DER", "-pubin"]
    (tmp_path / "message").write_bytes(MESSAGE)
    assert openssl(tmp_path, *command).returncode == 0
    (tmp_path / "message").write_bytes(MESSAGE + b".")
    assert openssl(tmp_path, *command).returncode != 0


@pytest.mark.parametrize("spec", ["RSA_2048", "RSA_3072"])
@pytest.mark.parametrize("bits", ["1", "256"])
def test_what_openssl_encrypts_decrypts(rig: Rig, tmp_path: Path, spec: str, bits: str) -> None:
    """RSA ciphertext made outside with the public key decrypts with its algorithm, and not with the other."""
    arn = create(rig, spec, "ENCRYPT_DECRYPT")
    write_public_key(rig, arn, tmp_path)
    (tmp_path / "plaintext").write_bytes(MESSAGE)
    command = ["pkeyutl", "-encrypt", "-in", "plaintext", "-out", "ciphertext"]
    command += ["-inkey", "public.der", "-keyform", "DER", "-pubin"]
    for option in ("rsa_padding_mode:oaep", f"rsa_oaep_md:sha{bits}", f"rsa_mgf1_md:sha{bits}"):
        command += ["-pkeyopt", option]
    assert openssl(tmp_path, *command).returncode == 0
    ciphertext = b64((tmp_path / "ciphertext").read_bytes())
    algorithm = f"RSAES_OAEP_SHA_{bits}"
    answer = call(rig, "Decrypt", KeyId=arn, CiphertextBlob=ciphertext, EncryptionAlgorithm=algorithm)
    assert base64.b64decode(answer["Plaintext"]) == MESSAGE
    other = {"1": "RSAES_OAEP_SHA_256", "256": "RSAES_OAEP_SHA_1"}[bits]
    with pytest.raises(InvalidCiphertextError):
        call(rig, "Decrypt", KeyId=arn, CiphertextBlob=ciphertext, EncryptionAlgorithm=other)


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P521", "ECC_SECG_P256K1"])
def test_what_openssl_signs_verifies(rig: Rig, tmp_path: Path, spec: str) -> None:
    """Verify takes what openssl signs with a data key pair's private key only under that very key."""
    arn = create(rig, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
    pair = call(rig, "GenerateDataKeyPair", KeyId=arn, KeyPairSpec=spec)
    (tmp_path / "private.der").write_bytes(base64.b64decode(pair["PrivateKeyPlaintext"]))
    (tmp_path / "public.der").write_bytes(base64.b64decode(pair["PublicKey"]))
    algorithm = {
        "RSA_2048": "RSASSA_PKCS1_V1_5_SHA_256",
        "ECC_NIST_P521": "ECDSA_SHA_512",
    }.get(spec, "ECDSA_SHA_256")
    bits = algorithm.rpartition("_")[2]
    (tmp_path / "digest").write_bytes(hashlib.new(f"sha{bits}", MESSAGE).digest())
    command = ["pkeyutl", "-sign", "-in", "digest", "-out", "made", "-inkey", "private.der"]
    made = openssl(tmp_path, *command, "-keyform", "DER", "-pkeyopt", f"digest:sha{bits}")
    assert made.returncode == 0
    signature = (tmp_path / "made").read_bytes()
    assert verify(tmp_path, algorithm, MESSAGE, signature)
    stranger = create(rig, spec, "SIGN_VERIFY")
    with pytest.raises(KmsInvalidSignatureError):
        call(
            rig,
            "Verify",
            KeyId=stranger,
            Message=b64(MESSAGE),
            Signature=b64(signature),
            SigningAlgorithm=algorithm,
        )
