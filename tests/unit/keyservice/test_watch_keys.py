"""The controller hears of every changed key at once, from any replica, and nobody else hears anything."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.key_types import KeyOrigin, KeySpec, KeyState, KeyUsage
from datakeys.keyservice.store import key_changes
from datakeys.keyservice.store.key_changes import ChangedKey, KeyChanges
from datakeys.keyservice.store.records import KeyRecord
from keyservice_rig import DispatchRig

ACCOUNT = {"x_datakeys_account": "team-a"}
TARGET = {"x_amz_target": "DatakeysController.WatchKeys"}


def record(key_id: str, object_name: str = "main", account: str = "team-a") -> KeyRecord:
    """Return a key."""
    return KeyRecord(
        key_id=key_id,
        account=account,
        key_spec=KeySpec.SYMMETRIC_DEFAULT,
        key_usage=KeyUsage.ENCRYPT_DECRYPT,
        origin=KeyOrigin.AWS_KMS,
        state=KeyState.ENABLED,
        created_at=0.0,
        object_name=object_name,
    )


def ids(changes: key_changes.Changes) -> list[str]:
    """Return the key ids of an answer."""
    return [key.key_id for key in changes.keys]


def test_first_look_is_a_resync_and_gives_a_cursor() -> None:
    """A reader without a cursor is told to look at every key; from then on it hears of changes only."""
    changes = KeyChanges("e1")
    changes.note("k1", record("k1"))
    first = changes.since("")
    assert (first.resync, first.keys) == (True, ())
    assert changes.since(first.cursor) == key_changes.Changes((), first.cursor)
    changes.note("k2", record("k2"))
    later = changes.since(first.cursor)
    assert (later.resync, later.keys) == (False, (ChangedKey("team-a", "main", "k2"),))
    assert changes.since(later.cursor).keys == ()


def test_each_key_is_told_once_in_the_order_of_its_latest_change() -> None:
    """A key that changes often is one entry."""
    changes = KeyChanges("e1")
    cursor = changes.since("").cursor
    for key_id in ("k1", "k2", "k1"):
        changes.note(key_id, record(key_id))
    assert ids(changes.since(cursor)) == ["k2", "k1"]


def test_destroyed_key_is_told_with_its_object() -> None:
    """A key whose record is gone is told as the one that it was; an unknown one isn't told."""
    changes = KeyChanges("e1")
    changes.note("k1", record("k1", "orders"))
    cursor = changes.since("").cursor
    changes.note("k1", None)
    changes.note("never seen", None)
    assert changes.since(cursor).keys == (ChangedKey("team-a", "orders", "k1"),)


def test_cursor_outlives_a_move_between_replicas() -> None:
    """A reader that is moved to and fro misses nothing, and looks at every key once per replica only."""
    one, two = KeyChanges("e1"), KeyChanges("e2")
    cursor = one.since("").cursor
    moved = two.since(cursor)
    assert moved.resync
    for replica in (one, two):
        replica.note("k1", record("k1"))
    at_one = one.since(moved.cursor)
    assert (at_one.resync, ids(at_one)) == (False, ["k1"])
    at_two = two.since(at_one.cursor)
    assert (at_two.resync, ids(at_two)) == (False, ["k1"])


def test_cursor_of_a_restarted_replica_is_a_resync() -> None:
    """A new process counts under a new epoch, whatever number the old one had reached."""
    cursor = KeyChanges("old").since("").cursor
    assert KeyChanges("new").since(cursor).resync


@pytest.mark.parametrize("cursor", ["e1.99", "e1.-1", "e1", "e1.x", ",,,", "e1.\u0663", "e1." + "9" * 99])
def test_impossible_cursor_is_a_resync(cursor: str) -> None:
    """A cursor that this process can't have given out loses nothing: everything is looked at."""
    assert KeyChanges("e1").since(cursor).resync


