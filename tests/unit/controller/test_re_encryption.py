"""A campaign: every request once, at its rate, paused and resumed, counted and told."""

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller_fakes import (
    KEY_ARN,
    MATERIAL,
    NAMESPACE,
    NOW,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_key_body,
    build_request_body,
)
from datakeys.contract.crd.kmskey import ReEncryptionPhase
from datakeys.contract.errors import AccessDeniedError, KeyUnavailableError
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.re_encryption import (
    Progress,
    ReEncryptionWish,
    build_report,
    decide_phase,
)
from datakeys.controller.decisions.request_view import ObjectKey, parse_request
from datakeys.controller.handlers import re_encrypt_requests
from datakeys.controller.kube.api import KEYS, REQUESTS, SECRETS, Json
from datakeys.controller.kube.errors import ConflictError, UnavailableError

NEW_MATERIAL = "cd" * 32
MAIN = ObjectKey(NAMESPACE, "main")
ON = ReEncryptionWish(enabled=True)
TIME = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("wish", "progress", "usable", "phase"),
    [
        (ReEncryptionWish(), Progress(5, 3, 0, 0), True, "Idle"),
        (ON, Progress(5, 3, 0, 0), True, "Running"),
        (ON, Progress(5, 3, 3, 2), True, "Running"),
        (ON, Progress(5, 3, 3, 3), True, "Waiting"),
        (ON, Progress(5, 3, 0, 0), False, "Waiting"),
        (ON, Progress(5, 0, 0, 0), True, "Complete"),
        (ON, Progress(0, 0, 0, 0), False, "Complete"),
        (ReEncryptionWish(enabled=True, paused=True), Progress(5, 3, 0, 0), True, "Paused"),
        (ReEncryptionWish(enabled=True, paused=True), Progress(5, 0, 0, 0), True, "Complete"),
    ],
)
def test_phase(wish: ReEncryptionWish, progress: Progress, usable: bool, phase: str) -> None:
    assert decide_phase(wish, progress, usable=usable) == phase


def report(told: Json, phase: str, progress: Progress, material: str = "m") -> tuple[Json, bool, bool] | None:
    built = build_report(told, ReEncryptionPhase(phase), progress, material_id=material, now=NOW)
    return None if built is None else (built.status, built.started, built.finished)


STARTED = {
    "phase": "Running",
    "progress": "2/5",
    "done": 2,
    "total": 5,
    "failed": 1,
    "keyMaterialId": "m",
    "startedAt": "2025-12-31T00:00:00Z",
}
FINISHED = {
    **STARTED,
    "phase": "Complete",
    "progress": "5/5",
    "done": 5,
    "failed": 0,
    "finishedAt": "2025-12-31T01:00:00Z",
}


def test_a_campaign_tells_its_beginning_and_its_end() -> None:
    begun = report({}, "Running", Progress(5, 3, 1, 1))
    assert begun == ({**STARTED, "startedAt": TIME, "finishedAt": None}, True, False)
    assert report(STARTED, "Running", Progress(5, 3, 1, 1)) is None
    ended = report(STARTED, "Complete", Progress(5, 0, 0, 0))
    assert ended == ({**FINISHED, "finishedAt": TIME}, False, True)


def test_a_campaign_that_has_ended_is_told_no_more_until_the_material_changes() -> None:
    assert report(FINISHED, "Complete", Progress(6, 0, 0, 0)) is None
    again = report(FINISHED, "Running", Progress(6, 6, 0, 0), "m2")
    assert again is not None
    assert (again[0]["startedAt"], again[0]["finishedAt"], again[1:]) == (TIME, None, (True, False))


def test_a_late_request_under_old_material_begins_again() -> None:
    again = report(FINISHED, "Running", Progress(6, 1, 0, 0))
    assert again is not None
    assert (again[0]["progress"], again[0]["finishedAt"], again[1]) == ("5/6", None, True)


def test_nothing_to_do_is_complete_without_news() -> None:
    done = report({}, "Complete", Progress(5, 0, 0, 0))
    assert done is not None
    assert (done[0]["phase"], done[0]["progress"], done[1:]) == ("Complete", "5/5", (False, False))


