"""One DataKeyRequest against an API in memory: which calls are made, which aren't, what is told."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller_fakes import (
    KEY_ARN,
    NAMESPACE,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_key_body,
    build_request_body,
)
from datakeys.contract.errors import (
    AccessDeniedError,
    InternalError,
    KeyDisabledError,
    KmsError,
    NotFoundError,
    ThrottlingError,
)
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import CONFIG_MAPS, REQUESTS, ROLE_BINDINGS, SECRETS
from datakeys.controller.kube.errors import ForbiddenError, UnavailableError

ORDERS = ObjectKey(NAMESPACE, "orders")


class World:
    """A cluster, a key service and one controller."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.service = FakeKeyService()
        self.failures: dict[str, Exception] = {}
        self.lost_answers: dict[str, Exception] = {}
        self.api = FakeApi(self.cluster, before=self._maybe_fail, after=self._maybe_lose)
        self.controller = SimulatedController(self.api, self.service)

    async def request(self, **spec: Any) -> None:
        """Create a request and let the controller see it."""
        await self.cluster.put(REQUESTS, build_request_body(**spec))
        self.controller.see()

    def restart(self) -> SimulatedController:
        """Replace the controller by a new one, as after a crash."""
        self.controller.secrets.close()
        self.api.calls.clear()
        self.controller = SimulatedController(self.api, self.service)
        return self.controller

    def foreign_secret(self, **metadata: Any) -> dict[str, Any]:
        """Return a Secret that isn't the controller's."""
        return {"metadata": {"namespace": NAMESPACE, "name": "orders", **metadata}, "data": {"p": "eA=="}}

    async def _maybe_fail(self, call: str) -> None:
        if call in self.failures:
            raise self.failures.pop(call)

    async def _maybe_lose(self, call: str) -> None:
        if call in self.lost_answers:
            raise self.lost_answers.pop(call)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give a fresh world."""
    world = World()
    yield world
    world.controller.secrets.close()


async def test_first_look_issues(world: World) -> None:
    """One call of the key service, one Secret, one status patch; then Ready and an Event."""
    await world.request(encryptionContext={"tenant": "a"})
    assert await world.controller.reconcile() is None
    assert world.service.calls == 1
    writes = [(write.verb, write.plural) for write in world.cluster.writes]
    assert writes == [
        ("create", ROLE_BINDINGS.plural),
        ("create", CONFIG_MAPS.plural),
        ("create", SECRETS.plural),
        ("patch", "datakeyrequests/status"),
    ]
    secret, status = world.controller.secret(), world.controller.status()
    assert secret is not None
    assert secret["data"]["ciphertextBlob"] == status["ciphertextBlob"]
    assert status["secretRef"] == {"name": "orders"}
    assert world.controller.condition()["reason"] == "Issued"
    assert world.controller.recorder.reasons == ["Issued"]


async def test_second_look_makes_no_call_at_all(world: World) -> None:
    """A request that is Ready costs nothing, not even a read."""
    await world.request()
    await world.controller.reconcile()
    calls = len(world.api.calls)
    assert await world.controller.reconcile() is None
    assert len(world.api.calls) == calls
    assert world.service.calls == 1


async def test_second_request_costs_two_calls(world: World) -> None:
    """Once the namespace is known, a request is one create and one patch, with no reads."""
    await world.request()
    await world.controller.reconcile()
    world.api.calls.clear()
    await world.cluster.put(REQUESTS, build_request_body("second"))
    world.controller.see("second")
    await world.controller.reconcile("second")
    assert world.api.calls == ["create secrets", "patch datakeyrequests"]


async def test_restart_reads_the_namespace_and_writes_nothing(world: World) -> None:
    """A new controller reads the binding, the bundle and the Secrets once, and writes nothing."""
    await world.request()
    await world.controller.reconcile()
    writes = len(world.cluster.writes)
    assert await world.restart().settle() is None
    assert len(world.cluster.writes) == writes
    assert world.api.calls == ["get rolebindings", "get configmaps", "list secrets"]


async def test_lost_status_write_is_made_up_for(world: World) -> None:
    """After a crash between Secret and status the Secret's ciphertext is adopted."""
    await world.request()
    world.failures["patch datakeyrequests"] = UnavailableError(0, "Unavailable", "crash")
    await world.controller.reconcile()
    secret = world.controller.secret()
    assert secret is not None
    assert world.controller.status() == {}
    assert await world.restart().settle() is None
    assert world.service.calls == 1
    assert world.controller.status()["ciphertextBlob"] == secret["data"]["ciphertextBlob"]
    assert world.controller.recorder.reasons == ["Issued"]


