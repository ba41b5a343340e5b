"""Key material that is known is searched wherever it must not be, after every verb ran at DEBUG."""

import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from canary import build_needles, scan_bytes
from datakeys.keyservice.material.ciphertext_blob import parse_blob
from datakeys.keyservice.material.private_key import PrivateKey
from datakeys.keyservice.operations import ciphertext_source
from datakeys.keyservice.operations.table import VERBS
from keyservice_rig import DispatchRig, b64, bound
from material_rig import build_import

#: Material of a customer.
IMPORTED = b"IMPORTED-CANARY-0123456789abcdef"
ACCOUNT = {"x_datakeys_account": "team-a"}
PLAINTEXT = b"PLAINTEXT-CANARY-0123456789abcdef"
SIGNING = {
    "RSA_2048": "RSASSA_PSS_SHA_256",
    "ECC_NIST_P256": "ECDSA_SHA_256",
    "ECC_NIST_EDWARDS25519": "ED25519_SHA_512",
    "ML_DSA_65": "ML_DSA_SHAKE_256",
}
#: Operations whose answers hold plaintext, because that is what they are for.
REVEALING = ("GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom", "Decrypt")

Caller = Callable[..., Awaitable[dict[str, Any]]]


class Recorder:
    """Randomness that remembers what it gave."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        """Return random bytes."""
        self.given.append(os.urandom(size))
        return self.given[-1]


def read(path: Path) -> bytes:
    return path.read_bytes()


async def walk(rig: DispatchRig) -> list[tuple[str, bytes]]:
    """Run every verb, well and badly; return every answer."""
    controller = rig.issuer.token("datakey-system", "datakeys-controller", in_pod=True)
    pod = rig.issuer.token("team-a", "app", in_pod=True)
    answers: list[tuple[str, bytes]] = []

    async def send(operation: str, body: Any, token: str, **headers: str) -> dict[str, Any]:
        _, decoded, answer = await rig.send(operation, body, token, **headers)
        answers.append((operation, answer.body))
        return decoded

    async def control(operation: str, **body: Any) -> dict[str, Any]:
        return await send(operation, body, controller, **ACCOUNT)

    arn = (await control("CreateKey"))["KeyMetadata"]["Arn"]
    blob = (
        await control(
            "GenerateDataKeyWithoutPlaintext", KeyId=arn, KeySpec="AES_256", EncryptionContext=bound()
        )
    )["CiphertextBlob"]
    grantee = "system:serviceaccount:team-a:app"
    operations = ["GenerateDataKey", "Encrypt", "Decrypt"]
    grant = await control("CreateGrant", KeyId=arn, GranteePrincipal=grantee, Operations=operations)
    await send("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound()}, pod)
    await send("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound(x="y")}, pod)
    await send("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound(), "DryRun": True}, pod)
    await send("GenerateDataKey", {"KeyId": arn, "NumberOfBytes": 32}, pod)
    await send("Encrypt", {"KeyId": arn, "Plaintext": b64(PLAINTEXT)}, pod)
    await send("Encrypt", {"KeyId": "", "Plaintext": b64(PLAINTEXT)}, pod)
    await control("DescribeKey", KeyId=arn)
    await control("CreateAlias", AliasName="alias/x", TargetKeyId=arn)
    await control("UpdateAlias", AliasName="alias/x", TargetKeyId=arn)
    await control("ListAliases")
    await control("DeleteAlias", AliasName="alias/x")
    await control("ListGrants", KeyId=arn)
    await control("ListKeys")
    await control("UpdateKeyDescription", KeyId=arn, Description="text")
    await control("TagResource", KeyId=arn, Tags=[{"TagKey": "a", "TagValue": "b"}])
    await control("ListResourceTags", KeyId=arn)
    await control("UntagResource", KeyId=arn, TagKeys=["a"])
    await control("EnableKeyRotation", KeyId=arn)
    await control("GetKeyRotationStatus", KeyId=arn)
    await control("DisableKeyRotation", KeyId=arn)
    await control("RotateKeyOnDemand", KeyId=arn)
    await control("ListKeyRotations", KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    await walk_import(control)
    await walk_other_keys(control, lambda operation, **body: send(operation, body, pod))
    policy = await control("GetKeyPolicy", KeyId=arn, PolicyName="default")
    await control("PutKeyPolicy", KeyId=arn, PolicyName="default", Policy=policy["Policy"])
    await control("ListKeyPolicies", KeyId=arn)
    await control("ListRetirableGrants", RetiringPrincipal=grantee)
    await control("RetireGrant", KeyId=arn, GrantId="0" * 64)
    await control("RevokeGrant", KeyId=arn, GrantId=grant["GrantId"])
    for operation in ("DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"):
        await control(operation, KeyId=arn)
    return answers


async def walk_import(control: Caller) -> None:
    """Import material, badly and well, and delete it."""
    arn = (await control("CreateKey", Origin="EXTERNAL"))["KeyMetadata"]["Arn"]
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    parameters = await control("GetParametersForImport", KeyId=arn, **wrapping)
    for material in (IMPORTED[:16], IMPORTED, IMPORTED[::-1]):
        await control("ImportKeyMaterial", **build_import(arn, parameters, material))
    await control("ListKeyRotations", KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    await control("DeleteImportedKeyMaterial", KeyId=arn)


async def walk_other_keys(control: Caller, use: Caller) -> None:
    """Sign, make MACs and key pairs, re-encrypt, well and badly."""

    async def create(spec: str, usage: str, *operations: str) -> str:
        created = await control("CreateKey", KeySpec=spec, KeyUsage=usage)
        arn = str(created["KeyMetadata"]["Arn"])
        grantee = "system:serviceaccount:team-a:app"
        await control("CreateGrant", KeyId=arn, GranteePrincipal=grantee, Operations=list(operations))
        return arn

    text = b64(PLAINTEXT)
    for spec, algorithm in SIGNING.items():
        members = {
            "KeyId": await create(spec, "SIGN_VERIFY", "Sign", "Verify", "GetPublicKey"),
            "SigningAlgorithm": algorithm,
            "Message": text,
        }
        signature = (await use("Sign", **members))["Signature"]
        for given in (signature, text):
            await use("Verify", **members, Signature=given)
        await use("GetPublicKey", KeyId=members["KeyId"])
    members = {
        "KeyId": await create("HMAC_256", "GENERATE_VERIFY_MAC", "GenerateMac", "VerifyMac"),
        "MacAlgorithm": "HMAC_SHA_256",
        "Message": text,
    }
    mac = (await use("GenerateMac", **members))["Mac"]
    for given in (mac, text):
        await use("VerifyMac", **members, Mac=given)
    both = ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
    arn = await create(
        "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", *both, "Encrypt", "ReEncryptFrom", "ReEncryptTo"
    )
    for operation in both:
        await use(operation, KeyId=arn, KeyPairSpec="ECC_NIST_P256")
    blob = (await use("Encrypt", KeyId=arn, Plaintext=text))["CiphertextBlob"]
    for given in (blob, text):
        await use("ReEncrypt", CiphertextBlob=given, DestinationKeyId=arn)
    await use("GenerateRandom", NumberOfBytes=32)


def private_values(rig: DispatchRig) -> list[bytes]:
    """Return the secret numbers of all private keys that were opened."""
    opened = [item.key for of_key in rig.rig.keyring._opened.values() for item in of_key.values()]
    values = []
    for handle in opened:
        if not isinstance(handle, PrivateKey):
            continue
        key = handle._key
        if isinstance(key, rsa.RSAPrivateKey):
            values.append(key.private_numbers().d.to_bytes(256, "big"))
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            values.append(key.private_numbers().private_value.to_bytes(32, "big"))
        else:
            values.append(key.private_bytes_raw())
    return values


@pytest.mark.parametrize("damaged", [False, True])
async def test_nothing_leaks(
    dispatch_rig: DispatchRig, audit_file: Path, caplog: pytest.LogCaptureFixture, *, damaged: bool
) -> None:
    """No log, audit record, error or stored record holds material or a plaintext."""
    recorder = Recorder()
    rig = dispatch_rig
    rig.rig.clock.now = time.time()
    object.__setattr__(rig.rig.service, "random", recorder)
    if damaged:
        patch = pytest.MonkeyPatch()
        patch.setattr(ciphertext_source, "parse_blob", lambda raw: [parse_blob(raw)])
    with caplog.at_level(logging.DEBUG):
        answers = await walk(rig)
    if damaged:
        patch.undo()
    else:
        assert {name for name, _ in answers} == set(VERBS)
    stored = json.dumps([record.to_json() for record in rig.rig.store.index._keys.values()]).encode()
    logs = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records).encode()
    audit = read(audit_file)
    quiet = b"\n".join(body for name, body in answers if name not in REVEALING)
    shown_ids = set(re.findall(rb'"(?:GrantId|KeyMaterialId|CurrentKeyMaterialId)":"([0-9a-f]{64})"', quiet))
    # The material of asymmetric and HMAC keys has ids too, but no answer shows them.
    shown_ids |= {
        material.material_id.encode()
        for record in rig.rig.store.index._keys.values()
        for material in record.materials
    }
    given = [value for value in recorder.given if value.hex().encode() not in shown_ids]
    secrets = [rig.rig.root_secret, IMPORTED, *(value for value in given if len(value) == 32)]
    assert len(secrets) >= 3
    private = private_values(rig)
    assert len(private) == len(SIGNING)
    secrets += private
    for secret in secrets:
        needles = build_needles(secret)
        places = {"logs": logs, "audit": audit, "store": stored, "answers": quiet}
        for place, data in places.items():
            assert not scan_bytes(place, data, needles)
    needles = build_needles(PLAINTEXT)
    everything = logs + audit + b"\n".join(body for _, body in answers)
    assert not scan_bytes("anywhere", everything, needles)
