"""Destroy keys whose waiting period is over.

Zone: sealed material only. Safe on every replica: the delete has preconditions, and a second one finds
nothing. Source: kms-semantics section 2.2.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from datakeys.contract.errors import KmsError
from datakeys.keyservice.store.interface import KeyStore

_LOG: Final = logging.getLogger("datakeys.keyservice.deletion")
#: Bounds the sleep, so that a changed clock or a missed wake-up delays a deletion by minutes, not for ever.
MAX_SLEEP_SECONDS: Final = 300.0
RETRY_SECONDS: Final = 15.0


class DeletionTask:
    """Sleeps until the next deletion date, or until a record changes."""

    def __init__(self, store: KeyStore, executor: Executor, clock: Callable[[], float]) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self, _key_id: str) -> None:
        """Look again soon; for the store's listeners, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Run until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            failed = await self._loop.run_in_executor(self._executor, self.destroy_due)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if failed else self._sleep_seconds()):
                    await self._changed.wait()

    def destroy_due(self) -> int:
        """Destroy what is due; return how many couldn't be destroyed yet. Blocks."""
        now, failed = self._clock(), 0
        for record in self._store.list_deletions():
            if not record.is_due(now):
                continue
            try:
                done = self._store.destroy_key(record.key_id, lambda current: current.is_due(now))
            except KmsError as error:
                failed += 1
                _LOG.error("key can't be destroyed yet", extra={"key_id": record.key_id, "code": error.code})
                continue
            if done:
                _LOG.info("key destroyed", extra={"key_id": record.key_id, "namespace": record.account})
        return failed

    def _sleep_seconds(self) -> float:
        now = self._clock()
        dates = [
            record.deletion_at for record in self._store.list_deletions() if record.deletion_at is not None
        ]
        return max(0.0, min([MAX_SLEEP_SECONDS, *(date - now for date in dates)]))
