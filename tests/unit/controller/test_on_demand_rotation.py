"""Rotation on demand: exactly once for each new text, also if the controller dies around the call."""

from typing import Any

import kopf
import pytest

from controller_fakes import NAMESPACE, FakeApi, FakeCluster, FakeRecorder, build_key_body, merge_patch
from controller_key_service import FakeKeyManagement
from datakeys.contract.errors import KeyUnavailableError, LimitExceededError
from datakeys.controller.decisions.on_demand_rotation import RotationStep, decide_rotation_step
from datakeys.controller.handlers.handle_kms_key import KmsKeyHandler
from datakeys.controller.kube.api import KEYS, Json
from datakeys.controller.kube.errors import UnavailableError

KEY = {"keyId": "k"}
PENDING = {"pendingRequest": "b", "formerKeyMaterialId": "m1"}


@pytest.mark.parametrize(
    ("wanted", "status", "material", "step"),
    [
        (None, KEY, "m1", RotationStep.NOTHING),
        ("a", {}, "m1", RotationStep.RECORD),
        ("a", KEY, "m1", RotationStep.ANNOUNCE),
        ("a", {**KEY, "onDemandRotation": {"request": "a"}}, "m1", RotationStep.NOTHING),
        ("b", {**KEY, "onDemandRotation": {"request": "a"}}, "m1", RotationStep.ANNOUNCE),
        ("b", {**KEY, "onDemandRotation": {"request": "a", **PENDING}}, "m1", RotationStep.ROTATE),
        ("b", {**KEY, "onDemandRotation": {"request": "a", **PENDING}}, "m2", RotationStep.RECORD),
        ("c", {**KEY, "onDemandRotation": {"request": "a", **PENDING}}, "m1", RotationStep.ANNOUNCE),
        ("a", {**KEY, "onDemandRotation": {"request": "a", **PENDING}}, "m1", RotationStep.NOTHING),
        (None, {**KEY, "onDemandRotation": {"request": "a"}}, "m1", RotationStep.NOTHING),
    ],
)
def test_next_step(wanted: str | None, status: Json, material: str, step: RotationStep) -> None:
    spec = {} if wanted is None else {"rotateOnDemand": wanted}
    assert decide_rotation_step(spec, status, material) is step


class World:
    """One KmsKey, its key, and controllers that come and go."""

    def __init__(self) -> None:
        self.cluster, self.service, self.recorder = FakeCluster(), FakeKeyManagement(), FakeRecorder()
        self.failures: dict[str, Exception] = {}
        self.api = FakeApi(self.cluster, before=self._maybe_fail)

    @property
    def body(self) -> Json:
        """Return the KmsKey."""
        body = self.cluster.find(KEYS, "main")
        assert body is not None
        return body

    @property
    def rotations(self) -> int:
        """Return how often the key was rotated, or would have been."""
        return self.service.changes.count("RotateKeyOnDemand")

    async def demand(self, text: str) -> None:
        """Change spec.rotateOnDemand as a user would."""
        spec = {**self.body["spec"], "rotateOnDemand": text}
        metadata = {**self.body["metadata"], "generation": self.body["metadata"]["generation"] + 1}
        await self.cluster.change(KEYS, NAMESPACE, {**self.body, "spec": spec, "metadata": metadata})

    async def apply(self, *, dies: bool = False) -> None:
        """Let a controller apply the KmsKey; one that dies leaves its last patch unwritten."""
        service: Any = self.service
        recorder: Any = self.recorder
        api: Any = self.api
        patch = kopf.Patch()
        handler = KmsKeyHandler(service, recorder, lambda _: None, api)
        try:
            await handler.apply(self.body, patch, 0)
        finally:
            if not dies:
                status = merge_patch(self.body.get("status") or {}, dict(patch.status))
                await self.cluster.change(KEYS, NAMESPACE, {**self.body, "status": status})

    async def _maybe_fail(self, call: str) -> None:
        if call in self.failures:
            raise self.failures.pop(call)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.cluster.put(KEYS, build_key_body())
    body = world.body
    body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    await world.apply()
    return world


async def test_a_new_text_rotates_once(world: World) -> None:
    for text, rotations in (("a", 1), ("a", 1), ("b", 2), ("b", 2)):
        await world.demand(text)
        await world.apply()
        assert world.rotations == rotations
        assert world.body["status"]["onDemandRotation"] == {"request": text}
    assert world.recorder.reasons.count("Updated") == 2


async def test_the_text_that_a_new_key_begins_with_rotates_nothing() -> None:
    world = World()
    body = build_key_body(arn="")
    body["spec"]["rotateOnDemand"] = "a"
    await world.cluster.put(KEYS, body)
    world.body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    await world.apply()
    assert world.rotations == 0
    assert world.body["status"]["onDemandRotation"] == {"request": "a"}


async def test_a_crash_after_the_call_makes_no_second_rotation(world: World) -> None:
    await world.demand("a")
    await world.apply(dies=True)
    assert world.body["status"]["onDemandRotation"]["pendingRequest"] == "a"
    await world.apply()
    assert world.rotations == 1
    assert world.body["status"]["onDemandRotation"] == {"request": "a"}


async def test_a_lost_answer_makes_no_second_rotation(world: World) -> None:
    """The key service has rotated, and its answer was lost."""
    world.service.errors["RotateKeyOnDemand"] = KeyUnavailableError("the connection was closed")
    await world.demand("a")
    with pytest.raises(kopf.TemporaryError):
        await world.apply()
    world.service.errors.clear()
    world.service.set(current_key_material_id="new")
    await world.apply()
    assert world.rotations == 1


async def test_a_lost_announcement_rotates_nothing_yet(world: World) -> None:
    await world.demand("a")
    world.failures["patch kmskeys"] = UnavailableError(0, "Unavailable", "down")
    with pytest.raises(kopf.TemporaryError):
        await world.apply()
    assert world.rotations == 0
    await world.apply()
    assert world.rotations == 1


async def test_a_refusal_is_told_and_the_next_text_tries_again(world: World) -> None:
    world.service.errors["RotateKeyOnDemand"] = LimitExceededError("25 times")
    await world.demand("a")
    await world.apply()
    synced = next(item for item in world.body["status"]["conditions"] if item["type"] == "Synced")
    assert (synced["status"], synced["reason"]) == ("False", "LimitExceededException")
    world.service.errors.clear()
    await world.demand("b")
    await world.apply()
    assert world.body["status"]["onDemandRotation"] == {"request": "b"}


async def test_a_disabled_key_is_enabled_first(world: World) -> None:
    world.service.set(state="Disabled")
    await world.demand("a")
    await world.apply()
    assert world.service.changes == ["EnableKey", "RotateKeyOnDemand"]
