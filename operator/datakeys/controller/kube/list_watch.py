"""List, then watch, for ever: the memory of a collection is kept equal to the cluster's.

Zone: bodies pass through and are never logged. Source: Kubernetes API concepts, "Efficient detection of
changes".
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.kube.api import Json, KubeApi, Resource
from datakeys.controller.kube.errors import GoneError, KubeError, UnavailableError

_LOG = logging.getLogger(__name__)
#: Between two streams, so that a server that ends every stream at once isn't flooded.
_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 30.0


class Observer(Protocol):
    """What is told about a collection."""

    def on_list(self, items: Sequence[Any]) -> None:
        """Take the whole collection, each object reduced; what isn't in it doesn't exist."""

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change: ADDED, MODIFIED or DELETED."""


def _keep_all(item: Json) -> Json:
    return item


@dataclass(frozen=True)
class ListWatch:
    """One collection, possibly selected.

    Attributes:
        namespace: None: all namespaces.
        metadata_only: Ask for objects without their contents.
        selectors: ``labelSelector``, ``fieldSelector``.
        page_size: How many objects one answer to a list may hold; None: all.
        reduce: What is kept of an object until the whole collection is listed.
        jitter: A source of numbers in 0..1.
    """

    api: KubeApi
    resource: Resource
    namespace: str | None
    observer: Observer
    selectors: dict[str, str]
    metadata_only: bool = False
    page_size: int | None = None
    reduce: Callable[[Json], Any] = _keep_all
    jitter: Callable[[], float] = random.random

    async def run(self) -> None:
        """Follow the collection until cancelled. Errors are logged and tried again, with growing pauses."""
        failures = 0
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                version = await self._watch(version)
                failures = 0
            except GoneError:
                version = None
                _LOG.info(
                    "watch expired: listing again",
                    extra={"resource": self.resource.plural, "namespace": self.namespace},
                )
            except KubeError as error:
                failures += 1
                # After a refusal, the collection may have been replaced: list again.
                version = version if isinstance(error, UnavailableError) else None
                _LOG.info(
                    "watch interrupted",
                    extra={
                        "resource": self.resource.plural,
                        "namespace": self.namespace,
                        "error": str(error),
                    },
                )
            pause = backoff_seconds(failures, self.jitter()) if failures else _PAUSE_SECONDS
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, pause))

    async def _list(self) -> str:
        items: list[Any] = []
        page = {} if self.page_size is None else {"limit": str(self.page_size)}
        while True:
            answer = await self.api.list(
                self.resource, self.namespace, metadata_only=self.metadata_only, **self.selectors, **page
            )
            items += map(self.reduce, answer.get("items") or [])
            rest = answer["metadata"].get("continue")
            if not rest:
                break
            page["continue"] = rest
        self.observer.on_list(items)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, since: str) -> str:
        version = since
        changes = self.api.watch(
            self.resource, self.namespace, since, metadata_only=self.metadata_only, **self.selectors
        )
        async for kind, item in changes:
            version = item["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                self.observer.on_change(kind, item)
        return version
