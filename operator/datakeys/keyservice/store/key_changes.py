"""Which keys have changed since when, for somebody who waits for it.

Zone: names and ids only. Every replica counts the changes that it sees, under an epoch of its own; a cursor
remembers one number per replica, so a reader can be moved between replicas. A replica that the cursor doesn't
know, or that has forgotten changes since, says so: the reader then looks at every key.
"""

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import Final

from datakeys.contract.errors import IntegrityError
from datakeys.keyservice.store.index import RecordIndex
from datakeys.keyservice.store.records import KeyRecord

#: Changed keys that are remembered; a reader who is further behind looks at every key.
MAX_REMEMBERED: Final = 10_000
MAX_PER_ANSWER: Final = 1_000
#: Replicas that a cursor remembers, the latest ones.
MAX_EPOCHS: Final = 8
MAX_CURSOR_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key that was made, changed or destroyed; ``object_name`` is empty if it belongs to no KmsKey."""

    account: str
    object_name: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a cursor leads to.

    Attributes:
        keys: The keys that have changed, each once, the latest change last.
        cursor: Where to go on from.
        resync: Changes may be missing: every key may have changed.
    """

    keys: tuple[ChangedKey, ...]
    cursor: str
    resync: bool = False


@dataclass
class KeyChanges:
    """The latest changes; ``note`` may be called from any thread, ``wait`` from the event loop's only.

    Attributes:
        epoch: Names this process's count; lower-case hex characters.
    """

    epoch: str
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sequence: int = 0
    _forgotten: int = 0
    _latest: dict[ChangedKey, int] = field(default_factory=dict)
    _known: dict[str, ChangedKey] = field(default_factory=dict)
    _waiters: set[asyncio.Future[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None
    _closed: bool = False

    def follow(self, index: RecordIndex) -> None:
        """Count every change of an index's keys; one of an alias counts for the key that it leads to."""

        def on_change(key_id: str) -> None:
            try:
                record = index.find_key(key_id)
            except IntegrityError:
                record = None
            self.note(key_id, record)

        index.listeners.append(on_change)
        index.alias_listeners.append(on_change)

    def note(self, key_id: str, record: KeyRecord | None) -> None:
        """Count a change; ``record`` is None if the key is gone."""
        with self._lock:
            known = self._known.pop(key_id, None)
            changed = known if record is None else ChangedKey(record.account, record.object_name, key_id)
            if changed is None:
                return
            if record is not None:
                self._known[key_id] = changed
            self._sequence += 1
            self._latest.pop(changed, None)  # a plain write would keep the old place in the order
            self._latest[changed] = self._sequence
            if len(self._latest) > MAX_REMEMBERED:
                self._forgotten = self._latest.pop(next(iter(self._latest)))
            loop = self._loop
        if self._waiters and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    def since(self, cursor: str) -> Changes:
        """Return what has changed since a cursor; any text is a cursor, an unknown one leads to a resync."""
        seen = _parse(cursor)
        with self._lock:
            position = seen.pop(self.epoch, None)
            if position is None or not self._forgotten <= position <= self._sequence:
                return Changes((), self._build_cursor(seen, self._sequence), resync=True)
            fresh: list[tuple[ChangedKey, int]] = []
            for key, sequence in reversed(self._latest.items()):
                if sequence <= position:
                    break
                fresh.append((key, sequence))
            answered = fresh[::-1][:MAX_PER_ANSWER]
            if answered:
                position = answered[-1][1]
            return Changes(tuple(key for key, _ in answered), self._build_cursor(seen, position))

    async def wait(self, cursor: str, timeout_seconds: float) -> None:
        """Return as soon as the cursor leads to something, after the time, or when the service ends."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        # First into the set, then the look: a change in between is either seen or wakes.
        self._waiters.add(future)
        try:
            changes = self.since(cursor)
            if self._closed or changes.keys or changes.resync:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await future
        finally:
            self._waiters.discard(future)

    def close(self) -> None:
        """Let everybody who waits go, now and from now on."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    def _build_cursor(self, others: dict[str, int], position: int) -> str:
        latest = [*others.items(), (self.epoch, position)][-MAX_EPOCHS:]
        return ",".join(f"{epoch}.{sequence}" for epoch, sequence in latest)


def _parse(cursor: str) -> dict[str, int]:
    """Return the numbers by epoch; parts of another form are left out."""
    found = {}
    for part in cursor.split(",")[:MAX_EPOCHS]:
        epoch, _, sequence = part.partition(".")
        if epoch.isalnum() and sequence.isascii() and sequence.isdecimal() and len(part) <= 64:  # noqa: PLR2004
            found[epoch] = int(sequence)
    return found