def test_a_campaign_that_is_switched_off_is_idle_and_keeps_its_count() -> None:
    assert report(STARTED, "Idle", Progress(5, 3, 0, 0)) == ({**STARTED, "phase": "Idle"}, False, False)
    assert report({**STARTED, "phase": "Idle"}, "Idle", Progress(5, 3, 0, 0)) is None
    assert report({}, "Idle", Progress(5, 3, 0, 0)) is None
    assert report(FINISHED, "Idle", Progress(5, 0, 0, 0)) is None


class World:
    """Requests under one KmsKey, a key service, and a controller whose queues run."""

    def __init__(self) -> None:
        self.cluster, self.service = FakeCluster(), FakeKeyService()
        #: Call -> what is raised by it, one after another.
        self.failures: dict[str, list[Exception]] = {}
        self.controller = self._start()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def told(self) -> Json:
        """Return status.reEncryption."""
        body = self.cluster.find(KEYS, "main")
        assert body is not None
        return dict(body["status"].get("reEncryption") or {})

    async def issue(self, count: int, **spec: Any) -> None:
        """Issue requests under the first material."""
        await self.cluster.put(KEYS, self._key())
        for number in range(count):
            name = f"orders-{number}"
            await self.cluster.put(REQUESTS, build_request_body(name, **spec))
            assert await self.controller.settle(name) is None

    async def rotate(self, **wish: Any) -> None:
        """Let the key have new material, and ask for a campaign."""
        self.service.material = NEW_MATERIAL
        await self.ask(**wish)

    async def ask(self, **wish: Any) -> None:
        """Change spec.reEncryption, and let the controller see it."""
        body = self.cluster.find(KEYS, "main")
        assert body is not None
        spec = {**body["spec"], "reEncryption": {"enabled": True, "requestsPerSecond": 200, **wish}}
        status = {**body["status"], "currentKeyMaterialId": self.service.material}
        changed = await self.cluster.change(KEYS, NAMESPACE, {**body, "spec": spec, "status": status})
        self._run()
        await self.controller.see_key(changed)

    async def reach(self, phase: str) -> None:
        """Wait for a phase."""
        async with asyncio.timeout(60):
            while self.told.get("phase") != phase:
                async with self.cluster.changed:
                    await self.cluster.changed.wait()

    async def restart(self) -> None:
        """Replace the controller by a new one, as after a crash, and let it see the KmsKey first."""
        await self.stop()
        self.controller = self._start()
        self._run()
        await self.controller.see_key(copy.deepcopy(self.cluster.find(KEYS, "main") or {}))

    async def stop(self) -> None:
        """End the controller."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.controller.secrets.close()

    def materials(self) -> set[str]:
        """Return the materials of all versions of all requests and of their Secrets."""
        found = set()
        for (plural, _, _), body in self.cluster.objects.items():
            if plural == "datakeyrequests":
                status = body["status"]
                found |= {status["keyMaterialId"]}
                found |= {it["keyMaterialId"] for it in status.get("previousVersions", [])}
        return found

    def secrets_follow(self) -> bool:
        """Return whether every Secret holds what its request's status says."""
        for (plural, _, name), body in self.cluster.objects.items():
            if plural != "datakeyrequests":
                continue
            status = body["status"]
            held = {status["secretRef"]["name"]: status["ciphertextBlob"]} | {
                it["secretName"]: it["ciphertextBlob"] for it in status.get("previousVersions", [])
            }
            for secret_name, blob in held.items():
                secret = self.controller.secret(secret_name)
                if secret is None or secret["data"]["ciphertextBlob"] != blob:
                    return False
            assert held, name
        return True

    def _key(self) -> Json:
        body = build_key_body()
        body["status"]["currentKeyMaterialId"] = MATERIAL
        return body

    def _start(self) -> SimulatedController:
        return SimulatedController(FakeApi(self.cluster, before=self._maybe_fail), self.service)

    async def _maybe_fail(self, call: str) -> None:
        if self.failures.get(call):
            raise self.failures[call].pop(0)

    def _run(self) -> None:
        if not self._tasks:
            for queue in (self.controller.queue, self.controller.slices):
                self._tasks.append(asyncio.create_task(queue.run()))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Give a world in which slices are short."""
    monkeypatch.setattr(re_encrypt_requests, "SLICE_SECONDS", 0.05)
    monkeypatch.setattr(re_encrypt_requests, "_KUBE_RETRY_SECONDS", 0.01)
    world = World()
    yield world
    await world.stop()


async def test_every_request_is_re_encrypted_once_and_its_secret_follows(world: World) -> None:
    await world.issue(12)
    await world.rotate()
    await world.reach("Complete")
    assert (world.told["progress"], world.told["failed"]) == ("12/12", 0)
    assert world.service.re_encryptions == 12
    assert world.materials() == {NEW_MATERIAL}
    assert world.secrets_follow()
    reasons = [it for it in world.controller.recorder.reasons if it.startswith("ReEncryption")]
    assert reasons == ["ReEncryptionStarted", "ReEncryptionComplete"]
    status = world.controller.status("orders-0")
    assert status["formerKeyMaterialId"] == MATERIAL
    assert status["ciphertextBlob"] != status["formerCiphertextBlob"]


async def test_all_versions_are_re_encrypted_with_one_write(world: World) -> None:
    await world.issue(1, version=3)
    before = len(world.cluster.writes)
    await world.rotate()
    await world.reach("Complete")
    assert world.service.re_encryptions == 3
    assert world.materials() == {NEW_MATERIAL}
    assert world.secrets_follow()
    patches = [it for it in world.cluster.writes[before:] if it.plural == "datakeyrequests/status"]
    assert len(patches) == 1


async def test_requests_of_other_namespaces_are_counted_and_done(world: World) -> None:
    await world.issue(2)
    body = build_request_body("abroad")
    body["metadata"]["namespace"] = "elsewhere"
    stored = await world.cluster.put(REQUESTS, body)
    view = parse_request(stored)
    world.controller.wakeups.on_request(view)
    assert await world.controller.reconciler.reconcile(view.key) is None
    await world.rotate()
    await world.reach("Complete")
    assert world.told["progress"] == "3/3"
    abroad = world.cluster.objects["datakeyrequests", "elsewhere", "abroad"]
    assert abroad["status"]["keyMaterialId"] == NEW_MATERIAL


async def test_a_paused_campaign_waits_and_goes_on(world: World) -> None:
    await world.issue(4)
    await world.rotate(paused=True)
    await world.reach("Paused")
    assert (world.told["progress"], world.service.re_encryptions) == ("0/4", 0)
    await world.ask(paused=False)
    await world.reach("Complete")
    assert world.service.re_encryptions == 4


async def test_the_rate_is_kept(world: World) -> None:
    await world.issue(6)
    started = asyncio.get_running_loop().time()
    await world.rotate(requestsPerSecond=10)
    await world.reach("Complete")
    assert asyncio.get_running_loop().time() - started >= 0.5


async def test_a_new_controller_goes_on_where_the_old_one_died(world: World) -> None:
    """It counts all requests, though it has seen none yet, and does only those that are left."""
    await world.issue(10)
    await world.rotate(requestsPerSecond=20)
    await world.reach("Running")
    started_at = world.told["startedAt"]
    await world.restart()
    await world.reach("Complete")
    assert (world.told["progress"], world.told["startedAt"]) == ("10/10", started_at)
    assert world.service.re_encryptions <= 11
    assert world.secrets_follow()


async def test_a_completed_campaign_costs_a_new_controller_no_write(world: World) -> None:
    await world.issue(2)
    await world.rotate()
    await world.reach("Complete")
    before = len(world.cluster.writes)
    await world.restart()
    await asyncio.sleep(0.1)
    assert len(world.cluster.writes) == before


async def test_a_refusal_is_counted_told_once_and_ends_when_the_key_changes(world: World) -> None:
    await world.issue(3)
    world.service.error = AccessDeniedError("no")
    await world.rotate()
    await world.reach("Waiting")
    assert (world.told["failed"], world.told["progress"]) == (3, "0/3")
    assert world.controller.recorder.reasons.count("ReEncryptionFailed") == 3
    assert world.controller.condition("orders-0")["reason"] == "Issued"
    world.service.error = None
    facts = parse_key_facts(copy.deepcopy(world.cluster.find(KEYS, "main") or {}))
    world.controller.re_encryptions.on_changed_keys([facts])
    await world.reach("Complete")
    assert world.told["failed"] == 0


async def test_a_blip_is_tried_again_without_a_word(world: World) -> None:
    await world.issue(2)
    world.service.error = KeyUnavailableError("away")
    await world.rotate()
    await world.reach("Waiting")
    world.service.error = None
    await world.reach("Complete")
    assert "ReEncryptionFailed" not in world.controller.recorder.reasons


async def test_a_replica_that_lags_behind_the_rotation_changes_nothing(world: World) -> None:
    """What it would give is the old material again: nothing is written, and it is tried later."""
    await world.issue(1)
    blob = world.controller.status("orders-0")["ciphertextBlob"]
    await world.rotate(paused=True)
    world.service.material = MATERIAL
    key = copy.deepcopy(world.cluster.find(KEYS, "main") or {})
    key["spec"]["reEncryption"]["paused"] = False
    await world.controller.see_key(key)
    await world.reach("Waiting")
    assert world.controller.status("orders-0")["ciphertextBlob"] == blob
    world.service.material = NEW_MATERIAL
    await world.reach("Complete")


async def test_while_the_key_is_disabled_nothing_is_asked(world: World) -> None:
    await world.issue(2)
    await world.rotate(paused=True)
    key = copy.deepcopy(world.cluster.find(KEYS, "main") or {})
    key["spec"]["reEncryption"]["paused"] = False
    key["status"]["keyState"] = "Disabled"
    await world.controller.see_key(key)
    await world.reach("Waiting")
    assert world.service.re_encryptions == 0
    key = copy.deepcopy(key)
    key["status"]["keyState"] = "Enabled"
    await world.controller.see_key(key)
    await world.reach("Complete")


async def test_a_request_whose_secret_is_in_conflict_waits_for_its_secret(world: World) -> None:
    """Re-encryption never makes a state from which the Secret can't be told apart from a stranger's."""
    await world.issue(2)
    name = "orders-0"
    await world.cluster.remove(SECRETS, name)
    await world.cluster.put(
        SECRETS,
        {"metadata": {"namespace": NAMESPACE, "name": name}, "data": {"p": "eA=="}},
    )
    await world.restart()
    await world.rotate()
    await world.reach("Waiting")
    assert world.controller.status(name)["keyMaterialId"] == MATERIAL
    assert (world.told["progress"], world.told["failed"]) == ("1/2", 1)


async def test_a_key_without_a_campaign_is_left_alone(world: World) -> None:
    await world.issue(1)
    await world.rotate(enabled=False)
    await asyncio.sleep(0.1)
    assert (world.told, world.service.re_encryptions) == ({}, 0)


async def test_a_campaign_that_is_switched_off_stops(world: World) -> None:
    await world.issue(3)
    await world.rotate(paused=True)
    await world.reach("Paused")
    await world.ask(enabled=False)
    await world.reach("Idle")
    assert world.service.re_encryptions == 0
    assert KEY_ARN in world.controller.status("orders-0")["keyId"]


@pytest.mark.parametrize("call", ["list datakeyrequests", "patch kmskeys", "patch datakeyrequests"])
async def test_an_outage_of_the_api_server_is_waited_out(world: World, call: str) -> None:
    await world.issue(2)
    world.failures[call] = [UnavailableError(0, "Unavailable", "down")] * 2
    await world.rotate()
    await world.reach("Complete")
    assert world.materials() == {NEW_MATERIAL}
    assert world.failures[call] == []


async def test_a_rival_write_to_a_request_is_met_as_a_conflict_and_tried_again(world: World) -> None:
    await world.issue(1)
    world.failures["patch datakeyrequests"] = [ConflictError(409, "Conflict", "orders-0")]
    await world.rotate()
    await world.reach("Complete")
    assert world.secrets_follow()


async def test_a_request_that_goes_during_its_turn_is_no_failure(world: World) -> None:
    await world.issue(1)

    async def delete() -> None:
        world.service.pause = None
        await world.cluster.remove(REQUESTS, "orders-0")
        world.controller.wakeups.on_request_gone(ObjectKey(NAMESPACE, "orders-0"), "")

    world.service.pause = delete
    body = world.cluster.find(REQUESTS, "orders-0")
    assert body is not None
    uid = body["metadata"]["uid"]
    await world.rotate()
    while world.service.pause is not None:  # noqa: ASYNC110 - the event loop goes on meanwhile
        await asyncio.sleep(0.01)
    world.controller.wakeups.on_request_gone(ObjectKey(NAMESPACE, "orders-0"), uid)
    await world.reach("Complete")
    assert (world.told["progress"], world.told["failed"]) == ("0/0", 0)


async def test_a_turn_is_ended_also_if_there_is_no_such_request(world: World) -> None:
    gone = ObjectKey(NAMESPACE, "gone")
    outcome = world.controller.turns.give(gone, KEY_ARN, NEW_MATERIAL)
    assert await world.controller.reconciler.reconcile(gone) is None
    failed = outcome.result()
    assert failed is not None
    assert failed.retryable


async def test_a_turn_for_what_is_done_calls_nothing(world: World) -> None:
    await world.issue(1)
    outcome = world.controller.turns.give(ObjectKey(NAMESPACE, "orders-0"), KEY_ARN, MATERIAL)
    await world.controller.reconcile("orders-0")
    assert outcome.result() is None
    assert world.service.re_encryptions == 0


async def test_a_deleted_key_is_forgotten(world: World) -> None:
    await world.issue(1)
    await world.rotate(paused=True)
    await world.reach("Paused")
    world.controller.re_encryptions.forget(MAIN)
    world.controller.keys.forget(MAIN)
    assert await world.controller.campaigns.look(MAIN) is None
    world.controller.see("orders-0")
    assert world.service.re_encryptions == 0


async def test_a_key_without_material_has_no_campaign(world: World) -> None:
    """Its material is still to be imported, so there is nothing to re-encrypt under."""
    body = build_key_body()
    body["spec"]["reEncryption"] = {"enabled": True}
    await world.controller.see_key(body)
    assert await world.controller.campaigns.look(MAIN) is None


async def test_a_late_request_under_old_material_wakes_the_campaign(world: World) -> None:
    """A replica of the key service that hadn't heard of the rotation has made it."""
    await world.issue(1)
    await world.rotate()
    await world.reach("Complete")
    world.service.material = MATERIAL
    await world.cluster.put(REQUESTS, build_request_body("late"))
    await world.controller.settle("late")
    world.service.material = NEW_MATERIAL
    body = world.cluster.find(REQUESTS, "late")
    assert body is not None
    assert body["status"]["keyMaterialId"] == MATERIAL
    world.controller.re_encryptions.on_request(parse_request(body))
    async with asyncio.timeout(60):
        while world.materials() != {NEW_MATERIAL}:
            async with world.cluster.changed:
                await world.cluster.changed.wait()


async def test_all_pages_of_requests_are_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.issue(4)
    world.controller.secrets.close()
    world.controller = world._start()
    items = [body for (plural, _, _), body in world.cluster.objects.items() if plural == REQUESTS.plural]
    asked: list[dict[str, Any]] = []

    async def list_pages(resource: Any, namespace: str | None, **selectors: str) -> Json:
        del resource, namespace
        asked.append(selectors)
        place = int(selectors.get("continue", "0"))
        rest = {"continue": str(place + 2)} if place + 2 < len(items) else {}
        return {
            "metadata": {**rest, "resourceVersion": "1"},
            "items": copy.deepcopy(items[place : place + 2]),
        }

    monkeypatch.setattr(world.controller.campaigns.api, "list", list_pages)
    body = copy.deepcopy(world.cluster.find(KEYS, "main") or {})
    body["spec"]["reEncryption"] = {"enabled": True, "paused": True}
    body["status"]["currentKeyMaterialId"] = NEW_MATERIAL
    await world.controller.see_key(body)
    assert await world.controller.campaigns.look(MAIN) is None
    assert world.told["progress"] == "0/4"
    assert [it.get("continue") for it in asked] == [None, "2"]
