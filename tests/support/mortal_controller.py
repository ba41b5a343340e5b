"""Controllers that die at any of their calls, while others run. Zone: tests."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import strategies as st

from controller_fakes import FakeApi, FakeCluster, FakeKeyService, SimulatedController

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
    cluster: FakeCluster,
    service: FakeKeyService,
    death: tuple[int, bool] | None,
    yields: list[int],
    work: Callable[[SimulatedController], Awaitable[float | None]] = SimulatedController.settle,
) -> None:
    """Run one controller until it has nothing more to do, or dies."""
    life = Life(death, yields)
    controller = SimulatedController(FakeApi(cluster, before=life.before, after=life.after), service)
    working, end = asyncio.ensure_future(work(controller)), asyncio.create_task(life.ended.wait())
    await asyncio.wait({working, end}, return_when=asyncio.FIRST_COMPLETED)
    died = life.ended.is_set()
    life.ended.set()
    controller.secrets.close()
    working.cancel()
    outcome, _ = await asyncio.gather(working, end, return_exceptions=True)
    assert died or outcome is None, outcome
