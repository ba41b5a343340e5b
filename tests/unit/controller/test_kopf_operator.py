"""How kopf is set up: what it may write, and to which objects."""

import asyncio
from typing import Any

import kopf
import pytest

from annotated_workloads import build_workload
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
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.workload_view import parse_workload
from datakeys.controller.kopf_operator import (
    ALIASES,
    GRANTS,
    KEYS,
    REQUESTS,
    Handlers,
    _former_spec,
    build_registry,
    build_settings,
)
from datakeys.controller.kube.connection import ClusterConnection
from datakeys.controller.work_queue import WorkQueue
from datakeys.controller.workload_memory import WorkloadMemory
from datakeys.controller.workloads import Workloads

ORDERS = ObjectKey(NAMESPACE, "orders")


class Recording:
    """Stands for the three handlers; remembers the names of the methods that were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Return an asynchronous method of any name."""

        async def method(*_: object) -> None:
            self.calls.append(name)

        return method


def stored_workload() -> dict[str, Any]:
    """Return an annotated Deployment as the API server gives it."""
    body = build_workload("Deployment")
    body["metadata"] |= {"namespace": NAMESPACE, "uid": "w1"}
    return body


@pytest.fixture
def controller() -> SimulatedController:
    """Return a controller without a cluster."""
    return SimulatedController(FakeApi(FakeCluster()), FakeKeyService())


@pytest.fixture
def recording() -> Recording:
    """Return recording handlers."""
    return Recording()


@pytest.fixture
def workloads(controller: SimulatedController) -> Workloads:
    """Return the part of the controller that cares for workloads."""
    recorder: Any = controller.recorder
    return Workloads(WorkloadMemory(), WorkQueue(controller.reconciler.reconcile, workers=1), recorder)


@pytest.fixture
def registry(
    controller: SimulatedController, recording: Recording, workloads: Workloads
) -> kopf.OperatorRegistry:
    """Return the registry of an operator."""
    stand_in: Any = recording
    handlers = Handlers(
        keys=controller.keys,
        wakeups=controller.wakeups,
        re_encryptions=controller.re_encryptions,
        kms_key=stand_in,
        kms_alias=stand_in,
        kms_grant=stand_in,
        workloads=workloads,
        end_watches=controller.secrets.close,
    )
    connection = ClusterConnection(kopf.ConnectionInfo(server="https://api", token="t"))
    return build_registry(connection, handlers)


def find(registry: kopf.OperatorRegistry, room: str, id_: str) -> Any:
    """Return the function of a handler."""
    untyped: Any = registry
    return next(handler.fn for handler in getattr(untyped, room).get_all_handlers() if handler.id == id_)


async def send(function: Any, kind: str | None, body: dict[str, Any]) -> None:
    """Call an event handler as kopf does."""
    assert await function(event={"type": kind, "object": body}, body=body) is None


def test_log_lines_never_become_events() -> None:
    """Kopf posts no Events, and watches neither definitions nor namespaces."""
    settings = build_settings()
    assert not settings.posting.enabled
    assert not settings.posting.loggers
    assert settings.scanning.disabled
    assert settings.persistence.finalizer == "datakeys.dev/schedule-key-deletion"


def test_requests_have_no_handler_that_writes(registry: kopf.OperatorRegistry) -> None:
    """Kopf adds finalizers and annotations only to kinds with changing or spawning handlers."""
    untyped: Any = registry
    writing = [*untyped._changing.get_all_handlers(), *untyped._spawning.get_all_handlers()]
    assert {str(handler.selector.any_name or handler.selector.plural) for handler in writing} == {
        KEYS,
        ALIASES,
        GRANTS,
    }
    assert REQUESTS not in str(writing)


def test_requests_cost_kopf_no_comparison() -> None:
    """What kopf would compare of a DataKeyRequest is empty; of other kinds it is the essence."""
    storage = build_settings().persistence.diffbase_storage
    request: Any = kopf.Body({**build_request_body(), "kind": "DataKeyRequest"})  # type: ignore[arg-type]
    key: Any = kopf.Body({**build_key_body(), "kind": "KmsKey"})  # type: ignore[arg-type]
    assert dict(storage.build(body=request)) == {}
    assert storage.fetch(body=request) is None
    assert storage.build(body=key)["spec"] == {"enabled": True}
    assert storage.fetch(body=key) is None