async def test_lost_answer_makes_no_second_data_key(world: World) -> None:
    """The status was written, which the controller doesn't know; then the Secret is deleted."""
    await world.request()
    world.lost_answers["patch datakeyrequests"] = UnavailableError(0, "Unavailable", "cut")
    assert await world.controller.reconcile() is not None
    first = world.controller.status()["ciphertextBlob"]
    await world.cluster.remove(SECRETS, "orders")
    assert await world.controller.reconcile() is None
    secret = world.controller.secret()
    assert secret is not None
    assert secret["data"]["ciphertextBlob"] == world.controller.status()["ciphertextBlob"] == first
    assert world.service.calls == 1


async def test_rivals_secret_is_adopted(world: World) -> None:
    """A create that another controller has won is answered by taking its ciphertext."""
    await world.request()
    rival = SimulatedController(FakeApi(world.cluster), world.service)

    async def let_the_rival_win() -> None:
        world.service.pause = None
        await rival.settle()
        rival.secrets.close()

    world.service.pause = let_the_rival_win
    assert await world.controller.settle() is None
    assert world.service.calls == 2
    secret = world.controller.secret()
    assert secret is not None
    assert base64.b64decode(secret["data"]["ciphertextBlob"]) == world.service.made[0]
    assert world.controller.status()["ciphertextBlob"] == secret["data"]["ciphertextBlob"]
    assert [write.verb for write in world.cluster.writes if write.plural == "secrets"] == ["create"]


async def test_foreign_secret_is_a_conflict(world: World) -> None:
    """A Secret of somebody else is read, reported and left alone, with no second ciphertext made."""
    await world.cluster.put(SECRETS, world.foreign_secret())
    await world.request()
    assert await world.controller.settle() is None
    assert world.controller.condition()["reason"] == "Conflict"
    assert world.controller.secret() is not None
    assert world.service.calls == 1
    assert world.controller.recorder.reasons == ["Conflict"]
    assert [write.plural for write in world.cluster.writes].count("secrets") == 0


async def test_conflict_ends_when_the_secret_goes(world: World) -> None:
    """The deletion of the foreign Secret puts the request back into the queue."""
    await world.cluster.put(SECRETS, world.foreign_secret())
    await world.request()
    await world.controller.settle()
    woken = world.controller.queue
    await world.cluster.remove(SECRETS, "orders")
    for _ in range(20):
        await asyncio.sleep(0)
    assert ORDERS in woken.waiting_keys()
    await world.controller.reconcile()
    assert world.controller.condition()["reason"] == "Issued"


async def test_secret_of_a_former_request_is_waited_for(world: World) -> None:
    """A request made anew adopts nothing from its predecessor, whose Secret is still to be collected."""
    await world.request()
    await world.controller.reconcile()
    old = world.controller.secret()
    await world.cluster.remove(REQUESTS, "orders")
    await world.request()
    delay = await world.controller.reconcile()
    assert delay is not None
    assert "conditions" not in world.controller.status()
    await world.cluster.remove(SECRETS, "orders")
    await world.controller.settle()
    new = world.controller.secret()
    assert new is not None
    assert old is not None
    assert new["data"]["ciphertextBlob"] != old["data"]["ciphertextBlob"]


