"""A queue of names: every name is worked on by one worker at a time, and never lost. Zone: names only."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from datakeys.controller import metrics
from datakeys.controller.decisions.request_view import ObjectKey

_LOG = logging.getLogger(__name__)
#: Pause after a defect in the work itself, in seconds.
_DEFECT_PAUSE_SECONDS = 60.0

#: Works on one name and returns when to do so again, in seconds; None: not before ``add`` is called.
Work = Callable[[ObjectKey], Awaitable[float | None]]


class WorkQueue:
    """Names that wait for work, now or later.

    A name that is added while it waits is worked on once; one that is added while it is worked on is worked
    on once more afterwards.
    """

    def __init__(self, work: Work, *, workers: int, length: Gauge = metrics.QUEUE_LENGTH) -> None:
        self._work = work
        self._length = length
        self._workers = workers
        self._waiting: deque[ObjectKey] = deque()
        self._queued: set[ObjectKey] = set()
        self._running: set[ObjectKey] = set()
        self._timers: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._idle: set[asyncio.Future[None]] = set()

    def add(self, key: ObjectKey) -> None:
        """Work on a name as soon as a worker is free; a later appointment is cancelled."""
        self._cancel_timer(key)
        if key in self._queued:
            return
        self._queued.add(key)
        if key not in self._running:
            self._enqueue(key)

    def add_later(self, key: ObjectKey, delay_seconds: float) -> None:
        """Work on a name after a pause, unless it is added before."""
        self._cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(delay_seconds, self.add, key)

    def forget(self, key: ObjectKey) -> None:
        """Cancel the appointment of a name that exists no more."""
        self._cancel_timer(key)

    def waiting_keys(self) -> tuple[ObjectKey, ...]:
        """Return the names that wait for a worker, first come first."""
        return tuple(self._waiting)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._run_worker(), name=f"request worker {number}")

    async def _run_worker(self) -> None:
        while True:
            while not self._waiting:
                await self._sleep()
            key = self._waiting.popleft()
            self._length.set(len(self._waiting))
            self._queued.discard(key)
            self._running.add(key)
            try:
                await self._work_on(key)
            finally:
                self._running.discard(key)
                if key in self._queued:
                    self._enqueue(key)

    async def _work_on(self, key: ObjectKey) -> None:
        try:
            delay = await self._work(key)
        except Exception:  # noqa: BLE001 - a process edge: one object's defect must not stop the others
            _LOG.exception("defect", extra={"namespace": key.namespace, "object": key.name})
            delay = _DEFECT_PAUSE_SECONDS
        if delay is not None and key not in self._queued:
            self.add_later(key, delay)

    def _enqueue(self, key: ObjectKey) -> None:
        self._waiting.append(key)
        self._length.set(len(self._waiting))
        while self._idle:
            sleeper = self._idle.pop()
            if not sleeper.done():
                sleeper.set_result(None)
                return

    async def _sleep(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.add(future)
        try:
            await future
        finally:
            self._idle.discard(future)

    def _cancel_timer(self, key: ObjectKey) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
