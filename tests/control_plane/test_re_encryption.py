"""Rotation on demand and the campaign after it: real controllers that are killed, a real key service."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from kubernetes import client

from controller_rig import Process, Rig
from controller_wire import RefusedError, Wire
from custom_objects import KEYS, REQUESTS, Objects, fresh_objects
from datakeys.controller.handlers.re_encrypt_requests import MAX_IN_FLIGHT
from pod_caller import decrypt, start_pod
from waiting import eventually

#: More than one slice takes, and so much less than a campaign that a slow machine comes in time to kill it.
PER_SECOND = 4
COUNT = 50


@pytest.fixture
def objects(api_client: client.ApiClient) -> Iterator[Objects]:
    """Give a namespace of its own to a test, and empty it afterwards."""
    with fresh_objects(api_client) as objects:
        yield objects


@pytest.fixture
def controller(rig: Rig) -> Iterator[Process]:
    """Run one controller for a test."""
    process = rig.start_controller()
    yield process
    if process.popen.poll() is None:
        assert process.stop() == 0, process.log.read_text()[-2000:]


def key_status(objects: Objects) -> dict[str, Any]:
    """Return the status of the KmsKey."""
    return dict(objects.get(KEYS, "main").get("status") or {})


def campaign(objects: Objects) -> dict[str, Any]:
    """Return how far the campaign is."""
    return dict(key_status(objects).get("reEncryption") or {})


def issue(objects: Objects, count: int, **re_encryption: Any) -> list[str]:
    """Make a key with a campaign, and requests under it; return their names."""
    objects.create_key(reEncryption=re_encryption)
    objects.wait_ready("main", plural=KEYS)
    names = [f"r{number}" for number in range(count)]
    for name in names:
        objects.create_request(name)
    objects.wait_ready(*names)
    return names


def blobs(objects: Objects, names: list[str]) -> dict[str, str]:
    """Return the ciphertext of each request."""
    return {name: objects.get(REQUESTS, name)["status"]["ciphertextBlob"] for name in names}


def rotate(objects: Objects, text: str = "now") -> str:
    """Rotate on demand; return the new material."""
    before = key_status(objects)["currentKeyMaterialId"]
    objects.patch(KEYS, "main", {"spec": {"rotateOnDemand": text}})
    assert eventually(lambda: key_status(objects)["currentKeyMaterialId"] != before), key_status(objects)
    return str(key_status(objects)["currentKeyMaterialId"])


def wait_phase(objects: Objects, phase: str) -> dict[str, Any]:
    """Wait for a phase; return the campaign then."""
    assert eventually(lambda: campaign(objects).get("phase") == phase), campaign(objects)
    return campaign(objects)


def wait_finished(objects: Objects, material: str) -> None:
    """Wait until a campaign for a material is complete."""

    def finished() -> bool:
        told = campaign(objects)
        return told.get("keyMaterialId") == material and "finishedAt" in told

    assert eventually(finished), campaign(objects)


def secrets_follow(objects: Objects, expected: dict[str, str]) -> bool:
    """Return whether the Secrets hold these ciphertexts."""
    secrets = {name: objects.secret(name) for name in expected}
    return all(
        secret is not None and secret.data["ciphertextBlob"] == expected[name]
        for name, secret in secrets.items()
    )


def seconds_of(told: dict[str, Any]) -> float:
    """Return how long a campaign took."""
    started, finished = (datetime.fromisoformat(told[name]) for name in ("startedAt", "finishedAt"))
    return (finished - started).total_seconds()


def test_campaign_survives_kill_9_and_no_data_key_changes(
    rig: Rig, controller: Process, objects: Objects
) -> None:
    """50 requests, killed in the middle: each is re-encrypted once, give or take those in flight."""
    names = issue(objects, COUNT, enabled=True, requestsPerSecond=PER_SECOND)
    pod, old = start_pod(rig, objects.namespace), blobs(objects, names)
    plaintexts = {name: decrypt(pod, old[name], objects.namespace, name) for name in names}
    assert len(set(plaintexts.values())) == COUNT
    material = rotate(objects)
    assert eventually(lambda: campaign(objects).get("done", 0) >= PER_SECOND), campaign(objects)
    controller.kill()
    middle = campaign(objects)
    assert (middle["phase"], middle["total"]) == ("Running", COUNT)
    assert middle["done"] < COUNT
    second = rig.start_controller()
    told = wait_phase(objects, "Complete")
    assert (told["progress"], told["failed"], told["keyMaterialId"]) == ("50/50", 0, material)
    assert told["startedAt"] == middle["startedAt"]
    assert seconds_of(told) >= COUNT / PER_SECOND - 2
    assert 0 < second.calls("ReEncrypt") < COUNT
    # What the first one has died without was given in vain.
    assert COUNT <= len(rig.audited("ReEncrypt", objects.namespace)) <= COUNT + MAX_IN_FLIGHT
    new = blobs(objects, names)
    assert eventually(lambda: secrets_follow(objects, new))
    for name in names:
        status = objects.get(REQUESTS, name)["status"]
        assert status["keyMaterialId"] == material
        assert status["formerCiphertextBlob"] == old[name] != new[name]
        assert decrypt(pod, old[name], objects.namespace, name) == plaintexts[name]
        assert decrypt(pod, new[name], objects.namespace, name) == plaintexts[name]
        assert objects.condition(REQUESTS, name)[:2] == ("True", "Issued")
    assert eventually(lambda: "ReEncryptionComplete" in objects.event_reasons("main"))
    reasons = objects.event_reasons("main")
    assert (reasons.count("ReEncryptionStarted"), reasons.count("ReEncryptionComplete")) == (1, 1)
    assert second.stop() == 0


def test_campaign_pauses_and_goes_on(controller: Process, objects: Objects) -> None:
    count = 25
    names = issue(objects, count, enabled=True, paused=True)
    old = blobs(objects, names)
    rotate(objects)
    assert wait_phase(objects, "Paused")["progress"] == f"0/{count}"
    assert blobs(objects, names) == old
    objects.patch(KEYS, "main", {"spec": {"reEncryption": {"paused": False, "requestsPerSecond": 1}}})
    assert eventually(lambda: campaign(objects).get("done", 0) >= 1)
    objects.patch(KEYS, "main", {"spec": {"reEncryption": {"paused": True}}})
    told = wait_phase(objects, "Paused")
    assert 1 <= told["done"] < count
    objects.patch(KEYS, "main", {"spec": {"reEncryption": {"paused": False, "requestsPerSecond": 50}}})
    assert wait_phase(objects, "Complete")["progress"] == f"{count}/{count}"
    assert controller.calls("ReEncrypt") == count
    assert not set(old.values()) & set(blobs(objects, names).values())


@pytest.mark.usefixtures("controller")
def test_a_disabled_key_stops_the_campaign_and_enabling_resumes_it(objects: Objects) -> None:
    issue(objects, 4, enabled=True, paused=True)
    rotate(objects)
    wait_phase(objects, "Paused")
    objects.patch(KEYS, "main", {"spec": {"enabled": False}})
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    objects.patch(KEYS, "main", {"spec": {"reEncryption": {"paused": False}}})
    assert wait_phase(objects, "Waiting")["progress"] == "0/4"
    objects.patch(KEYS, "main", {"spec": {"enabled": True}})
    assert wait_phase(objects, "Complete")["progress"] == "4/4"


def build_policy(owner: str, user: str, effect: str = "Allow") -> str:
    """Return a policy that leaves the key to its account, and its data operations to another one."""
    statements = [
        _statement(owner, "Allow", "kms:*"),
        _statement(user, "Allow", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"),
        _statement(user, effect, "kms:ReEncryptFrom", "kms:ReEncryptTo"),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _statement(account: str, effect: str, *actions: str) -> dict[str, Any]:
    principal = {"Kubernetes": f"arn:k8s:iam::{account}:root"}
    return {"Effect": effect, "Principal": principal, "Action": list(actions), "Resource": "*"}


@pytest.mark.usefixtures("controller")
def test_requests_of_other_namespaces_are_done_as_far_as_the_key_policy_lets_them(
    objects: Objects, api_client: client.ApiClient
) -> None:
    """A refusal is counted and told at the request; a new key policy wakes the campaign."""
    with fresh_objects(api_client) as abroad:
        objects.create_key(
            reEncryption={"enabled": True}, policy=build_policy(objects.namespace, abroad.namespace, "Deny")
        )
        objects.wait_ready("main", plural=KEYS)
        objects.create_request("own")
        abroad.create_request("foreign", keyId=key_status(objects)["arn"])
        objects.wait_ready("own")
        abroad.wait_ready("foreign")
        material = rotate(objects)
        told = wait_phase(objects, "Waiting")
        assert (told["progress"], told["failed"]) == ("1/2", 1)
        assert eventually(lambda: "ReEncryptionFailed" in abroad.event_reasons("foreign"))
        assert abroad.condition(REQUESTS, "foreign")[:2] == ("True", "Issued")
        objects.patch(KEYS, "main", {"spec": {"policy": build_policy(objects.namespace, abroad.namespace)}})
        told = wait_phase(objects, "Complete")
        assert (told["progress"], told["failed"]) == ("2/2", 0)
        assert abroad.get(REQUESTS, "foreign")["status"]["keyMaterialId"] == material


def test_a_second_rotation_begins_a_second_campaign(rig: Rig, controller: Process, objects: Objects) -> None:
    """Three generations of one ciphertext give the same plaintext."""
    names = issue(objects, 2, enabled=True)
    pod, seen = start_pod(rig, objects.namespace), [blobs(objects, names)]
    for text in ("first", "second"):
        wait_finished(objects, rotate(objects, text))
        seen.append(blobs(objects, names))
    for name in names:
        assert len({it[name] for it in seen}) == 3
        assert len({decrypt(pod, it[name], objects.namespace, name) for it in seen}) == 1
    assert controller.calls("ReEncrypt") == 4
    assert eventually(lambda: secrets_follow(objects, seen[-1]))


def test_each_new_text_rotates_once(rig: Rig, controller: Process, objects: Objects) -> None:
    """Applying the same manifest again, or starting another controller, rotates nothing."""
    objects.create_key(rotateOnDemand="made-with-it")
    objects.wait_ready("main", plural=KEYS)
    wire = Wire(rig, objects.namespace)
    key_id = key_status(objects)["keyId"]

    def rotations() -> list[str]:
        answer = wire.call("ListKeyRotations", KeyId=key_id)
        return [entry["RotationType"] for entry in answer["Rotations"]]

    assert rotations() == []
    rotate(objects, "2026-11-25")
    assert eventually(lambda: key_status(objects)["onDemandRotation"] == {"request": "2026-11-25"})
    objects.patch(KEYS, "main", {"spec": {"rotateOnDemand": "2026-11-25", "description": "orders"}})
    objects.wait_condition(KEYS, "main", "True", "Applied", type_="Synced")
    controller.kill()
    second = rig.start_controller()
    second.wait_led()
    objects.patch(KEYS, "main", {"spec": {"description": "again"}})
    generation = objects.get(KEYS, "main")["metadata"]["generation"]
    assert eventually(lambda: key_status(objects)["observedGeneration"] == generation)
    assert rotations() == ["ON_DEMAND"]
    rotate(objects, "2026-11-26")
    assert rotations() == ["ON_DEMAND"] * 2
    assert second.stop() == 0


@pytest.mark.usefixtures("controller")
def test_the_controllers_token_re_encrypts_to_no_other_binding(rig: Rig, objects: Objects) -> None:
    """Stolen, it can't bind a data key to another ServiceAccount, nor bring it under another key."""
    (name,) = issue(objects, 1)
    objects.create_key("other")
    objects.wait_ready("other", plural=KEYS)
    wire, blob = Wire(rig, objects.namespace), blobs(objects, ["r0"])[name]
    arn, other = (objects.get(KEYS, it)["status"]["arn"] for it in ("main", "other"))
    bound = {
        "datakeys.dev/namespace": objects.namespace,
        "datakeys.dev/request": name,
        "datakeys.dev/service-account": "app",
    }

    def re_encrypt(destination: str, context: dict[str, str]) -> dict[str, Any]:
        return wire.call(
            "ReEncrypt",
            CiphertextBlob=blob,
            SourceKeyId=arn,
            SourceEncryptionContext=bound,
            DestinationKeyId=destination,
            DestinationEncryptionContext=context,
        )

    assert re_encrypt(arn, bound)["KeyId"] == arn
    for destination, context in (
        (arn, {**bound, "datakeys.dev/service-account": "thief"}),
        (arn, {"purpose": "mine"}),
        (other, bound),
    ):
        with pytest.raises(RefusedError, match="AccessDenied"):
            re_encrypt(destination, context)