def test_reader_that_is_too_far_behind_looks_at_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten isn't skipped in silence."""
    monkeypatch.setattr(key_changes, "MAX_REMEMBERED", 2)
    changes = KeyChanges("e1")
    cursor = changes.since("").cursor
    changes.note("k1", record("k1"))
    after_one = changes.since(cursor).cursor
    for key_id in ("k2", "k3"):
        changes.note(key_id, record(key_id))
    assert changes.since(cursor).resync
    assert ids(changes.since(after_one)) == ["k2", "k3"]


def test_long_answer_goes_on_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is bounded, and its cursor is where it ends."""
    monkeypatch.setattr(key_changes, "MAX_PER_ANSWER", 2)
    changes = KeyChanges("e1")
    cursor = changes.since("").cursor
    for key_id in ("k1", "k2", "k3"):
        changes.note(key_id, record(key_id))
    first = changes.since(cursor)
    assert (ids(first), ids(changes.since(first.cursor))) == (["k1", "k2"], ["k3"])


def test_cursor_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas come and go; the cursor keeps the latest ones."""
    monkeypatch.setattr(key_changes, "MAX_EPOCHS", 3)
    cursor = ""
    for number in range(9):
        cursor = KeyChanges(f"e{number}").since(cursor).cursor
    assert cursor == "e6.0,e7.0,e8.0"


@pytest.fixture
def controller(dispatch_rig: DispatchRig) -> Iterator[str]:
    """Return the controller's token, at the real time."""
    dispatch_rig.rig.clock.now = time.time()
    yield dispatch_rig.issuer.token("datakey-system", "datakeys-controller", in_pod=True)
    dispatch_rig.rig.service.changes.close()


def read(audit_file: Path) -> str:
    """Return the audit records."""
    return audit_file.read_text()


async def watch(
    rig: DispatchRig, token: str | None, cursor: str = "", wait_seconds: int = 0
) -> dict[str, Any]:
    """Return the answer to one call."""
    body = {"Cursor": cursor, "WaitSeconds": wait_seconds}
    _, answer, _ = await rig.send("", body, token, **TARGET)
    return answer


async def test_change_ends_the_waiting(dispatch_rig: DispatchRig, controller: str) -> None:
    """A waiting reader is answered as soon as a key changes, from a thread of its own or not."""
    cursor = (await watch(dispatch_rig, controller))["Cursor"]
    waiting = asyncio.create_task(watch(dispatch_rig, controller, cursor, wait_seconds=30))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    _, created, _ = await dispatch_rig.send("CreateKey", {}, controller, **ACCOUNT)
    answer = await asyncio.wait_for(waiting, 20)
    key_id = created["KeyMetadata"]["KeyId"]
    assert answer["Keys"] == [{"Account": "team-a", "ObjectName": "", "KeyId": key_id}]
    assert not answer["Resync"]


@pytest.mark.parametrize("operation", ["DisableKey", "ScheduleKeyDeletion"])
async def test_every_management_call_is_told(
    dispatch_rig: DispatchRig, controller: str, operation: str
) -> None:
    """State changes on the wire are told; a read isn't."""
    headers = {**ACCOUNT, "x_datakeys_object_name": "main"}
    _, created, _ = await dispatch_rig.send("CreateKey", {}, controller, **headers)
    key_id = created["KeyMetadata"]["KeyId"]
    cursor = (await watch(dispatch_rig, controller))["Cursor"]
    await dispatch_rig.send("DescribeKey", {"KeyId": key_id}, controller, **ACCOUNT)
    assert (await watch(dispatch_rig, controller, cursor))["Keys"] == []
    await dispatch_rig.send(operation, {"KeyId": key_id}, controller, **ACCOUNT)
    answer = await watch(dispatch_rig, controller, cursor)
    assert answer["Keys"] == [{"Account": "team-a", "ObjectName": "main", "KeyId": key_id}]


