"""A dry run of ReEncrypt succeeds exactly if the call itself would."""

from typing import Any

import pytest

from datakeys.contract.errors import DryRunOperationError, ValidationError
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from keyservice_rig import Rig, b64

ROOT = Principal(PrincipalKind.ACCOUNT_ROOT, "team-a", "", arn="arn:k8s:iam::team-a:root")
IGNORE = {"DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}


def call(rig: Rig, operation: str, **body: Any) -> dict[str, Any]:
    return rig.call(operation, body, by=ROOT)


def create(rig: Rig, **members: Any) -> str:
    return str(call(rig, "CreateKey", **members)["KeyMetadata"]["Arn"])


@pytest.mark.parametrize(("size", "fits"), [(190, True), (191, False), (4096, False)])
def test_dry_run_sees_that_a_plaintext_is_too_long_for_rsa(rig: Rig, size: int, *, fits: bool) -> None:
    """Moving a long plaintext under an RSA key fails in the dry run as it does in earnest."""
    source = create(rig)
    blob = call(rig, "Encrypt", KeyId=source, Plaintext=b64(bytes(size)))["CiphertextBlob"]
    members = {
        "CiphertextBlob": blob,
        "DestinationKeyId": create(rig, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT"),
        "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    }
    if fits:
        assert call(rig, "ReEncrypt", **members)["CiphertextBlob"]
        with pytest.raises(DryRunOperationError):
            call(rig, "ReEncrypt", **members, DryRun=True)
        return
    for dry_run in (False, True):
        with pytest.raises(ValidationError, match="larger than 190 bytes"):
            call(rig, "ReEncrypt", **members, DryRun=dry_run)


@pytest.mark.parametrize("spec", ["SYMMETRIC_DEFAULT", "RSA_2048"])
def test_dry_run_without_a_ciphertext_succeeds(rig: Rig, spec: str) -> None:
    """With the ciphertext ignored, permissions, states and usages alone decide."""
    algorithm = "SYMMETRIC_DEFAULT" if spec == "SYMMETRIC_DEFAULT" else "RSAES_OAEP_SHA_1"
    with pytest.raises(DryRunOperationError):
        call(
            rig,
            "ReEncrypt",
            SourceKeyId=create(rig),
            DestinationKeyId=create(rig, KeySpec=spec, KeyUsage="ENCRYPT_DECRYPT"),
            DestinationEncryptionAlgorithm=algorithm,
            **IGNORE,
        )
