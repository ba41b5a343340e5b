"""Crashes and interleavings: whatever happens, a request has one ciphertext."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from controller_fakes import (
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_request_body,
)
from datakeys.controller.kube.api import REQUESTS, SECRETS

#: How often a controller lets the others run before and after each of its calls.
YIELDS = st.lists(st.integers(0, 3), max_size=40)
#: At which of its calls a controller dies, and whether that call has taken effect.
DEATHS = st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=4)


class CrashError(BaseException):
    """The process is gone."""


class Life:
    """The hooks of a connection whose process dies at its n-th call; afterwards every call is dead."""

    def __init__(self, death: tuple[int, bool] | None, yields: list[int]) -> None:
        self._number, self._after_effect = death or (0, False)
        self._rest = iter(yields)
        self._calls = 0
        self.ended = asyncio.Event()

    async def before(self, _: str) -> None:
        """Let others run; die before the effect."""
        self._calls += 1
        await self._pause()
        if self.ended.is_set() or (self._calls == self._number and not self._after_effect):
            self._die()

    async def after(self, _: str) -> None:
        """Let others run; die after the effect, without having seen the answer."""
        await self._pause()
        if self.ended.is_set() or (self._calls == self._number and self._after_effect):
            self._die()

    async def _pause(self) -> None:
        for _ in range(next(self._rest, 0)):
            await asyncio.sleep(0)

    def _die(self) -> None:
        self.ended.set()
        raise CrashError


async def live(
    cluster: FakeCluster, service: FakeKeyService, death: tuple[int, bool] | None, yields: list[int]
) -> None:
    """Run one controller until it has nothing more to do, or dies."""
    life = Life(death, yields)
    controller = SimulatedController(FakeApi(cluster, before=life.before, after=life.after), service)
    work, end = asyncio.create_task(controller.settle()), asyncio.create_task(life.ended.wait())
    await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
    died = life.ended.is_set()
    life.ended.set()
    controller.secrets.close()
    work.cancel()
    outcome, _ = await asyncio.gather(work, end, return_exceptions=True)
    assert died or outcome is None


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
