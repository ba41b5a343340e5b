"""ReEncrypt: from key to key and from context to context, with a right on either side."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    IncorrectKeyError,
    InvalidCiphertextError,
    InvalidKeyUsageError,
    KeyDisabledError,
    KmsError,
    NotFoundError,
    ValidationError,
)
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from keyservice_rig import CONTROLLER, DispatchRig, Rig, account, b64, bound, pod

ROOT = Principal(PrincipalKind.ACCOUNT_ROOT, "team-a", "", arn="arn:k8s:iam::team-a:root")
SECRET = b64(b"what is encrypted")
OLD, NEW = {"purpose": "old"}, {"purpose": "new"}


def encrypt(rig: Rig, arn: str, context: dict[str, str] | None = None, **more: Any) -> str:
    body = {"KeyId": arn, "Plaintext": SECRET, **more}
    if context:
        body["EncryptionContext"] = context
    return str(rig.call("Encrypt", body, by=ROOT)["CiphertextBlob"])


def decrypt(rig: Rig, blob: str, context: dict[str, str] | None = None, **more: Any) -> str:
    body = {"CiphertextBlob": blob, "EncryptionContext": context or {}, **more}
    return str(rig.call("Decrypt", body, by=ROOT)["Plaintext"])


def re_encrypt(rig: Rig, blob: str, target: str, *, by: Principal = ROOT, **more: Any) -> dict[str, Any]:
    return rig.call("ReEncrypt", {"CiphertextBlob": blob, "DestinationKeyId": target, **more}, by=by)


def test_key_and_context_change_and_the_plaintext_stays(rig: Rig) -> None:
    source, target = rig.create_key(), rig.create_key()
    blob = encrypt(rig, source, OLD)
    answer = re_encrypt(
        rig, blob, target, SourceEncryptionContext=OLD, DestinationEncryptionContext=NEW, SourceKeyId=source
    )
    assert decrypt(rig, answer["CiphertextBlob"], NEW, KeyId=target) == SECRET
    with pytest.raises(InvalidCiphertextError):
        decrypt(rig, answer["CiphertextBlob"], OLD)


def test_answer_names_both_keys_by_arn_and_their_material(rig: Rig) -> None:
    source, target = rig.create_key(), rig.create_key()
    answer = re_encrypt(rig, encrypt(rig, source), target.rpartition("/")[2])

    def material(arn: str) -> str:
        return str(rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["CurrentKeyMaterialId"])

    assert {name: value for name, value in answer.items() if name != "CiphertextBlob"} == {
        "SourceKeyId": source,
        "KeyId": target,
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "SourceKeyMaterialId": material(source),
        "DestinationKeyMaterialId": material(target),
    }


def test_after_a_rotation_the_same_key_gets_its_new_material(rig: Rig) -> None:
    arn = rig.create_key()
    blob = encrypt(rig, arn, OLD)
    rig.call("RotateKeyOnDemand", {"KeyId": arn})
    answer = re_encrypt(rig, blob, arn, SourceEncryptionContext=OLD, DestinationEncryptionContext=OLD)
    assert answer["SourceKeyMaterialId"] != answer["DestinationKeyMaterialId"]
    assert decrypt(rig, blob, OLD) == decrypt(rig, answer["CiphertextBlob"], OLD) == SECRET


def test_to_an_rsa_key_and_back(rig: Rig) -> None:
    symmetric = rig.create_key()
    rsa = rig.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    algorithm = "RSAES_OAEP_SHA_256"
    there = re_encrypt(rig, encrypt(rig, symmetric), rsa, DestinationEncryptionAlgorithm=algorithm)
    assert "DestinationKeyMaterialId" not in there
    assert decrypt(rig, there["CiphertextBlob"], KeyId=rsa, EncryptionAlgorithm=algorithm) == SECRET
    back = re_encrypt(
        rig, there["CiphertextBlob"], symmetric, SourceKeyId=rsa, SourceEncryptionAlgorithm=algorithm
    )
    assert "SourceKeyMaterialId" not in back
    assert decrypt(rig, back["CiphertextBlob"]) == SECRET


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"SourceEncryptionContext": NEW}, InvalidCiphertextError),
        ({}, InvalidCiphertextError),
        ({"SourceEncryptionContext": OLD, "SourceKeyId": "other"}, IncorrectKeyError),
        ({"SourceEncryptionContext": OLD, "SourceKeyId": "alias/none"}, NotFoundError),
        ({"SourceEncryptionContext": OLD, "DestinationKeyId": "alias/none"}, NotFoundError),
        ({"SourceEncryptionContext": OLD, "DestinationKeyId": None}, ValidationError),
        ({"SourceEncryptionContext": OLD, "DestinationKeyId": "hmac"}, InvalidKeyUsageError),
        ({"SourceEncryptionContext": OLD, "DestinationKeyId": "disabled"}, KeyDisabledError),
        ({"SourceEncryptionContext": OLD, "DestinationEncryptionAlgorithm": "AES"}, ValidationError),
        ({"SourceEncryptionContext": OLD, "DryRun": True}, DryRunOperationError),
        ({"CiphertextBlob": None, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}, ValidationError),
        (
            {
                "CiphertextBlob": None,
                "DryRun": True,
                "DryRunModifiers": ["IGNORE_CIPHERTEXT"],
                "SourceKeyId": "source",
            },
            DryRunOperationError,
        ),
        ({"CiphertextBlob": b64(b"garbage")}, InvalidCiphertextError),
    ],
)
def test_errors(rig: Rig, more: dict[str, Any], error: type[KmsError]) -> None:
    names = {
        "source": rig.create_key(),
        "other": rig.create_key(),
        "disabled": rig.create_key(),
        "hmac": rig.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"),
    }
    rig.call("DisableKey", {"KeyId": names["disabled"]})
    body: dict[str, Any] = {
        "CiphertextBlob": encrypt(rig, names["source"], OLD),
        "DestinationKeyId": "other",
        **more,
    }
    body = {
        name: names.get(value, value) if isinstance(value, str) else value for name, value in body.items()
    }
    with pytest.raises(error):
        rig.call("ReEncrypt", body, by=ROOT)


def test_the_caller_needs_both_rights(rig: Rig) -> None:
    source, target = rig.create_key(), rig.create_key()
    blob = encrypt(rig, source)
    by = account()
    with pytest.raises(AccessDeniedError):
        re_encrypt(rig, blob, target, by=by)
    rig.grant(source, "ReEncryptFrom", "Decrypt", "Encrypt")
    with pytest.raises(AccessDeniedError):
        re_encrypt(rig, blob, target, by=by)
    rig.grant(target, "ReEncryptTo")
    assert decrypt(rig, re_encrypt(rig, blob, target, by=by)["CiphertextBlob"]) == SECRET
    with pytest.raises(AccessDeniedError):
        re_encrypt(rig, encrypt(rig, target), source, by=by)


def renew(rig: Rig, blob: str, arn: str, **more: Any) -> dict[str, Any]:
    """Re-encrypt a bound ciphertext as the controller does."""
    body = {
        "SourceKeyId": arn,
        "SourceEncryptionContext": bound(),
        "DestinationEncryptionContext": bound(),
        **more,
    }
    return re_encrypt(rig, blob, str(body.pop("DestinationKeyId", arn)), by=CONTROLLER, **body)


def test_the_controller_renews_a_bound_data_key_and_both_ciphertexts_open_for_its_pod(rig: Rig) -> None:
    arn = rig.create_key()
    blob = rig.data_key(arn, bound())
    rig.call("RotateKeyOnDemand", {"KeyId": arn})
    answer = renew(rig, blob, arn)
    assert answer["SourceKeyMaterialId"] != answer["DestinationKeyMaterialId"]
    old, new = (
        rig.call("Decrypt", {"CiphertextBlob": it, "EncryptionContext": bound()}, by=pod())["Plaintext"]
        for it in (blob, answer["CiphertextBlob"])
    )
    assert old == new


@pytest.mark.parametrize(
    "more",
    [
        {"DestinationEncryptionContext": bound(service_account="other")},
        {"DestinationEncryptionContext": {}},
        {"SourceEncryptionContext": bound(service_account="other")},
        {"SourceEncryptionContext": {}, "DestinationEncryptionContext": {}},
        {"DestinationKeyId": "other"},
        {"SourceKeyId": None},
        {"SourceKeyId": "alias/orders", "DestinationKeyId": "alias/orders"},
    ],
    ids=["other context", "no context", "other source", "unbound", "other key", "no key", "an alias"],
)
def test_the_controller_changes_nothing_but_the_material(rig: Rig, more: dict[str, Any]) -> None:
    """Another binding or another key is refused, though the ciphertext and its source context are right."""
    arn, other = rig.create_key(), rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/orders", "TargetKeyId": arn})
    blob = rig.data_key(arn, bound())
    named = {name: other if value == "other" else value for name, value in more.items()}
    with pytest.raises(AccessDeniedError):
        renew(rig, blob, arn, **named)


def last_record(audit_file: Path) -> dict[str, Any]:
    return dict(json.loads(audit_file.read_text().splitlines()[-1]))


async def test_audit_record_tells_source_and_destination_apart(
    dispatch_rig: DispatchRig, audit_file: Path
) -> None:
    rig = dispatch_rig.rig
    rig.clock.now = time.time()
    source, target = rig.create_key(), rig.create_key()
    rig.grant(source, "ReEncryptFrom")
    rig.grant(target, "ReEncryptTo")
    body = {
        "CiphertextBlob": encrypt(rig, source, OLD),
        "SourceEncryptionContext": OLD,
        "DestinationKeyId": target,
        "DestinationEncryptionContext": NEW,
    }
    status, _, _ = await dispatch_rig.send("ReEncrypt", body, dispatch_rig.issuer.token("team-a", "app"))
    record = last_record(audit_file)
    assert status == 200
    assert (record["sourceKeyId"], record["sourceEncryptionContext"]) == (source, OLD)
    assert (record["keyId"], record["encryptionContext"]) == (target, NEW)
