"""What happens to keys by itself, at its time: one task sleeps until the next date and does what is due.

Zone: sealed material only. Safe on every replica at once: each chore checks the newest version of the record
before it changes it, so the second replica finds nothing left to do. What happens can't be undone, so a clock
that has jumped ahead isn't enough: a witness, another clock, must say that it is time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from datakeys.contract.errors import KmsError, NotFoundError
from datakeys.keyservice.store.interface import KeyStore
from datakeys.keyservice.store.records import KeyRecord

_LOG: Final = logging.getLogger("datakeys.keyservice.schedule")
#: Bounds the sleep, so that a changed clock or a missed wake-up delays a chore by minutes, not for ever.
MAX_SLEEP_SECONDS: Final = 300.0
#: Bounds the work while many records change.
MIN_PAUSE_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 15.0
#: By how much the witness may be behind; more than two clocks of a healthy cluster differ.
WITNESS_BEHIND_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Chore:
    """One kind of thing that happens to keys by itself.

    Attributes:
        name: For metrics; a noun.
        report: The log line after it was done.
        due_at: When it is due for a key, in seconds since the epoch, or None.
        perform: Does it if the newest version is due; returns whether it did. May block.
    """

    name: str
    report: str
    due_at: Callable[[KeyRecord], float | None]
    perform: Callable[[KeyRecord], bool]


class ScheduledTask:
    """Sleeps until the next date, or until a record changes."""

    def __init__(
        self,
        store: KeyStore,
        executor: Executor,
        clock: Callable[[], float],
        chores: Sequence[Chore],
        witness: Callable[[], float] | None = None,
    ) -> None:
        """Take the parts.

        Args:
            store: Where the keys are.
            executor: For what blocks.
            clock: Seconds since the epoch, of this machine.
            chores: What happens by itself.
            witness: Seconds since the epoch, of another machine; may block, and raise `KmsError`.
        """
        self._witness = witness
        self._store = store
        self._executor = executor
        self._clock = clock
        self._chores = chores
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counts = {chore.name: 0 for chore in chores}

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how often this process did each chore, by its name."""
        return self._counts

    def wake(self, _key_id: str) -> None:
        """Look again soon; for the store's listeners, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Run until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            failed = await self._loop.run_in_executor(self._executor, self.perform_due)
            await asyncio.sleep(MIN_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if failed else self._sleep_seconds()):
                    await self._changed.wait()

    def perform_due(self) -> int:
        """Do what is due; return how many chores couldn't be done yet. Blocks."""
        now = self._clock()
        due = self._list_due(now)
        if not due or self._witness is None:
            return self._perform_all(due)
        try:
            witnessed = self._witness() + WITNESS_BEHIND_SECONDS
        except KmsError as error:
            _LOG.error("scheduled changes of keys wait for a second clock", extra={"code": error.code})
            return len(due)
        confirmed = self._list_due(min(now, witnessed))
        if early := len(due) - len(confirmed):
            facts = {"early": early, "ahead_seconds": round(now - witnessed + WITNESS_BEHIND_SECONDS)}
            _LOG.error("this clock is ahead of the cluster's: scheduled changes of keys wait", extra=facts)
        return early + self._perform_all(confirmed)

    def _list_due(self, now: float) -> list[tuple[Chore, KeyRecord]]:
        # A copy of the list: a chore changes what is scheduled.
        return [
            (chore, record) for record in self._store.list_scheduled() for chore in self._due(record, now)
        ]

    def _perform_all(self, due: Sequence[tuple[Chore, KeyRecord]]) -> int:
        return sum(not self._perform(chore, record) for chore, record in due)

    def _due(self, record: KeyRecord, now: float) -> list[Chore]:
        """Return a key's due chores; nothing else matters for a key that must be destroyed."""
        found = []
        for chore in self._chores:
            date = chore.due_at(record)
            if date is not None and date <= now:
                found.append(chore)
        return found[:1] if record.is_due(now) else found

    def _perform(self, chore: Chore, record: KeyRecord) -> bool:
        facts = {"chore": chore.name, "key_id": record.key_id, "namespace": record.account}
        try:
            done = chore.perform(record)
        except NotFoundError:
            return True  # destroyed by another replica
        except KmsError as error:
            _LOG.error("a scheduled change of a key can't be made yet", extra={**facts, "code": error.code})
            return False
        if done:
            self._counts[chore.name] += 1
            _LOG.info(chore.report, extra=facts)
        return True

    def _sleep_seconds(self) -> float:
        now = self._clock()
        dates = [date for it in self._store.list_scheduled() if (date := it.next_event_at()) is not None]
        return max(0.0, min([MAX_SLEEP_SECONDS, *(date - now for date in dates)]))
