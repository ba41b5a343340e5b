"""Crashes and interleavings: whatever happens, a request has one ciphertext."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from controller_fakes import FakeCluster, FakeKeyService, build_request_body
from datakeys.controller.kube.api import REQUESTS, SECRETS
from mortal_controller import DEATHS, YIELDS, live


def visible_ciphertexts(cluster: FakeCluster) -> set[str]:
    """Return every ciphertext that ever was in a status or a Secret."""
    bodies = [body for _, plural, _, body in cluster.history if plural == REQUESTS.plural]
    in_status = {body.get("status", {}).get("ciphertextBlob") for body in bodies}
    in_secrets = {
        body["data"]["ciphertextBlob"] for _, plural, _, body in cluster.history if plural == SECRETS.plural
    }
    return (in_status | in_secrets) - {None}


@settings(max_examples=300, deadline=None)
@given(deaths=DEATHS, yields=st.tuples(YIELDS, YIELDS, YIELDS))
def test_crashes_and_rivals_leave_one_ciphertext(
    deaths: list[tuple[int, bool]], yields: tuple[list[int], list[int], list[int]]
) -> None:
    """Two controllers at once, each dying anywhere, leave one ciphertext, and a last run writes nothing."""

    async def scenario() -> None:
        cluster, service = FakeCluster(), FakeKeyService()
        await cluster.put(REQUESTS, build_request_body(encryptionContext={"tenant": "a"}))
        pairs = [deaths[index : index + 2] for index in range(0, len(deaths), 2)]
        for pair in pairs:
            await asyncio.gather(
                *(live(cluster, service, death, yields[index]) for index, death in enumerate(pair))
            )
        await asyncio.gather(live(cluster, service, None, yields[0]), live(cluster, service, None, yields[1]))
        assert len(visible_ciphertexts(cluster)) == 1
        request, secret = cluster.find(REQUESTS, "orders"), cluster.find(SECRETS, "orders")
        assert request is not None
        assert secret is not None
        assert request["status"]["ciphertextBlob"] == secret["data"]["ciphertextBlob"]
        assert request["status"]["conditions"][0]["status"] == "True"
        writes = len(cluster.writes)
        calls = service.calls
        await live(cluster, service, None, yields[2])
        assert (len(cluster.writes), service.calls) == (writes, calls)

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(
    death=st.one_of(st.none(), st.tuples(st.integers(1, 9), st.booleans())), yields=st.tuples(YIELDS, YIELDS)
)
def test_lost_secret_comes_back_identical(
    death: tuple[int, bool] | None, yields: tuple[list[int], list[int]]
) -> None:
    """A Secret that is deleted after the request was ready comes back with the same data, crash or not."""

    async def scenario() -> None:
        cluster, service = FakeCluster(), FakeKeyService()
        await cluster.put(REQUESTS, build_request_body(encryptionContext={"тест": "ü", "a": ""}))
        await live(cluster, service, None, [])
        first = cluster.find(SECRETS, "orders")
        assert first is not None
        await cluster.remove(SECRETS, "orders")
        await live(cluster, service, death, yields[0])
        await live(cluster, service, None, yields[1])
        second = cluster.find(SECRETS, "orders")
        assert second is not None
        kept = ("data", "type", "immutable")
        assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
        assert second["metadata"]["ownerReferences"] == first["metadata"]["ownerReferences"]
        assert service.calls == 1
        assert json.loads(json.dumps(second)) == second

    asyncio.run(scenario())
