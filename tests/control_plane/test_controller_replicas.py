"""Crashes, rivals and outages: real processes that are killed, frozen and started again."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from controller_rig import SHORT_LEASE, Process, Rig, running_rig
from custom_objects import KEYS, REQUESTS, Objects, fresh_objects
from waiting import eventually, read_at_rest


@pytest.fixture
def rig(control_plane: Path, api_client: client.ApiClient, tmp_path: Path) -> Iterator[Rig]:
    """Run one key service for a test."""
    with running_rig(control_plane, api_client, tmp_path) as rig:
        rig.start_keyservice()
        yield rig


@pytest.fixture
def objects(rig: Rig) -> Iterator[Objects]:
    """Give a namespace of its own to a test."""
    with fresh_objects(rig.api) as objects:
        yield objects


def holder(rig: Rig) -> str:
    """Return who holds the Lease."""
    leases = client.CoordinationV1Api(rig.api).list_namespaced_lease(rig.installation.namespace).items
    return next((str(lease.spec.holder_identity) for lease in leases if lease.spec), "")


def leaders(*processes: Process) -> list[Process]:
    """Return the processes that are alive and lead."""
    return [process for process in processes if process.popen.poll() is None and process.is_leader()]


def test_standby_takes_over_after_a_crash(rig: Rig, objects: Objects) -> None:
    """Of two replicas one leads; when it is killed the other finishes the work, with one ciphertext each."""
    first = rig.start_controller("one", **SHORT_LEASE)
    first.wait_led()
    second = rig.start_controller("two", **SHORT_LEASE)
    assert eventually(lambda: second.answers("/readyz") == 200)
    assert leaders(first, second) == [first]
    assert holder(rig) == "one"
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    names = [f"r{number}" for number in range(30)]
    for name in names:
        objects.create_request(name)
    first.kill()
    second.wait_led()
    objects.wait_ready(*names)
    for name in names:
        blob = objects.get(REQUESTS, name)["status"]["ciphertextBlob"]
        assert objects.secret(name).data["ciphertextBlob"] == blob
    assert second.stop() == 0


def test_clean_exit_hands_over_at_once(rig: Rig) -> None:
    """A leader that is asked to end gives its Lease back, so that the other needn't wait for it to expire."""
    settings = {"DATAKEYS_LEASE_SECONDS": "600", "DATAKEYS_RENEW_DEADLINE_SECONDS": "400"}
    first = rig.start_controller("one", **settings)
    first.wait_led()
    second = rig.start_controller("two", **settings)
    assert eventually(lambda: second.answers("/readyz") == 200)
    assert first.stop() == 0
    second.wait_led()
    assert second.stop() == 0


def test_frozen_leader_ends_when_it_wakes(rig: Rig, objects: Objects) -> None:
    """A leader that was frozen past its Lease ends at once, and the other goes on working."""
    first = rig.start_controller("one", **SHORT_LEASE)
    first.wait_led()
    second = rig.start_controller("two", **SHORT_LEASE)
    first.pause()
    second.wait_led()
    first.resume()
    assert eventually(lambda: first.popen.poll() is not None)
    assert first.popen.returncode == 1
    objects.create_key()
    objects.create_request("orders")
    objects.wait_ready("orders")
    assert second.stop() == 0


def test_standby_ends_when_asked(rig: Rig) -> None:
    """A standby says that it is ready, answers its probes and ends cleanly without ever having led."""
    first = rig.start_controller("one")
    first.wait_led()
    second = rig.start_controller("two")
    assert eventually(lambda: second.answers("/readyz") == 200)
    assert second.answers("/healthz") == 200
    assert eventually(lambda: '"message": "ready"' in second.log.read_text())
    assert second.stop() == 0
    assert not second.is_leader()
    assert first.stop() == 0


def test_two_leaders_at_once_leave_one_ciphertext(rig: Rig, objects: Objects) -> None:
    """Two controllers without election, both at work on the same requests, leave one ciphertext each."""
    both = [rig.start_controller(name, DATAKEYS_LEADER_ELECTION="false") for name in ("one", "two")]
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    names = [f"r{number}" for number in range(40)]
    for name in names:
        objects.create_request(name)
    objects.wait_ready(*names)
    read_at_rest(objects.versions)
    blobs = {}
    for name in names:
        status = objects.get(REQUESTS, name)["status"]
        assert objects.secret(name).data["ciphertextBlob"] == status["ciphertextBlob"]
        blobs[name] = status["ciphertextBlob"]
    assert len(set(blobs.values())) == len(names)
    assert [process.stop() for process in both] == [0, 0]


def test_outage_of_the_key_service_is_told_and_ends_by_itself(rig: Rig, objects: Objects) -> None:
    """Without key service a request says Retrying with the error's name, and is issued once it is back."""
    controller = rig.start_controller()
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    keyservice = rig.processes[0]
    keyservice.kill()
    objects.create_request("orders")
    message = objects.wait_condition(REQUESTS, "orders", "False", "Retrying")
    assert message.startswith("KeyUnavailableException")
    assert "Next attempt at" in message
    rig.start_keyservice()
    objects.wait_ready("orders")
    assert controller.stop() == 0


def test_deletion_of_a_key_waits_for_the_key_service(rig: Rig, objects: Objects) -> None:
    """A KmsKey that is deleted during an outage goes once its deletion is scheduled."""
    controller = rig.start_controller()
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    rig.processes[0].kill()
    objects.delete(KEYS, "main")
    time.sleep(2)
    assert objects.exists(KEYS, "main")
    rig.start_keyservice()
    assert eventually(lambda: not objects.exists(KEYS, "main"))
    assert eventually(lambda: "DeletionScheduled" in objects.event_reasons("main"))
    assert controller.stop() == 0