async def test_events_of_requests_reach_the_queue(
    registry: kopf.OperatorRegistry, controller: SimulatedController
) -> None:
    """A request that is listed is looked at; one that is deleted is forgotten."""
    observe = find(registry, "_watching", "observe-request")
    body = build_request_body()
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
    await send(observe, None, body)
    assert controller.queue.waiting_keys() == (ORDERS,)
    await send(observe, "DELETED", body)
    assert controller.requests.get(ORDERS) is None


async def test_events_of_requests_reach_the_workload_that_asks(
    registry: kopf.OperatorRegistry, workloads: Workloads
) -> None:
    """A request that appears or goes makes its workload be looked at again; others don't."""
    observe = find(registry, "_watching", "observe-request")
    key = ObjectKey(NAMESPACE, "Deployment/orders")
    view = parse_workload("Deployment", stored_workload())
    assert view is not None
    workloads.memory.observe(key, view)
    workloads.memory.ask_for(key, ["orders.deployment"])
    for name, expected in (("other", ()), ("orders.deployment", (key,))):
        for change in ("ADDED", "DELETED"):
            body = build_request_body(name)
            body["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
            await send(observe, change, body)
            assert workloads.queue.waiting_keys() == expected
            workloads.queue._waiting.clear()
            workloads.queue._queued.clear()


async def test_keys_are_remembered_and_forgotten(
    registry: kopf.OperatorRegistry, controller: SimulatedController
) -> None:
    """The index of KmsKeys fills the memory of keys, and a deletion empties it."""
    observe, forget = find(registry, "_indexing", "observe-key"), find(registry, "_watching", "forget-key")
    assert await observe(body=build_key_body()) is None
    await send(forget, "MODIFIED", build_key_body())
    assert controller.keys[ObjectKey(NAMESPACE, "main")].arn == KEY_ARN
    await send(forget, "DELETED", build_key_body())
    assert len(controller.keys) == 0


async def test_aliases_and_grants_wake_requests(
    registry: kopf.OperatorRegistry, controller: SimulatedController
) -> None:
    """An alias or a grant that comes into being wakes open requests; deletions are forgotten."""
    body = build_request_body(keyId="alias/orders")
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
    await send(find(registry, "_watching", "observe-request"), None, body)
    controller.requests.set_busy(ORDERS)
    metadata = {"namespace": NAMESPACE, "name": "orders", "uid": "x"}
    for id_, status in (("observe-alias", {"targetKeyArn": KEY_ARN}), ("observe-grant", {"grantId": "g"})):
        controller.queue._waiting.clear()
        controller.queue._queued.clear()
        other = {"metadata": {**metadata, "uid": id_}, "spec": {}, "status": status}
        await send(find(registry, "_watching", id_), "ADDED", other)
        assert controller.queue.waiting_keys() == (ORDERS,)
        await send(find(registry, "_watching", id_), "DELETED", other)


async def test_changing_handlers_delegate(registry: kopf.OperatorRegistry, recording: Recording) -> None:
    """Each handler passes the object on and returns nothing, since kopf would write it into the status."""
    options: dict[str, Any] = {"body": {}, "patch": kopf.Patch(), "retry": 0, "old": None}
    for id_ in ("apply-key", "delete-key", "apply-alias", "delete-alias", "apply-grant", "revoke-grant"):
        assert await find(registry, "_changing", id_)(**options) is None
    assert recording.calls == ["apply", "schedule_deletion", "apply", "delete", "apply", "revoke"]


def test_login_and_cleanup(registry: kopf.OperatorRegistry) -> None:
    """Kopf gets the process's credentials, and ends the watches when it ends."""
    assert find(registry, "_activities", "login")().token == "t"
    assert asyncio.run(asyncio.sleep(0, find(registry, "_activities", "end-watches")())) is None


@pytest.mark.parametrize(
    ("old", "former"),
    [
        (None, None),
        ({"spec": {"enabled": True}, "metadata": {}}, {"enabled": True}),
        ({"enabled": True}, {"enabled": True}),
        ({"spec": None}, None),
    ],
)
def test_former_spec(old: Any, former: Any) -> None:
    """The spec that was handled last is found whether kopf gives the object or the field."""
    assert _former_spec(old) == former
