"""What happens to a key by calls of the key service shows in its KmsKey, and wakes what waits for it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller_fakes import (
    KEY_ARN,
    NAMESPACE,
    NOW,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    FakeRecorder,
    SimulatedController,
    build_request_body,
)
from controller_key_service import CREATED_SECONDS, KEY_ID, FakeKeyManagement
from datakeys.contract.errors import (
    AccessDeniedError,
    KeyDisabledError,
    KeyUnavailableError,
    KmsError,
    NotFoundError,
    UnknownOperationError,
)
from datakeys.controller import key_watch
from datakeys.controller.decisions.key_status import APPLIED, ObservedKey, build_key_status
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.observe_kms_key import LOOK_AGAIN_SECONDS, PACE, KmsKeyObserver
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.key_watch import KeyWatch
from datakeys.controller.keyservice_answers import ChangedKey, KeyChanges, KeyRotation
from datakeys.controller.kube.api import KEYS, REQUESTS
from datakeys.controller.kube.errors import ForbiddenError, UnavailableError
from datakeys.controller.work_queue import WorkQueue

MAIN = ObjectKey(NAMESPACE, "main")
CHANGE = ChangedKey(NAMESPACE, "main", KEY_ID)


@dataclass
class World:
    """An observer with one KmsKey that it knows, and what it talks to."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    service: FakeKeyManagement = field(default_factory=FakeKeyManagement)
    recorder: FakeRecorder = field(default_factory=FakeRecorder)
    keys: KeyMemory = field(default_factory=KeyMemory)
    entered: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        """Put the observer together."""
        self.api = FakeApi(self.cluster)
        untyped: Any = self.api
        service: Any = self.service
        recorder: Any = self.recorder
        self.observer = KmsKeyObserver(untyped, service, recorder, self.keys, self.enter)

    async def enter(self, namespace: str) -> None:
        """Take a namespace as entered, unless it is closed."""
        self.entered.append(namespace)
        if self.closed:
            raise ForbiddenError(403, "Forbidden", "not here")

    async def add_key(self, **more: Any) -> None:
        """Add the KmsKey as its handler has left it."""
        status = build_key_status(
            ObservedKey(self.service.key, self.service.rotation),
            conditions=[],
            synced=APPLIED,
            generation=1,
            now=NOW,
        )
        kept = {name: value for name, value in status.items() if value is not None}
        kept["rotation"] = {name: value for name, value in kept["rotation"].items() if value is not None}
        metadata = {"namespace": NAMESPACE, "name": "main", **more}
        stored = await self.cluster.put(KEYS, {"metadata": metadata, "spec": {}, "status": kept})
        await self.keys.observe(parse_key_facts(stored))

    @property
    def status(self) -> dict[str, Any]:
        """Return the status as stored."""
        body = self.cluster.find(KEYS, "main")
        assert body is not None
        return dict(body["status"])

    @property
    def ready(self) -> tuple[str, str]:
        """Return status and reason of Ready."""
        condition = self.status["conditions"][0]
        return condition["status"], condition["reason"]


@pytest.fixture
async def world() -> World:
    """Return a world with a KmsKey whose key is enabled."""
    world = World()
    await world.add_key()
    return world


async def test_namespace_of_a_key_gets_the_trust_bundle(world: World) -> None:
    """A pod with the KMS endpoint alone needs it, and has no DataKeyRequest that would bring it."""
    await world.observer.look(MAIN)
    assert world.entered == [NAMESPACE]


async def test_key_in_a_closed_namespace_is_followed_all_the_same(world: World) -> None:
    """The refusal is logged; the status still shows what the key is."""
    world.closed = True
    world.service.set(state="Disabled")
    assert await world.observer.look(MAIN) is None
    assert world.status["keyState"] == "Disabled"


async def test_look_that_finds_nothing_new_writes_nothing(world: World) -> None:
    """An unchanged key costs no write."""
    assert await world.observer.look(MAIN) is None
    assert world.cluster.writes == []


