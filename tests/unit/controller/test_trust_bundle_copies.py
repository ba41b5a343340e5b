"""A copy of the trust bundle that somebody else deletes or changes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller_fakes import NAMESPACE, SYSTEM, TRUST_BUNDLE, FakeApi, FakeCluster
from datakeys.controller.kube import trust_bundle_copies
from datakeys.controller.kube.api import CONFIG_MAPS
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.namespace_access import NamespaceAccess
from datakeys.controller.kube.trust_bundle_copies import TrustBundleCopies
from http_serving import until

NAME = "datakeys-trust-bundle"


class World:
    """A namespace that is entered, and the watch of all copies."""

    def __init__(self) -> None:
        self.cluster, self.failures = FakeCluster(), 0
        api = FakeApi(self.cluster, before=self._fail)
        untyped: Any = api
        self.access = NamespaceAccess(untyped, service_account="datakeys-controller", system_namespace=SYSTEM)
        self.following = asyncio.create_task(TrustBundleCopies(self.access).run(untyped))
        self.access.on_list([{"data": TRUST_BUNDLE}])

    async def _fail(self, call: str) -> None:
        if call == "create configmaps" and self.failures:
            self.failures -= 1
            raise KubeError(500, "Broken", "x")

    async def wait_for_copy(self) -> None:
        """Wait until the copy is right."""
        await until(lambda: (self.cluster.find(CONFIG_MAPS, NAME) or {}).get("data") == TRUST_BUNDLE)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Give a namespace that has its copy."""
    monkeypatch.setattr(trust_bundle_copies, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(trust_bundle_copies, "_MAX_PAUSE_SECONDS", 0.0)
    made = World()
    await made.access.ensure(NAMESPACE)
    await asyncio.sleep(0.05)
    yield made
    made.following.cancel()


async def test_deleted_copy_is_made_again(world: World) -> None:
    """Each time, also if the first attempts fail."""
    for world.failures in (0, 3):
        await world.cluster.remove(CONFIG_MAPS, NAME)
        await world.wait_for_copy()
    assert world.failures == 0


async def test_copy_that_is_right_is_left_alone(world: World) -> None:
    """What the controller writes itself gives it no work."""
    await asyncio.sleep(0.05)
    assert [write.verb for write in world.cluster.writes if write.plural == "configmaps"] == ["create"]


async def test_forgotten_namespace_is_left_alone(world: World) -> None:
    """Nothing of it needs the bundle any more."""
    world.access.forget(NAMESPACE)
    await asyncio.sleep(0.05)
    await world.cluster.remove(CONFIG_MAPS, NAME)
    await asyncio.sleep(0.1)
    assert world.cluster.find(CONFIG_MAPS, NAME) is None
    await world.access.ensure(NAMESPACE)
    await world.wait_for_copy()
