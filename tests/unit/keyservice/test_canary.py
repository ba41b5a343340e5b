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

from canary import build_needles, scan_bytes
from datakeys.keyservice.operations.table import VERBS
from keyservice_rig import DispatchRig, b64, bound
from material_rig import build_import

#: Material of a customer.
IMPORTED = b"IMPORTED-CANARY-0123456789abcdef"
ACCOUNT = {"x_datakeys_account": "team-a"}


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
    await send("Encrypt", {"KeyId": arn, "Plaintext": b64(b"PLAINTEXT-CANARY-0123456789abcdef")}, pod)
    await send("Encrypt", {"KeyId": "", "Plaintext": b64(b"PLAINTEXT-CANARY-0123456789abcdef")}, pod)
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
    await control("RevokeGrant", KeyId=arn, GrantId=grant["GrantId"])
    for operation in ("DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"):
        await control(operation, KeyId=arn)
    return answers


async def walk_import(control: Callable[..., Awaitable[dict[str, Any]]]) -> None:
    """Import material, badly and well, and delete it."""
    arn = (await control("CreateKey", Origin="EXTERNAL"))["KeyMetadata"]["Arn"]
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    parameters = await control("GetParametersForImport", KeyId=arn, **wrapping)
    for material in (IMPORTED[:16], IMPORTED, IMPORTED[::-1]):
        await control("ImportKeyMaterial", **build_import(arn, parameters, material))
    await control("ListKeyRotations", KeyId=arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")
    await control("DeleteImportedKeyMaterial", KeyId=arn)


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
        original = VERBS["Decrypt"].run.__globals__["parse_blob"]
        patch = pytest.MonkeyPatch()
        patch.setitem(VERBS["Decrypt"].run.__globals__, "parse_blob", lambda raw: [original(raw)])
    with caplog.at_level(logging.DEBUG):
        answers = await walk(rig)
    if damaged:
        patch.undo()
    else:
        assert {name for name, _ in answers} == set(VERBS)
    stored = json.dumps([record.to_json() for record in rig.rig.store.index._keys.values()]).encode()
    logs = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records).encode()
    audit = read(audit_file)
    quiet = b"\n".join(body for name, body in answers if name not in ("GenerateDataKey", "Decrypt"))
    shown_ids = set(re.findall(rb'"(?:GrantId|KeyMaterialId|CurrentKeyMaterialId)": "([0-9a-f]{64})"', quiet))
    given = [value for value in recorder.given if value.hex().encode() not in shown_ids]
    secrets = [rig.rig.root_secret, IMPORTED, *(value for value in given if len(value) == 32)]
    assert len(secrets) >= 3
    for secret in secrets:
        needles = build_needles(secret)
        places = {"logs": logs, "audit": audit, "store": stored, "answers": quiet}
        for place, data in places.items():
            assert not scan_bytes(place, data, needles)
    needles = build_needles(b"PLAINTEXT-CANARY-0123456789abcdef")
    everything = logs + audit + b"\n".join(body for _, body in answers)
    assert not scan_bytes("anywhere", everything, needles)