@pytest.mark.parametrize(
    ("state", "events"),
    [("Disabled", ["Disabled"]), ("PendingImport", ["Disabled"]), ("PendingDeletion", ["DeletionScheduled"])],
)
async def test_state_shows(world: World, state: str, events: list[str]) -> None:
    """A state that was changed by a call is written and told; it can be used again when it is enabled."""
    world.service.set(state=state, deletion_date=CREATED_SECONDS)
    assert await world.observer.look(MAIN) is None
    assert (world.status["keyState"], world.ready) == (state, ("False", state))
    assert world.recorder.reasons == events
    assert (world.status.get("deletionDate") is not None) == (state == "PendingDeletion")
    world.service.set(state="Enabled", deletion_date=None)
    await world.observer.look(MAIN)
    assert world.ready == ("True", "Enabled")
    assert world.recorder.reasons == [*events, "Enabled"]
    assert world.status["conditions"][1]["reason"] == "Applied"


async def test_rotation_and_material_show(world: World) -> None:
    """A rotation by a call shows the new material and the next date."""
    world.service.set(current_key_material_id="cd")
    world.service.rotation = KeyRotation(enabled=True, period_days=90, next_date=CREATED_SECONDS)
    await world.observer.look(MAIN)
    assert world.status["currentKeyMaterialId"] == "cd"
    assert world.status["rotation"] == {
        "enabled": True,
        "periodDays": 90,
        "nextRotationDate": "2026-01-01T00:00:00Z",
    }
    assert world.recorder.reasons == []


async def test_expiry_date_of_imported_material_shows(world: World) -> None:
    """ValidTo is in the status."""
    world.service.set(origin="EXTERNAL", valid_to=CREATED_SECONDS)
    await world.observer.look(MAIN)
    assert world.status["validTo"] == "2026-01-01T00:00:00Z"
    assert "rotation" not in world.status


async def test_destroyed_key_shows(world: World) -> None:
    """A key that is gone for good is told, once."""
    world.service.errors["DescribeKey"] = NotFoundError("gone")
    for _ in range(2):
        assert await world.observer.look(MAIN) is None
    assert world.ready == ("False", "NotFoundException")
    assert world.recorder.reasons == ["Deleted"]
    assert len(world.cluster.writes) == 1


async def test_changed_key_is_looked_at_twice(world: World) -> None:
    """A replica that lags behind the one that told can't leave an old state in the status."""
    world.observer.note_change(MAIN)
    assert await world.observer.look(MAIN) == LOOK_AGAIN_SECONDS
    assert await world.observer.look(MAIN) is None


@pytest.mark.parametrize(
    ("error", "again"), [(KeyUnavailableError("down"), True), (AccessDeniedError("no"), False)]
)
async def test_key_service_that_fails_is_asked_again_if_that_can_help(
    world: World, error: KmsError, again: bool
) -> None:
    """An outage is waited out with growing pauses of a minute at most; a refusal is left alone."""
    world.service.errors["DescribeKey"] = error
    delays = [await world.observer.look(MAIN) for _ in range(20)]
    assert [delay is not None for delay in delays] == [again] * 20
    if again:
        assert max(delay or 0 for delay in delays) == 60.0
    assert world.cluster.writes == []


async def test_key_service_without_rotation_still_shows_the_state(world: World) -> None:
    """A key service of an older version doesn't know the rotation; the state shows all the same."""
    world.service.errors["GetKeyRotationStatus"] = UnknownOperationError("what?")
    world.service.set(state="Disabled")
    assert await world.observer.look(MAIN) is None
    assert world.ready == ("False", "Disabled")


async def test_handler_that_writes_meanwhile_wins(world: World) -> None:
    """A status that has changed since it was read isn't overwritten: the key is looked at again."""

    async def meddle(call: str) -> None:
        if call == "patch kmskeys":
            body = world.cluster.find(KEYS, "main")
            assert body is not None
            await world.cluster.change(KEYS, NAMESPACE, body)

    untyped: Any = FakeApi(world.cluster, before=meddle)
    world.observer.api = untyped
    world.service.set(state="Disabled")
    assert await world.observer.look(MAIN) is not None
    assert world.ready == ("True", "Enabled")


