"""Every operation of the service answers boto3 in the local mode, in both modes of storage."""

import base64
import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from datakeys.keyservice.operations.table import VERBS
from local_mode import LocalProcess, Starter

ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
#: Only the cluster's controller may call it, under another target.
NOT_AWS = {"WatchKeys"}


class Recorder:
    """A client that notes which operations have answered."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.answered: set[str] = set()

    def __call__(self, operation: str, **members: Any) -> Any:
        """Call an operation by its name on the wire."""
        methods = {name: method for method, name in self.client.meta.method_to_api_mapping.items()}
        answer = getattr(self.client, methods[operation])(**members)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        self.answered.add(operation)
        return answer

    def key(self, **members: Any) -> str:
        """Create a key and return its id."""
        return str(self("CreateKey", **members)["KeyMetadata"]["KeyId"])


@pytest.fixture(params=["memory", "durable"])
def local(request: pytest.FixtureRequest, start_local: Starter, tmp_path: Path) -> LocalProcess:
    """Start the local mode in both modes of storage."""
    return start_local(*(("--data-dir", tmp_path / "data") if request.param == "durable" else ()))


def use_symmetric(call: Recorder) -> None:
    key, other = call.key(), call.key()
    call("CreateAlias", AliasName="alias/a", TargetKeyId=key)
    call("UpdateAlias", AliasName="alias/a", TargetKeyId=other)
    call("ListAliases", KeyId=other)
    blob = call("Encrypt", KeyId="alias/a", Plaintext=b"x")["CiphertextBlob"]
    moved = call("ReEncrypt", CiphertextBlob=blob, DestinationKeyId=key)["CiphertextBlob"]
    assert call("Decrypt", CiphertextBlob=moved)["Plaintext"] == b"x"
    call("GenerateDataKey", KeyId=key, NumberOfBytes=8)
    call("GenerateDataKeyWithoutPlaintext", KeyId=key, NumberOfBytes=8)
    call("GenerateDataKeyPair", KeyId=key, KeyPairSpec="ECC_NIST_P256")
    call("GenerateDataKeyPairWithoutPlaintext", KeyId=key, KeyPairSpec="ECC_NIST_P256")
    assert len(call("GenerateRandom", NumberOfBytes=7)["Plaintext"]) == 7
    call("DeleteAlias", AliasName="alias/a")
    call("EnableKeyRotation", KeyId=key, RotationPeriodInDays=100)
    assert call("GetKeyRotationStatus", KeyId=key)["RotationPeriodInDays"] == 100
    call("RotateKeyOnDemand", KeyId=key)
    assert len(call("ListKeyRotations", KeyId=key)["Rotations"]) == 1
    call("DisableKeyRotation", KeyId=key)
    assert call("Decrypt", CiphertextBlob=moved)["Plaintext"] == b"x"


def manage(call: Recorder) -> None:
    key = call.key(Tags=[{"TagKey": "a", "TagValue": "b"}])
    assert {"KeyId": key} in [{"KeyId": it["KeyId"]} for it in call("ListKeys")["Keys"]]
    call("TagResource", KeyId=key, Tags=[{"TagKey": "c", "TagValue": "d"}])
    call("UntagResource", KeyId=key, TagKeys=["a"])
    assert [tag["TagKey"] for tag in call("ListResourceTags", KeyId=key)["Tags"]] == ["c"]
    call("UpdateKeyDescription", KeyId=key, Description="new")
    call("DisableKey", KeyId=key)
    call("EnableKey", KeyId=key)
    call("ScheduleKeyDeletion", KeyId=key, PendingWindowInDays=7)
    call("CancelKeyDeletion", KeyId=key)
    assert call("DescribeKey", KeyId=key)["KeyMetadata"]["Description"] == "new"
    assert call("ListKeyPolicies", KeyId=key)["PolicyNames"] == ["default"]
    policy = json.loads(call("GetKeyPolicy", KeyId=key, PolicyName="default")["Policy"])
    assert policy["Statement"][0]["Principal"] == {"AWS": ROOT}
    call("PutKeyPolicy", KeyId=key, PolicyName="default", Policy=json.dumps(policy))


def use_grants(call: Recorder) -> None:
    key = call.key()
    members = {"GranteePrincipal": ROLE, "RetiringPrincipal": ROOT, "Operations": ["Decrypt"]}
    first, second = (call("CreateGrant", KeyId=key, **members) for _ in range(2))
    assert len(call("ListGrants", KeyId=key)["Grants"]) == 2
    assert len(call("ListRetirableGrants", RetiringPrincipal=ROOT)["Grants"]) == 2
    call("RetireGrant", GrantToken=first["GrantToken"])
    call("RevokeGrant", KeyId=key, GrantId=second["GrantId"])
    assert call("ListGrants", KeyId=key)["Grants"] == []


def use_asymmetric(call: Recorder) -> None:
    key = call.key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    signing = {"KeyId": key, "Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = call("Sign", **signing)["Signature"]
    assert call("Verify", **signing, Signature=signature)["SignatureValid"] is True
    call("GetPublicKey", KeyId=key)
    mac_key = call.key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    making = {"KeyId": mac_key, "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
    assert call("VerifyMac", **making, Mac=call("GenerateMac", **making)["Mac"])["MacValid"] is True


def import_material(call: Recorder, lifetime: timedelta = timedelta(days=1)) -> str:
    """Import material into a new key; return the key's id."""
    key = call.key(Origin="EXTERNAL")
    parameters = call(
        "GetParametersForImport",
        KeyId=key,
        WrappingAlgorithm="RSAES_OAEP_SHA_256",
        WrappingKeySpec="RSA_2048",
    )
    public = serialization.load_der_public_key(parameters["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    wrapped = public.encrypt(
        b"k" * 32, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
    )
    call(
        "ImportKeyMaterial",
        KeyId=key,
        ImportToken=parameters["ImportToken"],
        EncryptedKeyMaterial=wrapped,
        ExpirationModel="KEY_MATERIAL_EXPIRES",
        ValidTo=datetime.now(UTC) + lifetime,
    )
    assert call("DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    return key


def delete_material(call: Recorder) -> None:
    key = import_material(call)
    call("DeleteImportedKeyMaterial", KeyId=key)
    assert call("DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"] == "PendingImport"


def test_every_operation_answers(local: LocalProcess) -> None:
    """Each operation of the table succeeds at least once; a new one without a call here fails the test."""
    call = Recorder(local.client())
    for tour in (use_symmetric, manage, use_grants, use_asymmetric, delete_material):
        tour(call)
    assert call.answered == set(VERBS) - NOT_AWS


def test_scheduled_changes_are_made(start_local: Starter, tmp_path: Path) -> None:
    """What happens to keys by itself does: expired material leaves the database with nobody asking."""
    local = start_local("--data-dir", tmp_path)
    key = import_material(Recorder(local.client()), timedelta(seconds=6))

    def stored_state() -> str:
        database = sqlite3.connect(tmp_path / "us-east-1.sqlite")
        (body,) = database.execute("SELECT body FROM records WHERE name = ?", (f"kmskey-{key}",)).fetchone()
        database.close()
        return str(json.loads(base64.b64decode(json.loads(body)["data"]["record.json"]))["state"])

    assert stored_state() == "Enabled"
    give_up = time.monotonic() + 60
    while stored_state() != "PendingImport" and time.monotonic() < give_up:
        time.sleep(0.1)
    assert stored_state() == "PendingImport"


def test_explicit_deny_binds_the_root(local: LocalProcess) -> None:
    """The root passes everywhere but where a key policy denies it; the policy survives with the key."""
    kms = local.client()
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": ROOT}, "Action": "kms:Encrypt", "Resource": "*"},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    key = kms.create_key(Policy=policy)["KeyMetadata"]["KeyId"]
    kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    with pytest.raises(ClientError) as caught:
        kms.encrypt(KeyId=key, Plaintext=b"x")
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize("operation", ["ReplicateKey", "CreateCustomKeyStore", "DeriveSharedSecret"])
def test_other_operations_are_refused(shared_local: LocalProcess, operation: str) -> None:
    """What isn't offered is an error of its own, never a 500."""
    client = shared_local.client()
    methods = {name: method for method, name in client.meta.method_to_api_mapping.items()}
    with pytest.raises(ClientError) as caught:
        getattr(client, methods[operation])()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    code = caught.value.response["Error"]["Code"]
    assert code in {"UnknownOperationException", "UnsupportedOperationException"}