async def test_lost_secret_is_restored(world: World) -> None:
    """A deleted Secret comes back from the status, which isn't written to."""
    await world.request()
    await world.controller.reconcile()
    before = world.controller.secret()
    await world.cluster.remove(SECRETS, "orders")
    patches = [write for write in world.cluster.writes if write.verb == "patch"]
    assert await world.restart().settle() is None
    after = world.controller.secret()
    assert before is not None
    assert after is not None
    assert after["data"] == before["data"]
    assert [write for write in world.cluster.writes if write.verb == "patch"] == patches
    assert world.service.calls == 1
    assert world.controller.recorder.reasons == ["Restored"]


async def test_other_ciphertext_in_the_secret_is_a_conflict(world: World) -> None:
    """A Secret that holds something else than the status is reported; the status stays."""
    await world.request()
    await world.controller.reconcile()
    blob = world.controller.status()["ciphertextBlob"]
    stored = world.cluster.objects["secrets", NAMESPACE, "orders"]
    await world.cluster.remove(SECRETS, "orders")
    forged = {**stored, "data": {**stored["data"], "ciphertextBlob": "AAAA"}}
    await world.cluster.put(SECRETS, forged)
    await world.restart().settle()
    assert world.controller.condition()["reason"] == "Conflict"
    assert world.controller.status()["ciphertextBlob"] == blob
    await world.cluster.remove(SECRETS, "orders")
    await world.restart().settle()
    assert world.controller.condition()["reason"] == "Issued"
    assert world.controller.status()["ciphertextBlob"] == blob


async def test_blip_of_the_key_service_leaves_no_trace(world: World) -> None:
    """A failure that is over within a few attempts makes no write."""
    await world.request()
    world.service.error = InternalError("blip")
    delays = [await world.controller.reconcile() for _ in range(3)]
    assert all(delay is not None and delay < 2 for delay in delays)
    assert world.controller.status() == {}
    world.service.error = None
    assert await world.controller.reconcile() is None
    assert world.controller.condition()["reason"] == "Issued"
    assert [write.plural for write in world.cluster.writes].count("datakeyrequests/status") == 1


@pytest.mark.parametrize("error", [InternalError("down"), ThrottlingError("slow down")])
async def test_lasting_outage_is_told(world: World, error: KmsError) -> None:
    """A failure that lasts becomes Retrying with the error's name, and pauses grow."""
    await world.request()
    world.service.error = error
    delays = [await world.controller.reconcile() for _ in range(8)]
    condition = world.controller.condition()
    assert (condition["status"], condition["reason"]) == ("False", "Retrying")
    assert error.code in condition["message"]
    assert delays == sorted(delays, key=lambda delay: delay or 0)
    assert world.controller.recorder.reasons == ["Failed"]


@pytest.mark.parametrize("error", [KeyDisabledError("is off"), AccessDeniedError("no")])
async def test_final_error_is_told_once(world: World, error: Any) -> None:
    """An error that only a change can end is one condition, one Event, no appointment."""
    await world.request()
    world.service.error = error
    assert await world.controller.reconcile() is None
    assert world.controller.condition()["reason"] == error.code
    patches = len(world.cluster.writes)
    assert await world.controller.reconcile() is None
    assert len(world.cluster.writes) == patches
    assert world.controller.recorder.reasons == ["Failed"]


async def test_restart_with_a_failed_request_writes_nothing(world: World) -> None:
    """A new controller that gets the same error again finds it reported already."""
    await world.request()
    world.service.error = KeyDisabledError("is off")
    await world.controller.reconcile()
    writes = len(world.cluster.writes)
    assert await world.restart().settle() is None
    assert len(world.cluster.writes) == writes


async def test_missing_key_is_a_matter_of_moments_first(world: World) -> None:
    """A key that a replica of the key service doesn't know yet is asked for again before it is reported."""
    await world.request()
    world.service.error = NotFoundError("no such key")
    assert await world.controller.reconcile() is not None
    assert world.controller.status() == {}
    await world.controller.settle()
    assert world.controller.condition()["reason"] == "NotFoundException"