async def test_api_server_that_fails_is_asked_again(world: World) -> None:
    """An outage of the API server delays the status, and loses nothing."""

    async def fail(call: str) -> None:
        del call
        raise UnavailableError(503, "Unavailable", "down")

    untyped: Any = FakeApi(world.cluster, before=fail)
    world.observer.api = untyped
    assert await world.observer.look(MAIN) is not None


async def test_object_that_is_going_or_unknown_is_left_alone() -> None:
    """No look at objects that are deleted, gone or without a key."""
    world = World()
    assert await world.observer.look(MAIN) is None
    await world.add_key(deletionTimestamp="2026-01-01T00:00:00Z")
    world.service.set(state="Disabled")
    assert await world.observer.look(MAIN) is None
    assert world.ready == ("True", "Enabled")
    await world.cluster.remove(KEYS, "main")
    assert await world.observer.look(MAIN) is None
    assert world.cluster.writes == []


async def test_looks_at_all_keys_are_spread() -> None:
    """A resync of many keys makes a bounded number of calls per second, and the pace starts anew after it."""
    observer = World().observer
    delays = [observer.next_delay() for _ in range(41)]
    assert delays[0] == pytest.approx(0.0, abs=0.01)
    assert delays[-1] == pytest.approx(40 / PACE, abs=0.05)


@dataclass
class Feed:
    """The key service's answers to WatchKeys, one after the other; then it is silent."""

    answers: list[KeyChanges | KmsError]
    cursors: list[str] = field(default_factory=list)

    async def watch_keys(self, cursor: str) -> KeyChanges:
        """Return the next answer."""
        self.cursors.append(cursor)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, KmsError):
            raise answer
        return answer


