"""Workloads that were annotated without the webhook, looked for when a replica begins to lead.

Zone: no secrets. The watch of workloads selects by the label that the webhook sets, so it never sees them,
nor does anybody else.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from datakeys.contract.workload import Workload
from datakeys.controller.decisions.backoff import QUIET_ATTEMPTS, backoff_seconds
from datakeys.controller.decisions.injection_check import describe_unstamped, is_unstamped
from datakeys.controller.decisions.workload_view import API_VERSIONS
from datakeys.controller.kube.api import Json, KubeApi, Resource
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject

_LOG = logging.getLogger(__name__)
_PAGE_SIZE: Final = "100"
#: Between two Events, so that others have room.
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True)
class UnstampedSearch:
    """Tells about each unstamped workload once.

    Attributes:
        excluded: Namespaces whose workloads are never sent to the webhook.
    """

    api: KubeApi
    recorder: EventRecorder
    excluded: frozenset[str]
    pause_seconds: float = _PAUSE_SECONDS

    async def run(self) -> None:
        """Search every kind once, then stay, as the process's other tasks do."""
        for kind in API_VERSIONS:
            await self._search_until_done(kind)
        await asyncio.Event().wait()

    async def search(self, kind: str) -> int:
        """Look at all workloads of a kind; return how many are unstamped.

        Raises:
            KubeError: They can't be listed.
        """
        found = 0
        async for body in self._iterate(Resource.of_kind(API_VERSIONS[kind], kind)):
            if is_unstamped(kind, body):
                found += 1
                self._tell(kind, body)
                await asyncio.sleep(self.pause_seconds)
        return found

    async def _search_until_done(self, kind: str) -> None:
        failures = 0
        while True:
            try:
                await self.search(kind)
            except KubeError as error:
                failures += 1
                _LOG.info("workloads not listed", extra={"resource": kind, "error": str(error)})
                pause = backoff_seconds(QUIET_ATTEMPTS + failures, random.random())  # noqa: S311 - jitter
                await asyncio.sleep(pause)
            else:
                return

    async def _iterate(self, resource: Resource) -> AsyncIterator[Json]:
        """Yield every object, page by page. The pod templates are needed, so metadata alone isn't enough."""
        page = {"limit": _PAGE_SIZE}
        while True:
            answer = await self.api.list(resource, None, metadata_only=False, **page)
            for item in answer.get("items") or []:
                yield item
            if not answer["metadata"].get("continue"):
                return
            page["continue"] = answer["metadata"]["continue"]

    def _tell(self, kind: str, body: Json) -> None:
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        subject = Subject(kind, namespace, name, metadata["uid"], API_VERSIONS[kind])
        note = describe_unstamped(Workload(kind, name), excluded=namespace in self.excluded)
        self.recorder.record(subject, EventReason.NOT_STAMPED, note, once=True)
        _LOG.warning("workload not stamped", extra={"resource": kind, "namespace": namespace, "object": name})