async def test_alias_that_leads_to_a_key_is_told(dispatch_rig: DispatchRig, controller: str) -> None:
    """A new, a moved and a deleted alias are changes of the keys that they lead to."""
    keys = []
    for name in ("one", "two"):
        headers = {**ACCOUNT, "x_datakeys_object_name": name}
        _, created, _ = await dispatch_rig.send("CreateKey", {}, controller, **headers)
        keys.append(created["KeyMetadata"]["KeyId"])
    cursor = (await watch(dispatch_rig, controller))["Cursor"]
    for operation, target, told in (
        ("CreateAlias", keys[0], "one"),
        ("UpdateAlias", keys[1], "two"),
        ("DeleteAlias", None, "two"),
    ):
        body = {"AliasName": "alias/a"} | ({"TargetKeyId": target} if target else {})
        status, _, _ = await dispatch_rig.send(operation, body, controller, **ACCOUNT)
        assert status == 200
        answer = await watch(dispatch_rig, controller, cursor)
        assert [key["ObjectName"] for key in answer["Keys"]] == [told]
        cursor = answer["Cursor"]


async def test_many_waiters_take_no_thread(dispatch_rig: DispatchRig, controller: str) -> None:
    """A hundred waiting readers run in the event loop, and all are answered when the service ends."""
    cursor = (await watch(dispatch_rig, controller))["Cursor"]
    before = threading.active_count()
    waiting = [asyncio.create_task(watch(dispatch_rig, controller, cursor, 30)) for _ in range(100)]
    await asyncio.sleep(0.05)
    assert threading.active_count() == before
    dispatch_rig.rig.service.changes.close()
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert all(answer["Keys"] == [] for answer in answers)
    again = await asyncio.wait_for(watch(dispatch_rig, controller, cursor, 30), 20)
    assert again["Keys"] == []


async def test_waiting_ends_by_itself(dispatch_rig: DispatchRig, controller: str) -> None:
    """Without a change the answer comes after the time, with the same cursor."""
    cursor = (await watch(dispatch_rig, controller))["Cursor"]
    started = time.monotonic()
    answer = await watch(dispatch_rig, controller, cursor, wait_seconds=1)
    assert answer["Cursor"] == cursor
    assert 0.9 < time.monotonic() - started < 20


async def test_nobody_else_may_watch(dispatch_rig: DispatchRig, controller: str, audit_file: Path) -> None:
    """A pod, a ServiceAccount and a stranger are refused at once, and that is on record."""
    del controller
    denied = {
        "__type": "AccessDeniedException",
        "message": "The caller is not authorized to perform this operation.",
    }
    for in_pod in (True, False):
        token = dispatch_rig.issuer.token("team-a", "app", in_pod=in_pod)
        assert await watch(dispatch_rig, token, wait_seconds=30) == denied
    assert (await watch(dispatch_rig, None))["__type"] == "MissingAuthenticationTokenException"
    written = [json.loads(line) for line in read(audit_file).splitlines()]
    assert [(item["eventName"], item["errorCode"]) for item in written[:2]] == [
        ("WatchKeys", "AccessDeniedException"),
        ("WatchKeys", "AccessDeniedException"),
    ]


async def test_answers_to_the_controller_are_not_recorded(
    dispatch_rig: DispatchRig, controller: str, audit_file: Path
) -> None:
    """A successful answer touches no key and leaves no record."""
    await watch(dispatch_rig, controller)
    assert read(audit_file) == ""


async def test_it_is_no_operation_of_kms(dispatch_rig: DispatchRig, controller: str) -> None:
    """Under the AWS target prefix the verb doesn't exist."""
    _, answer, _ = await dispatch_rig.send("WatchKeys", {}, controller, **ACCOUNT)
    assert answer["__type"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("body", "code", "member"),
    [
        ({"Cursor": "x" * 1025}, "ValidationException", "cursor"),
        ({"Cursor": 5}, "SerializationException", "Cursor"),
        ({"WaitSeconds": 31}, "ValidationException", "waitSeconds"),
        ({"WaitSeconds": "1"}, "SerializationException", "WaitSeconds"),
    ],
)
async def test_bad_members_are_named(
    dispatch_rig: DispatchRig, controller: str, body: dict[str, Any], code: str, member: str
) -> None:
    """A broken request is refused without waiting, by the member's name."""
    _, answer, _ = await dispatch_rig.send("", body, controller, **TARGET)
    assert answer["__type"] == code
    assert member.lower() in answer["message"].lower()
