"""Hears from the key service which keys have changed. Zone: names and ids only.

A long poll: an answer comes when a key changes, so both views of a key agree soon although nobody asks again
and again. Once per process of the key service every KmsKey is looked at, at a bounded rate.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from datakeys.contract.arn import build_key_arn
from datakeys.contract.errors import KmsError
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.observe_kms_key import KmsKeyObserver
from datakeys.controller.handlers.re_encrypt_requests import ReEncryptionWakeups
from datakeys.controller.keyservice_answers import ChangedKey, KeyChanges
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.wakeups import Wakeups
from datakeys.controller.work_queue import WorkQueue

_LOG = logging.getLogger(__name__)

#: Between an answer and its use: gathers changes that come together, and lets other replicas hear of them.
PAUSE_SECONDS: Final = 0.2
_MAX_PAUSE_SECONDS: Final = 30.0
#: A safety net under everything that could get lost.
RESYNC_SECONDS: Final = 900.0


@dataclass
class KeyWatch:
    """Turns changes of keys into looks at KmsKeys and wake-ups of requests.

    Attributes:
        known: Names of all KmsKeys.
        looks: The queue whose work is the observer's ``look``.
    """

    keyservice: KeyServiceClient
    observer: KmsKeyObserver
    looks: WorkQueue
    wakeups: Wakeups
    re_encryptions: ReEncryptionWakeups
    known: Iterable[ObjectKey]
    cluster_name: str
    clock: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Follow the key service until cancelled."""
        cursor, failures, resync_at = "", 0, self.clock() + RESYNC_SECONDS
        while True:
            try:
                changes = await self.keyservice.watch_keys(cursor)
            except KmsError as error:
                failures += 1
                _LOG.info("changes of keys not heard", extra={"error": error.code})
                pause = backoff_seconds(failures, random.random())  # noqa: S311 - jitter
                await asyncio.sleep(min(_MAX_PAUSE_SECONDS, pause))
                continue
            cursor, failures = changes.cursor, 0
            await asyncio.sleep(PAUSE_SECONDS)
            if changes.resync or self.clock() >= resync_at:
                resync_at = self.clock() + RESYNC_SECONDS
                self.look_at_all()
            self.take(changes)

    def look_at_all(self) -> None:
        """Look at every KmsKey, at a bounded rate."""
        for key in tuple(self.known):
            self.look_soon(key)

    def look_soon(self, key: ObjectKey) -> None:
        """Look at a KmsKey of which nobody says that its key has changed."""
        self.looks.add_later(key, self.observer.next_delay())

    def take(self, changes: KeyChanges) -> None:
        """Look at the KmsKeys of changed keys, and let the requests that wait for those keys go on."""
        for changed in changes.keys:
            if changed.object_name:
                key = ObjectKey(changed.account, changed.object_name)
                self.observer.note_change(key)
                self.looks.add(key)
        facts = [self._facts_of(changed) for changed in changes.keys]
        if facts:
            self.wakeups.on_changed_keys(facts)
            self.re_encryptions.on_changed_keys(facts)

    def _facts_of(self, changed: ChangedKey) -> KeyFacts:
        return KeyFacts(
            key=ObjectKey(changed.account, changed.object_name),
            uid="",
            key_id=changed.key_id,
            arn=build_key_arn(self.cluster_name, changed.account, changed.key_id),
            state="",
        )