@dataclass
class Following:
    """A watch over a feed, with a queue that isn't worked on."""

    feed: Feed
    world: World = field(default_factory=World)
    now: float = 0.0

    def __post_init__(self) -> None:
        """Put the watch together."""
        self.controller = SimulatedController(FakeApi(self.world.cluster), FakeKeyService())
        self.queue = WorkQueue(self.world.observer.look, workers=1)
        feed: Any = self.feed
        self.watch = KeyWatch(
            feed,
            self.world.observer,
            self.queue,
            self.controller.wakeups,
            self.controller.re_encryptions,
            self.world.keys,
            "cluster-1",
            lambda: self.now,
        )

    async def run(self) -> None:
        """Follow until the feed is silent."""
        answers = len(self.feed.answers)
        task = asyncio.create_task(self.watch.run())
        async with asyncio.timeout(60):
            while len(self.feed.cursors) <= answers:  # noqa: ASYNC110 - the event loop goes on meanwhile
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let answers follow each other at once."""
    monkeypatch.setattr(key_watch, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(key_watch, "_MAX_PAUSE_SECONDS", 0)


async def test_changed_key_is_looked_at(world: World) -> None:
    """A change leads to the KmsKey that the key was made for; the next call goes on from there."""
    following = Following(Feed([KeyChanges((CHANGE,), "e.2", resync=False)]), world)
    await following.run()
    assert following.queue.waiting_keys() == (MAIN,)
    assert following.feed.cursors == ["", "e.2"]


async def test_key_of_no_object_is_not_looked_at(world: World) -> None:
    """A key that was made by a call has no status to keep."""
    made_by_call = ChangedKey(NAMESPACE, "", KEY_ID)
    following = Following(Feed([KeyChanges((made_by_call,), "e.2", resync=False)]), world)
    await following.run()
    assert following.queue.waiting_keys() == ()


async def test_resync_looks_at_every_key(world: World) -> None:
    """When changes may have been missed, all KmsKeys are looked at."""
    following = Following(Feed([KeyChanges((), "e.9", resync=True)]), world)
    await following.run()
    assert following.queue.waiting_keys() == (MAIN,)


async def test_every_quarter_of_an_hour_all_keys_are_looked_at(world: World) -> None:
    """A safety net: whatever got lost shows within 15 minutes."""
    silence = KeyChanges((), "e.1", resync=False)
    following = Following(Feed([silence]), world)
    await following.run()
    assert following.queue.waiting_keys() == ()
    following = Following(Feed([silence]), world)
    clock = iter([0.0, key_watch.RESYNC_SECONDS, key_watch.RESYNC_SECONDS])
    following.watch.clock = lambda: next(clock)
    await following.run()
    assert following.queue.waiting_keys() == (MAIN,)


async def test_outage_is_waited_out_with_the_same_cursor(world: World) -> None:
    """After failures the watch goes on from where it was."""
    down = KeyUnavailableError("down")
    change = KeyChanges((CHANGE,), "e.2", resync=False)
    following = Following(Feed([KeyChanges((), "e.1", resync=False), down, down, change]), world)
    await following.run()
    assert following.feed.cursors == ["", "e.1", "e.1", "e.1", "e.2"]
    assert following.queue.waiting_keys() == (MAIN,)


@pytest.fixture
async def waiting(world: World) -> AsyncIterator[Following]:
    """Return a watch with a request on a key of another namespace, which was refused."""
    following = Following(Feed([]), world)
    key_service: Any = following.controller.reconciler.keyservice
    key_service.error = AccessDeniedError("no")
    arn = KEY_ARN.replace(NAMESPACE, "infra")
    await world.cluster.put(REQUESTS, build_request_body(keyId=arn))
    await following.controller.settle()
    assert following.controller.condition()["reason"] == "AccessDeniedException"
    following.controller.queue._waiting.clear()
    following.controller.queue._queued.clear()
    yield following
    following.controller.secrets.close()


async def test_request_hears_of_a_key_of_another_namespace(waiting: Following) -> None:
    """A changed policy of a key without KmsKey lets a refused request of another namespace go on."""
    waiting.watch.take(KeyChanges((ChangedKey("infra", "", KEY_ID),), "e.2", resync=False))
    assert waiting.controller.queue.waiting_keys() == (ObjectKey(NAMESPACE, "orders"),)
    key_service: Any = waiting.controller.reconciler.keyservice
    key_service.error = None
    await waiting.controller.settle()
    assert waiting.controller.condition()["reason"] == "Issued"


@pytest.mark.parametrize("changed", [ChangedKey("third", "", KEY_ID), ChangedKey("infra", "", "another")])
async def test_request_sleeps_on_when_another_key_changes(waiting: Following, changed: ChangedKey) -> None:
    """Only the key that a request names, in the namespace that it names, wakes it."""
    waiting.watch.take(KeyChanges((changed,), "e.2", resync=False))
    assert waiting.controller.queue.waiting_keys() == ()


async def test_dry_run_heals_until_it_has_succeeded_once(world: World) -> None:
    """A dry run that failed is looked at again when its key changes; one that succeeded is final."""
    following = Following(Feed([]), world)
    controller = following.controller
    key_service: Any = controller.reconciler.keyservice
    key_service.error = KeyDisabledError("off")
    await world.cluster.put(REQUESTS, build_request_body(dryRun=True))
    await controller.settle()
    assert (controller.condition()["type"], controller.condition()["reason"]) == (
        "DryRun",
        "DisabledException",
    )
    key_service.error = None
    following.watch.take(KeyChanges((CHANGE,), "e.2", resync=False))
    assert controller.queue.waiting_keys() == (ObjectKey(NAMESPACE, "orders"),)
    await controller.settle()
    assert (controller.condition()["status"], controller.condition()["reason"]) == (
        "True",
        "DryRunOperationException",
    )
    calls = key_service.calls
    key_service.error = KeyDisabledError("off")
    following.watch.take(KeyChanges((CHANGE,), "e.3", resync=False))
    await controller.settle()
    assert key_service.calls == calls
    assert controller.condition()["status"] == "True"
    assert key_service.made == []
    assert controller.secret() is None
