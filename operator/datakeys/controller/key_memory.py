"""The KmsKeys of the cluster as they were last seen. Zone: no secrets, no I/O."""

import asyncio
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import ObjectKey


class KeyMemory(Mapping[ObjectKey, KeyFacts]):
    """What is known about every KmsKey."""

    def __init__(self) -> None:
        self._facts: dict[ObjectKey, KeyFacts] = {}
        self._changed = asyncio.Condition()

    def __getitem__(self, key: ObjectKey) -> KeyFacts:
        """Return the facts of a KmsKey."""
        return self._facts[key]

    def __iter__(self) -> Iterator[ObjectKey]:
        """Iterate over the names."""
        return iter(self._facts)

    def __len__(self) -> int:
        """Return how many KmsKeys there are."""
        return len(self._facts)

    async def observe(self, facts: KeyFacts) -> KeyFacts | None:
        """Take the state of a KmsKey; return the state before."""
        old = self._facts.get(facts.key)
        self._facts[facts.key] = facts
        async with self._changed:
            self._changed.notify_all()
        return old

    def forget(self, key: ObjectKey) -> None:
        """Forget a KmsKey that exists no more."""
        self._facts.pop(key, None)

    async def wait_until_seen(self, keys: AbstractSet[ObjectKey], timeout_seconds: float) -> None:
        """Return once all these KmsKeys have been observed, or after the time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: keys <= self._facts.keys())
        except TimeoutError:
            return

    async def wait_until_known(self, key: ObjectKey, timeout_seconds: float) -> None:
        """Return once the key service has made the key of a KmsKey, or after the time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: key in self._facts and self._facts[key].is_known)
        except TimeoutError:
            return
