"""The watch of DataKeyRequests: who is told what, and what is parsed at all."""

import asyncio
import copy
from typing import Any

import pytest

from annotated_workloads import build_workload
from controller_fakes import (
    NAMESPACE,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_key_body,
    build_request_body,
)
from datakeys.controller import request_watch
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.workload_view import parse_workload
from datakeys.controller.kube.api import KEYS, REQUESTS, Json
from datakeys.controller.kube.errors import UnavailableError

ORDERS = ObjectKey(NAMESPACE, "orders")


@pytest.fixture
def controller() -> SimulatedController:
    """Return a controller without a cluster."""
    return SimulatedController(FakeApi(FakeCluster()), FakeKeyService())


def stored(name: str = "orders", version: str = "7", uid: str = "u1") -> Json:
    """Return a request as the API server gives it."""
    body = build_request_body(name)
    body["metadata"] |= {"uid": uid, "resourceVersion": version}
    return body


def empty(controller: SimulatedController) -> None:
    """Let the queues be empty."""
    for queue in (controller.queue, controller.workloads.queue):
        queue._waiting.clear()
        queue._queued.clear()


def test_a_new_request_reaches_the_queue_and_a_deleted_one_is_forgotten(
    controller: SimulatedController,
) -> None:
    """A request that is listed is looked at; one that is deleted is forgotten."""
    controller.request_watch.on_change("ADDED", stored())
    assert controller.queue.waiting_keys() == (ORDERS,)
    controller.request_watch.on_change("DELETED", stored(version="8", uid="former"))
    assert controller.requests.get(ORDERS) is not None
    controller.request_watch.on_change("DELETED", stored(version="9"))
    assert controller.requests.get(ORDERS) is None


def test_what_a_list_lacks_is_gone(controller: SimulatedController) -> None:
    """A deletion that was missed shows in the next list."""
    watch = controller.request_watch
    for name in ("orders", "bills"):
        watch.on_change("ADDED", stored(name))
    assert not watch.synced.is_set()
    watch.on_list([ObjectKey(NAMESPACE, "bills")])
    assert [key.name for key, _ in controller.requests.uids()] == ["bills"]
    assert watch.synced.is_set()


async def test_an_own_write_that_comes_back_is_not_parsed(
    controller: SimulatedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of a write whose answer is known costs no parsing and no look."""
    cluster = controller.api.cluster
    await cluster.put(KEYS, build_key_body())
    await cluster.put(REQUESTS, build_request_body())
    assert await controller.settle() is None
    empty(controller)
    monkeypatch.setattr(request_watch, "parse_request", lambda _: pytest.fail("parsed"))
    controller.request_watch.on_change("MODIFIED", copy.deepcopy(cluster.find(REQUESTS, "orders") or {}))
    assert controller.queue.waiting_keys() == ()
    controller.secrets.close()


def test_the_workload_that_asks_is_told(controller: SimulatedController) -> None:
    """A request that appears or goes makes its workload be looked at again; others don't."""
    key = ObjectKey(NAMESPACE, "Deployment/orders")
    body = build_workload("Deployment")
    body["metadata"] |= {"namespace": NAMESPACE, "uid": "w1"}
    view = parse_workload("Deployment", body)
    assert view is not None
    controller.workloads.memory.observe(key, view)
    controller.workloads.memory.ask_for(key, ["orders.deployment"])
    for name, expected in (("other", ()), ("orders.deployment", (key,))):
        for change in ("ADDED", "DELETED"):
            controller.request_watch.on_change(change, stored(name))
            assert controller.workloads.queue.waiting_keys() == expected
            empty(controller)


async def test_requests_wait_for_the_keys_that_exist(
    controller: SimulatedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is listed before all KmsKeys are known, whatever the API server says at first."""
    monkeypatch.setattr(request_watch, "backoff_seconds", lambda *_: 0.0)
    failures: list[Exception] = [UnavailableError(0, "Unavailable", "down")]

    async def fail_once(_: str) -> None:
        if failures:
            raise failures.pop()

    api: Any = FakeApi(controller.api.cluster, before=fail_once)
    await controller.api.cluster.put(KEYS, build_key_body())
    await controller.api.cluster.put(REQUESTS, build_request_body())
    running = asyncio.create_task(controller.request_watch.run(api))
    for _ in range(10):
        await asyncio.sleep(0)
    assert api.calls == ["list kmskeys", "list kmskeys"]
    await controller.keys.observe(parse_key_facts(build_key_body()))
    async with asyncio.timeout(60):
        await controller.request_watch.synced.wait()
    assert controller.queue.waiting_keys() == (ORDERS,)
    running.cancel()


async def test_a_key_that_goes_at_the_start_is_not_waited_for_long(
    controller: SimulatedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KmsKey that was listed and never comes holds the requests up for a time only."""
    monkeypatch.setattr(request_watch, "_KEYS_TIMEOUT_SECONDS", 0.01)
    await controller.api.cluster.put(KEYS, build_key_body())
    api: Any = controller.api
    running = asyncio.create_task(controller.request_watch.run(api))
    async with asyncio.timeout(60):
        await controller.request_watch.synced.wait()
    running.cancel()


async def test_without_keys_nothing_is_waited_for(
    controller: SimulatedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of metadata that is empty has null for its items."""
    api: Any = controller.api
    listed = api.list

    async def list_as_the_server_does(*arguments: Any, **options: Any) -> Json:
        answer: Json = await listed(*arguments, **options)
        return {**answer, "items": answer["items"] or None}

    monkeypatch.setattr(api, "list", list_as_the_server_does)
    running = asyncio.create_task(controller.request_watch.run(api))
    async with asyncio.timeout(60):
        await controller.request_watch.synced.wait()
    running.cancel()
