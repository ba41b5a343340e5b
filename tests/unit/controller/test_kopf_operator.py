"""How kopf is set up: what it may write, and to which objects."""

import asyncio
from typing import Any

import kopf
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
from datakeys.controller.decisions.alias_claims import AliasClaim
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kopf_operator import (
    ALIASES,
    GRANTS,
    KEYS,
    Handlers,
    _former_spec,
    build_registry,
    build_settings,
)
from datakeys.controller.kube.api import REQUESTS
from datakeys.controller.kube.connection import ClusterConnection

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


@pytest.fixture
def controller() -> SimulatedController:
    """Return a controller without a cluster."""
    return SimulatedController(FakeApi(FakeCluster()), FakeKeyService())


@pytest.fixture
def recording() -> Recording:
    """Return recording handlers."""
    return Recording()


@pytest.fixture
def registry(controller: SimulatedController, recording: Recording) -> kopf.OperatorRegistry:
    """Return the registry of an operator."""
    stand_in: Any = recording
    handlers = Handlers(
        keys=controller.keys,
        wakeups=controller.wakeups,
        re_encryptions=controller.re_encryptions,
        kms_key=stand_in,
        kms_alias=stand_in,
        kms_grant=stand_in,
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


def test_requests_are_not_kopfs(registry: kopf.OperatorRegistry) -> None:
    """Kopf adds finalizers and annotations to kinds with changing handlers, and watches those with any."""
    untyped: Any = registry
    writing = [*untyped._changing.get_all_handlers(), *untyped._spawning.get_all_handlers()]
    assert {str(handler.selector.any_name or handler.selector.plural) for handler in writing} == {
        KEYS,
        ALIASES,
        GRANTS,
    }
    watching = [*untyped._watching.get_all_handlers(), *untyped._indexing.get_all_handlers()]
    assert REQUESTS.plural not in str([*writing, *watching])


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
    controller.request_watch.on_change("ADDED", body)
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
    body = {"metadata": {"namespace": NAMESPACE, "name": "a"}, "spec": {}}
    options: dict[str, Any] = {
        "body": body,
        "patch": kopf.Patch(),
        "retry": 0,
        "old": None,
        "alias_claims": {},
    }
    for id_ in ("apply-key", "delete-key", "apply-alias", "delete-alias", "apply-grant", "revoke-grant"):
        assert await find(registry, "_changing", id_)(**options) is None
    assert recording.calls == ["apply", "schedule_deletion", "apply", "delete", "apply", "revoke"]


async def test_aliases_are_indexed_by_namespace_and_alias_name(registry: kopf.OperatorRegistry) -> None:
    """Kopf hands all of one alias name to the handlers; the default name counts like a given one."""
    claim = find(registry, "_indexing", "alias_claims")
    metadata = {"namespace": NAMESPACE, "name": "team", "creationTimestamp": "2026-01-01T00:00:00Z"}
    for spec in ({}, {"aliasName": "alias/team"}):
        (found,) = (await claim(body={"metadata": metadata, "spec": spec})).items()
        assert found == (
            (NAMESPACE, "alias/team"),
            AliasClaim(is_new=True, created="2026-01-01T00:00:00Z", name="team"),
        )


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