async def test_reference_to_a_missing_key_makes_no_call(world: World) -> None:
    """Without the KmsKey nothing is asked of the key service; its arrival issues the request."""
    await world.request(keyRef={"name": "main"})
    await world.controller.settle()
    assert world.service.calls == 0
    assert "KmsKey main" in world.controller.condition()["message"]
    await world.controller.see_key(build_key_body())
    assert ORDERS in world.controller.queue.waiting_keys()
    await world.controller.reconcile()
    assert world.controller.status()["keyId"] == KEY_ARN


async def test_dry_run_is_asked_once(world: World) -> None:
    """A dry run touches no namespace object and isn't asked again."""
    await world.request(dryRun=True)
    assert await world.controller.reconcile() is None
    assert world.controller.condition()["type"] == "DryRun"
    assert world.controller.condition()["status"] == "True"
    assert world.controller.secret() is None
    assert [write.plural for write in world.cluster.writes] == ["datakeyrequests/status"]
    assert await world.controller.reconcile() is None
    assert world.service.calls == 1


async def test_key_service_that_ignores_dry_run_is_a_fault(world: World) -> None:
    """A data key that comes in spite of DryRun is thrown away and reported as the service's failure."""
    await world.request(dryRun=True)

    world.service.honours_dry_run = False
    for _ in range(6):
        await world.controller.reconcile()
    assert world.controller.condition()["reason"] == "Retrying"
    assert world.controller.secret() is None


async def test_concurrent_change_of_the_request_is_read_again(world: World) -> None:
    """A status patch that meets a newer request is decided anew, with the same ciphertext."""
    await world.request()
    body = world.cluster.find(REQUESTS, "orders")
    assert body is not None
    body["metadata"]["labels"] = {"touched": "yes"}
    await world.cluster.change(REQUESTS, NAMESPACE, body)
    assert await world.controller.reconcile() is None
    assert world.service.calls == 1
    assert world.controller.condition()["reason"] == "Issued"


async def test_terminating_namespace_is_left_in_peace(world: World) -> None:
    """What can't be made in a namespace that is going away isn't reported."""
    await world.request()
    error = ForbiddenError(403, "Forbidden", "going", causes=frozenset({"NamespaceTerminating"}))
    world.failures["create secrets"] = error
    assert await world.controller.reconcile() is None
    assert world.controller.status() == {}
    assert world.controller.recorder.reasons == []


async def test_refused_secret_is_tried_again(world: World) -> None:
    """A Secret that admission or quota refuses is tried again, and the reason is told."""
    await world.request()
    for _ in range(6):
        world.failures["create secrets"] = ForbiddenError(403, "Forbidden", "exceeded quota: few")
        delay = await world.controller.reconcile()
        assert delay is not None
    condition = world.controller.condition()
    assert condition["reason"] == "Retrying"
    assert "exceeded quota: few" in condition["message"]


async def test_unwritable_condition_is_written_later(world: World) -> None:
    """A final error whose condition can't be written isn't forgotten."""
    await world.request()
    world.service.error = KeyDisabledError("is off")
    world.failures["patch datakeyrequests"] = UnavailableError(0, "Unavailable", "x")
    assert await world.controller.reconcile() is not None
    assert await world.controller.reconcile() is None
    assert world.controller.condition()["reason"] == "DisabledException"


async def test_request_that_is_gone_costs_nothing(world: World) -> None:
    """A look at an unknown or deleted request does nothing."""
    assert await world.controller.reconcile() is None
    await world.request()
    await world.cluster.remove(REQUESTS, "orders")
    assert await world.controller.reconcile() is None
    assert world.controller.recorder.reasons == []


async def test_request_under_deletion_is_left_alone(world: World) -> None:
    """A request with a deletionTimestamp gets no Secret."""
    await world.cluster.put(REQUESTS, build_request_body())
    body = world.cluster.find(REQUESTS, "orders")
    assert body is not None
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert await world.controller.settle() is None
    assert world.cluster.writes == []
