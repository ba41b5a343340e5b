"""The controller's way into a namespace: one RoleBinding, one copy of the trust bundle."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller_fakes import NAMESPACE, SYSTEM, TRUST_BUNDLE, FakeApi, FakeCluster
from datakeys.controller.kube import namespace_access
from datakeys.controller.kube.api import CONFIG_MAPS, ROLE_BINDINGS
from datakeys.controller.kube.errors import ConflictError, ForbiddenError, KubeError
from datakeys.controller.kube.namespace_access import NamespaceAccess

Hook = Callable[[str], Awaitable[None]]


def enter(cluster: FakeCluster, before: Hook | None = None) -> tuple[NamespaceAccess, FakeApi]:
    """Return a controller's access and its connection."""
    api = FakeApi(cluster, before=before)
    untyped: Any = api
    access = NamespaceAccess(untyped, service_account="datakeys-controller", system_namespace=SYSTEM)
    access.on_list([{"data": TRUST_BUNDLE}])
    return access, api


def failing(call: str, *errors: Exception) -> Hook:
    """Return a hook that fails the first calls of a kind."""
    rest = list(errors)

    async def before(seen: str) -> None:
        if seen == call and rest:
            raise rest.pop(0)

    return before


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait."""
    monkeypatch.setattr(namespace_access, "_RBAC_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(namespace_access, "_REFUSAL_SECONDS", 1.0)


async def is_entered(access: NamespaceAccess) -> bool:
    """Return whether a namespace is accessible now."""
    try:
        await access.ensure(NAMESPACE)
    except ForbiddenError:
        return False
    return True


async def test_new_namespace_gets_binding_and_bundle() -> None:
    """The first entry makes both objects, later ones cost nothing."""
    cluster = FakeCluster()
    access, api = enter(cluster)
    await asyncio.gather(*(access.ensure(NAMESPACE) for _ in range(10)))
    assert [(write.verb, write.plural) for write in cluster.writes] == [
        ("create", "rolebindings"),
        ("create", "configmaps"),
    ]
    calls = len(api.calls)
    await access.ensure(NAMESPACE)
    assert len(api.calls) == calls


async def test_known_namespace_is_only_read() -> None:
    """A restart writes nothing into a namespace that has both objects."""
    cluster = FakeCluster()
    await enter(cluster)[0].ensure(NAMESPACE)
    writes = len(cluster.writes)
    access, api = enter(cluster)
    await access.ensure(NAMESPACE)
    assert len(cluster.writes) == writes
    assert api.calls == ["get rolebindings", "get configmaps"]


async def test_rights_that_take_effect_late_are_waited_for() -> None:
    """A refusal right after the binding was made is tried again."""
    denied = [ForbiddenError(403, "Forbidden", "not yet") for _ in range(3)]
    cluster = FakeCluster()
    access, _ = enter(cluster, failing("get configmaps", *denied))
    await access.ensure(NAMESPACE)
    assert cluster.find(CONFIG_MAPS, "datakeys-trust-bundle") is not None


async def test_lasting_refusal_is_one_answer_for_all() -> None:
    """While a namespace refuses, its requests share one answer for a while, then it is tried again."""
    denied = [ForbiddenError(403, "Forbidden", "no") for _ in range(4)]
    access, api = enter(FakeCluster(), failing("get configmaps", *denied))
    for _ in range(5):
        with pytest.raises(ForbiddenError):
            await access.ensure(NAMESPACE)
    assert api.calls.count("get rolebindings") == 1
    await asyncio.sleep(1.0)
    async with asyncio.timeout(60):
        while not await is_entered(access):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)


async def test_terminating_namespace_is_not_insisted_on() -> None:
    """A namespace that is going away is given up at the first refusal."""
    going = ForbiddenError(403, "Forbidden", "going", causes=frozenset({"NamespaceTerminating"}))
    access, api = enter(FakeCluster(), failing("get configmaps", going))
    with pytest.raises(ForbiddenError) as refused:
        await access.ensure(NAMESPACE)
    assert refused.value.is_terminating
    assert api.calls.count("get configmaps") == 1


async def test_foreign_role_binding_is_named() -> None:
    """A RoleBinding of that name that binds something else is reported, not worked around."""
    cluster = FakeCluster()
    body = {
        "metadata": {"namespace": NAMESPACE, "name": "datakeys-controller"},
        "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [],
    }
    await cluster.put(ROLE_BINDINGS, body)
    access, _ = enter(cluster)
    with pytest.raises(ForbiddenError, match="delete it"):
        await access.ensure(NAMESPACE)


async def test_rivals_objects_are_good_enough() -> None:
    """Objects that another controller makes at the same moment are taken as they are."""
    cluster = FakeCluster()
    pair = [enter(cluster)[0], enter(cluster)[0]]
    await asyncio.gather(*(access.ensure(NAMESPACE) for access in pair))
    assert len(cluster.writes) == 2


async def test_doubted_namespace_is_entered_again() -> None:
    """After a missing right a namespace is looked at anew: it may have been made anew."""
    cluster = FakeCluster()
    access, _ = enter(cluster)
    access.doubt(NAMESPACE)
    await access.ensure(NAMESPACE)
    await cluster.remove(ROLE_BINDINGS, "datakeys-controller")
    access.doubt(NAMESPACE)
    await access.ensure(NAMESPACE)
    assert cluster.find(ROLE_BINDINGS, "datakeys-controller") is not None
    access.forget(NAMESPACE)


async def test_new_bundle_reaches_every_namespace() -> None:
    """A change of the source is copied; the same source again and its deletion are no change."""
    cluster = FakeCluster()
    access, _ = enter(cluster)
    await access.ensure(NAMESPACE)
    writes = len(cluster.writes)
    access.on_change("MODIFIED", {"data": TRUST_BUNDLE})
    access.on_change("DELETED", {"data": {}})
    access.on_change("MODIFIED", {"data": {"ca.crt": "new"}})
    await asyncio.gather(*access._background)
    copy = cluster.find(CONFIG_MAPS, "datakeys-trust-bundle")
    assert copy is not None
    assert copy["data"] == {"ca.crt": "new"}
    assert len(cluster.writes) == writes + 1


async def test_copy_that_changes_under_the_hand_is_read_again() -> None:
    """A conflict while copying leads to a fresh look."""
    cluster = FakeCluster()
    access, _ = enter(cluster, failing("update configmaps", ConflictError(409, "Conflict", "x")))
    await access.ensure(NAMESPACE)
    access.on_change("MODIFIED", {"data": {"ca.crt": "new"}})
    await asyncio.gather(*access._background)
    copy = cluster.find(CONFIG_MAPS, "datakeys-trust-bundle")
    assert copy is not None
    assert copy["data"] == {"ca.crt": "new"}


async def test_failed_copy_is_made_up_for_by_the_next_request() -> None:
    """A copy that fails is logged, and the namespace is entered again later."""
    cluster = FakeCluster()
    access, _ = enter(cluster, failing("update configmaps", KubeError(500, "Broken", "x")))
    await access.ensure(NAMESPACE)
    access.on_change("MODIFIED", {"data": {"ca.crt": "new"}})
    await asyncio.gather(*access._background)
    await access.ensure(NAMESPACE)
    copy = cluster.find(CONFIG_MAPS, "datakeys-trust-bundle")
    assert copy is not None
    assert copy["data"] == {"ca.crt": "new"}


async def test_namespace_is_entered_before_the_bundle_is_known() -> None:
    """Without a source there is nothing to copy, and nobody waits for it."""
    untyped: Any = FakeApi(FakeCluster())
    access = NamespaceAccess(untyped, service_account="datakeys-controller", system_namespace=SYSTEM)
    await access.ensure(NAMESPACE)
    assert "create configmaps" not in untyped.calls
