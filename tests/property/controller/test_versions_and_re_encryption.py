"""Crashes and interleavings around new versions and re-encryption: each version stays one data key."""

import asyncio
import base64
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller_fakes import (
    KEY_ARN,
    NAMESPACE,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_request_body,
)
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import REQUESTS, SECRETS
from mortal_controller import DEATHS, YIELDS, live

NEW_MATERIAL = "cd" * 32
ORDERS = ObjectKey(NAMESPACE, "orders")


async def campaign(controller: SimulatedController) -> None:
    """Give the request a turn until it is done."""
    controller.see()
    for _ in range(12):
        outcome = controller.turns.give(ORDERS, KEY_ARN, NEW_MATERIAL)
        delay = await controller.reconcile()
        if delay is None and outcome.result() is None:
            return
        controller.see()
    raise AssertionError("it doesn't settle")


def data_key_of(blob: str) -> str:
    """Return which data key a ciphertext of the key service in memory holds, however often re-encrypted."""
    return re.sub(r"^(\d+>)+", "", base64.b64decode(blob).decode())


def visible(cluster: FakeCluster) -> dict[int, set[str]]:
    """Return the data keys that ever were seen as each version, in a status or a Secret."""
    found: dict[int, set[str]] = {1: set(), 2: set()}
    for _, plural, _, body in cluster.history:
        if plural == SECRETS.plural:
            version = 2 if body["metadata"]["name"].endswith(".v2") else 1
            found[version].add(data_key_of(body["data"]["ciphertextBlob"]))
        status: dict[str, Any] = body.get("status") or {}
        for it in [status, *status.get("previousVersions", [])]:
            if plural == REQUESTS.plural and it.get("ciphertextBlob"):
                found[it["version"]].add(data_key_of(it["ciphertextBlob"]))
    return found


@settings(max_examples=300, deadline=None)
@given(deaths=DEATHS, yields=st.tuples(YIELDS, YIELDS, YIELDS))
def test_crashes_and_rivals_leave_one_data_key_per_version(
    deaths: list[tuple[int, bool]], yields: tuple[list[int], list[int], list[int]]
) -> None:
    """Two controllers, each dying anywhere: in the end all is under the new material, and Secrets agree."""

    async def scenario() -> None:
        cluster, service = FakeCluster(), FakeKeyService()
        await cluster.put(REQUESTS, build_request_body())
        first = SimulatedController(FakeApi(cluster), service)
        assert await first.settle() is None
        first.secrets.close()
        body = cluster.find(REQUESTS, "orders")
        assert body is not None
        body = {**body, "spec": {**body["spec"], "version": 2}}
        await cluster.change(REQUESTS, NAMESPACE, body)
        service.material = NEW_MATERIAL
        pairs = [deaths[index : index + 2] for index in range(0, len(deaths), 2)]
        for pair in pairs:
            await asyncio.gather(
                *(live(cluster, service, death, yields[index], campaign) for index, death in enumerate(pair))
            )
        await asyncio.gather(
            live(cluster, service, None, yields[0], campaign),
            live(cluster, service, None, yields[1], campaign),
        )
        await live(cluster, service, None, [], campaign)
        _check(cluster)
        writes, calls = len(cluster.writes), (service.calls, service.re_encryptions)
        await live(cluster, service, None, yields[2], campaign)
        assert (len(cluster.writes), (service.calls, service.re_encryptions)) == (writes, calls)

    asyncio.run(scenario())


def _check(cluster: FakeCluster) -> None:
    seen = visible(cluster)
    assert [len(keys) for keys in seen.values()] == [1, 1]
    assert not seen[1] & seen[2]
    request = cluster.find(REQUESTS, "orders")
    assert request is not None
    status = request["status"]
    (previous,) = status["previousVersions"]
    for version, name in ((previous, "orders"), (status, "orders.v2")):
        secret = cluster.find(SECRETS, name)
        assert secret is not None
        assert secret["data"]["ciphertextBlob"] == version["ciphertextBlob"]
        assert version["keyMaterialId"] == NEW_MATERIAL
    assert status["conditions"][0]["status"] == "True"
