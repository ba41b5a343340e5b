"""A key has two views, its KmsKey and the key service's API: what is done in one shows in the other."""

import base64
import json
import os
import time
from typing import Any

import pytest

from controller_rig import Process, Rig
from controller_wire import RefusedError, Wire
from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS, SOON, Objects, fresh_objects
from material_rig import wrap
from waiting import eventually


@pytest.fixture
def wire(rig: Rig, objects: Objects) -> Wire:
    """Return calls in the name of the test's namespace."""
    return Wire(rig, objects.namespace)


def status_of(objects: Objects, name: str = "main") -> dict[str, Any]:
    """Return the status of a KmsKey."""
    return dict(objects.get(KEYS, name).get("status") or {})


def test_disabling_by_call_shows_and_enabling_heals(objects: Objects, wire: Wire) -> None:
    """DisableKey shows in the KmsKey; EnableKey lets the request that waits go on, untouched."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    key_id = status_of(objects)["keyId"]
    wire.call("DisableKey", KeyId=key_id)
    objects.wait_condition(KEYS, "main", "False", "Disabled", seconds=SOON)
    assert status_of(objects)["keyState"] == "Disabled"
    assert objects.get(KEYS, "main")["spec"]["enabled"] is True
    objects.create_request("orders")
    message = objects.wait_condition(REQUESTS, "orders", "False", "DisabledException")
    assert "EnableKey" in message
    wire.call("EnableKey", KeyId=key_id)
    objects.wait_ready("orders", seconds=SOON)
    objects.wait_condition(KEYS, "main", "True", "Enabled", seconds=SOON)
    assert eventually(lambda: objects.event_reasons("main") == ["Created", "Disabled", "Enabled"])


def test_deletion_by_call_shows_with_its_date(objects: Objects, wire: Wire) -> None:
    """ScheduleKeyDeletion and CancelKeyDeletion show, and the KmsKey can then be deleted as ever."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    key_id = status_of(objects)["keyId"]
    wire.call("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)
    message = objects.wait_condition(KEYS, "main", "False", "PendingDeletion", seconds=SOON)
    assert "CancelKeyDeletion" in message
    assert status_of(objects)["deletionDate"]
    wire.call("CancelKeyDeletion", KeyId=key_id)
    objects.wait_condition(KEYS, "main", "False", "Disabled", seconds=SOON)
    assert "deletionDate" not in status_of(objects)
    wire.call("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)
    objects.delete(KEYS, "main")
    assert eventually(lambda: not objects.exists(KEYS, "main"))


def test_edits_reach_the_key(objects: Objects, wire: Wire) -> None:
    """Description, tags and rotation of an edited KmsKey are the key's; what is taken out is undone."""
    objects.create_key(description="one", tags={"team": "shop", "tier": "gold"})
    objects.wait_ready("main", plural=KEYS)
    key_id = status_of(objects)["keyId"]
    wire.call("TagResource", KeyId=key_id, Tags=[{"TagKey": "by", "TagValue": "call"}])
    spec = {
        "description": "two",
        "tags": {"team": "orders", "tier": None},
        "rotation": {"enabled": True, "periodDays": 90},
    }
    objects.patch(KEYS, "main", {"spec": spec})
    generation = objects.get(KEYS, "main")["metadata"]["generation"]
    assert eventually(lambda: status_of(objects)["observedGeneration"] == generation)
    objects.wait_condition(KEYS, "main", "True", "Applied", type_="Synced")
    assert wire.call("DescribeKey", KeyId=key_id)["KeyMetadata"]["Description"] == "two"
    tags = {tag["TagKey"]: tag["TagValue"] for tag in wire.call("ListResourceTags", KeyId=key_id)["Tags"]}
    assert tags == {"team": "orders", "by": "call"}
    rotation = wire.call("GetKeyRotationStatus", KeyId=key_id)
    assert (rotation["KeyRotationEnabled"], rotation["RotationPeriodInDays"]) == (True, 90)
    assert eventually(lambda: status_of(objects)["rotation"].get("periodDays") == 90, SOON)
    assert status_of(objects)["rotation"]["nextRotationDate"]
    objects.patch(KEYS, "main", {"spec": {"rotation": None, "description": None}})
    assert eventually(lambda: status_of(objects)["rotation"] == {"enabled": False}, SOON)
    assert wire.call("GetKeyRotationStatus", KeyId=key_id)["KeyRotationEnabled"] is False
    assert wire.call("DescribeKey", KeyId=key_id)["KeyMetadata"]["Description"] == ""


def test_rotation_by_call_shows(objects: Objects, wire: Wire) -> None:
    """A rotation that is switched on by a call, and one on demand, show in the status."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    before = status_of(objects)
    assert before["rotation"] == {"enabled": False}
    wire.call("EnableKeyRotation", KeyId=before["keyId"], RotationPeriodInDays=100)
    assert eventually(lambda: status_of(objects)["rotation"].get("periodDays") == 100, SOON)
    wire.call("RotateKeyOnDemand", KeyId=before["keyId"])
    assert eventually(
        lambda: status_of(objects)["currentKeyMaterialId"] != before["currentKeyMaterialId"], SOON
    )


def import_material(wire: Wire, key_id: str, material: bytes, seconds: float | None = None) -> None:
    """Import key material as a customer does, for some time or for good."""
    algorithm = "RSAES_OAEP_SHA_256"
    parameters = wire.call(
        "GetParametersForImport", KeyId=key_id, WrappingAlgorithm=algorithm, WrappingKeySpec="RSA_2048"
    )
    wrapped = wrap(base64.b64decode(parameters["PublicKey"]), algorithm, material)
    if seconds is None:
        members: dict[str, Any] = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    else:
        members = {"ValidTo": time.time() + seconds}
    wire.call(
        "ImportKeyMaterial",
        KeyId=key_id,
        ImportToken=parameters["ImportToken"],
        EncryptedKeyMaterial=base64.b64encode(wrapped).decode(),
        **members,
    )


def test_import_heals_and_expiry_shows(objects: Objects, wire: Wire) -> None:
    """A request waits for the import of the material; when the material expires, the KmsKey says so."""
    objects.create_key(origin="EXTERNAL")
    objects.wait_condition(KEYS, "main", "False", "PendingImport")
    objects.create_request("first")
    objects.wait_condition(REQUESTS, "first", "False", "KMSInvalidStateException")
    key_id, material = status_of(objects)["keyId"], os.urandom(32)
    import_material(wire, key_id, material, 3600)
    objects.wait_ready("first", seconds=SOON)
    objects.wait_condition(KEYS, "main", "True", "Enabled", seconds=SOON)
    assert status_of(objects)["validTo"]
    import_material(wire, key_id, material, 8)
    objects.wait_condition(KEYS, "main", "False", "PendingImport")
    objects.create_request("second")
    objects.wait_condition(REQUESTS, "second", "False", "KMSInvalidStateException")
    import_material(wire, key_id, material)
    objects.wait_ready("second", seconds=SOON)
    assert eventually(lambda: "validTo" not in status_of(objects), SOON)


def test_alias_that_is_moved_by_call_heals(objects: Objects, wire: Wire) -> None:
    """An alias that was never a KmsAlias: CreateAlias lets a request go on that found none."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    objects.create_request("orders", keyId="alias/by-call")
    objects.wait_condition(REQUESTS, "orders", "False", "NotFoundException")
    wire.call("CreateAlias", AliasName="alias/by-call", TargetKeyId=status_of(objects)["keyId"])
    objects.wait_ready("orders", seconds=SOON)


def test_refused_edit_is_told_and_the_key_goes_on(objects: Objects, wire: Wire) -> None:
    """An edit that the key can't take is Synced=False with KMS's name for it; Ready follows the key."""
    objects.create_key(enabled=False)
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    objects.patch(KEYS, "main", {"spec": {"rotation": {"enabled": True}, "description": "new"}})
    message = objects.wait_condition(KEYS, "main", "False", "DisabledException", type_="Synced")
    assert message.startswith("EnableKeyRotation: ")
    assert "spec.enabled" in message
    key_id = status_of(objects)["keyId"]
    assert wire.call("DescribeKey", KeyId=key_id)["KeyMetadata"]["Description"] == "new"
    objects.patch(KEYS, "main", {"spec": {"enabled": True}})
    objects.wait_condition(KEYS, "main", "True", "Applied", type_="Synced")
    objects.wait_ready("main", plural=KEYS)


NO_DATA_KEYS = {
    "rsa-encrypt": ({"keySpec": "RSA_2048", "keyUsage": "ENCRYPT_DECRYPT"}, "InvalidKeyUsageException"),
    "rsa-sign": ({"keySpec": "RSA_3072", "keyUsage": "SIGN_VERIFY"}, "InvalidKeyUsageException"),
    "ecc": ({"keySpec": "ECC_NIST_P256", "keyUsage": "SIGN_VERIFY"}, "InvalidKeyUsageException"),
    "hmac": ({"keySpec": "HMAC_256", "keyUsage": "GENERATE_VERIFY_MAC"}, "InvalidKeyUsageException"),
    "hsm": ({"origin": "AWS_CLOUDHSM"}, "InvalidKeyUsageException"),
    "store": ({"origin": "EXTERNAL_KEY_STORE"}, "InvalidKeyUsageException"),
    "imported": ({"origin": "EXTERNAL"}, "KMSInvalidStateException"),
}


def test_keys_that_make_no_data_keys(objects: Objects) -> None:
    """Every kind of key exists as a KmsKey; a request on it ends with the specification's error."""
    for name, (spec, _) in NO_DATA_KEYS.items():
        objects.create_key(name, **spec)
        objects.create_request(name, keyRef={"name": name})
    for name, (_, reason) in NO_DATA_KEYS.items():
        message = objects.wait_condition(REQUESTS, name, "False", reason)
        assert ("ImportKeyMaterial" if name == "imported" else "SYMMETRIC_DEFAULT") in message
        ready = ("False", "PendingImport") if name == "imported" else ("True", "Enabled")
        objects.wait_condition(KEYS, name, *ready)
        assert "rotation" not in status_of(objects, name)


def test_repointed_alias_heals_a_request(objects: Objects) -> None:
    """A request by alias waits on a disabled key; pointing the alias elsewhere is enough."""
    objects.create_key("off", enabled=False)
    objects.create_key("on")
    for name in ("off", "on"):
        assert eventually(lambda name=name: bool(status_of(objects, name).get("arn")))  # type: ignore[misc]
    target = {"targetKeyId": status_of(objects, "off")["arn"]}
    objects.create_manifest(ALIASES, "KmsAlias", "orders", target)
    objects.wait_ready("orders", plural=ALIASES)
    arn = objects.get(ALIASES, "orders")["status"]["arn"]
    objects.create_request("by-name", keyId="alias/orders")
    objects.create_request("by-arn", keyId=arn)
    for name in ("by-name", "by-arn"):
        objects.wait_condition(REQUESTS, name, "False", "DisabledException")
    objects.patch(ALIASES, "orders", {"spec": {"targetKeyId": status_of(objects, "on")["keyId"]}})
    objects.wait_ready("by-name", "by-arn", seconds=SOON)
    assert objects.get(REQUESTS, "by-arn")["status"]["keyId"] == status_of(objects, "on")["arn"]


def test_grant_token_goes_into_a_request(objects: Objects) -> None:
    """A grant's token is accepted at once; a token that no grant has is InvalidGrantTokenException."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    spec = {
        "keyId": status_of(objects)["arn"],
        "granteePrincipal": {"serviceAccountName": "app"},
        "operations": ["Decrypt", "DescribeKey"],
        "constraints": {"encryptionContextEquals": {"tenant": "a"}},
    }
    objects.create_manifest(GRANTS, "KmsGrant", "reader", spec)
    objects.wait_ready("reader", plural=GRANTS)
    token = objects.get(GRANTS, "reader")["status"]["grantToken"]
    objects.create_request("good", grantTokens=[token])
    objects.create_request("bad", grantTokens=["nonsense"])
    objects.wait_ready("good")
    message = objects.wait_condition(REQUESTS, "bad", "False", "InvalidGrantTokenException")
    assert "grantToken" in message


def test_dry_run_makes_nothing(objects: Objects, wire: Wire) -> None:
    """A dry run ends with DryRunOperationException or the error, and heals as any request does."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    key_id = status_of(objects)["keyId"]
    objects.create_request("good", dryRun=True)
    objects.wait_condition(REQUESTS, "good", "True", "DryRunOperationException", type_="DryRun")
    wire.call("DisableKey", KeyId=key_id)
    objects.create_request("off", dryRun=True)
    objects.wait_condition(REQUESTS, "off", "False", "DisabledException", type_="DryRun")
    wire.call("EnableKey", KeyId=key_id)
    objects.wait_condition(REQUESTS, "off", "True", "DryRunOperationException", type_="DryRun", seconds=SOON)
    for name in ("good", "off"):
        assert objects.secret(name) is None
        assert "ciphertextBlob" not in objects.get(REQUESTS, name)["status"]


def test_key_of_another_namespace_tells_nothing(objects: Objects, rig: Rig) -> None:
    """Without its policy's word, a key of another namespace looks the same whether it exists or not."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    arn = status_of(objects)["arn"]
    with fresh_objects(rig.api) as stranger:
        stranger.create_request("there", keyId=arn)
        stranger.create_request("nowhere", keyId=arn[:-1] + ("0" if arn[-1] != "0" else "1"))
        messages = {
            stranger.wait_condition(REQUESTS, name, "False", "AccessDeniedException")
            for name in ("there", "nowhere")
        }
        assert len(messages) == 1
        with pytest.raises(RefusedError) as refused:
            Wire(rig, stranger.namespace).call("DisableKey", KeyId=arn)
        assert refused.value.code == "AccessDeniedException"


def policy(owner: str, *statements: dict[str, Any]) -> str:
    """Return a key policy that leaves the decision to the owner's namespace, and more statements."""
    root = {"Effect": "Allow", "Principal": {"Kubernetes": owner}, "Action": "kms:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [root, *statements]})


def test_key_of_another_namespace_whose_policy_allows(objects: Objects, rig: Rig, wire: Wire) -> None:
    """A request waits until the key's policy lets its namespace; by ARN and alias ARN; disabled, it heals."""
    with fresh_objects(rig.api) as stranger:
        lets = {
            "Effect": "Allow",
            "Principal": {"Kubernetes": stranger.namespace},
            "Action": "kms:GenerateDataKeyWithoutPlaintext",
            "Resource": "*",
        }
        objects.create_key(policy=policy(objects.namespace))
        objects.create_manifest(ALIASES, "KmsAlias", "orders", {"targetKeyRef": {"name": "main"}})
        objects.wait_ready("orders", plural=ALIASES)
        arn, alias = status_of(objects)["arn"], objects.get(ALIASES, "orders")["status"]["arn"]
        stranger.create_request("by-key", keyId=arn)
        stranger.create_request("by-alias", keyId=alias)
        for name in ("by-key", "by-alias"):
            stranger.wait_condition(REQUESTS, name, "False", "AccessDeniedException")
        objects.patch(KEYS, "main", {"spec": {"policy": policy(objects.namespace, lets)}})
        stranger.wait_ready("by-key", "by-alias", seconds=SOON)
        assert stranger.get(REQUESTS, "by-key")["status"]["keyId"] == arn
        wire.call("DisableKey", KeyId=arn)
        stranger.create_request("later", keyId=arn)
        stranger.wait_condition(REQUESTS, "later", "False", "DisabledException")
        wire.call("EnableKey", KeyId=arn)
        stranger.wait_ready("later", seconds=SOON)
        objects.patch(KEYS, "main", {"spec": {"policy": None}})
        objects.wait_condition(KEYS, "main", "True", "Applied", type_="Synced")
        assert eventually(lambda: stranger.namespace not in wire.call("GetKeyPolicy", KeyId=arn)["Policy"])
        stranger.create_request("too-late", keyId=arn)
        stranger.wait_condition(REQUESTS, "too-late", "False", "AccessDeniedException")


def test_malformed_policy_is_told(objects: Objects, wire: Wire) -> None:
    """An edit to a policy that is none leaves the old one and names the error and spec.policy."""
    first = policy(objects.namespace)
    objects.create_key(policy=first)
    objects.wait_ready("main", plural=KEYS)
    objects.patch(KEYS, "main", {"spec": {"policy": "nonsense"}})

    def told() -> bool:
        conditions = status_of(objects)["conditions"]
        return any(item["reason"] == "MalformedPolicyDocumentException" for item in conditions)

    assert eventually(told)
    answer = wire.call("GetKeyPolicy", KeyId=status_of(objects)["keyId"])
    assert json.loads(answer["Policy"]) == json.loads(first)


def test_following_costs_nothing_while_nothing_happens(objects: Objects, controller: Process) -> None:
    """At rest the controller asks the key service about twice a minute, and writes nothing."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    looks = ("DescribeKey", "GetKeyRotationStatus")

    def count() -> tuple[object, ...]:
        return (*map(controller.calls, looks), controller.writes())

    def is_at_rest() -> bool:
        before, watches = count(), controller.calls("WatchKeys")
        time.sleep(6)
        return count() == before and controller.calls("WatchKeys") - watches <= 1

    # Not at once: there is a second look after the creation, and at what other tests have left behind.
    assert eventually(is_at_rest), count()


def test_restarts_lose_no_change_and_undo_none(rig: Rig, objects: Objects, controller: Process) -> None:
    """A change after a restart of the key service shows; one without a controller shows later, and stays."""
    wire = Wire(rig, objects.namespace)
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    key_id = status_of(objects)["keyId"]
    (keyservice,) = [process for process in rig.processes if process.name == "keyservice"]
    keyservice.kill()
    rig.start_keyservice()
    wire.call("DisableKey", KeyId=key_id)
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    wire.call("EnableKey", KeyId=key_id)
    objects.wait_ready("main", plural=KEYS, seconds=SOON)
    assert controller.stop() == 0
    wire.call("DisableKey", KeyId=key_id)
    another = rig.start_controller("two")
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    assert another.stop() == 0
    assert wire.call("DescribeKey", KeyId=key_id)["KeyMetadata"]["KeyState"] == "Disabled"
