"""Follows the DataKeyRequests of all namespaces and tells everybody whom they concern. Zone: ciphertext only.

Not by kopf: for a request that costs two writes, its bookkeeping of events costs more CPU time than all
of the controller's own code (docs/adr/0017).
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.decisions.request_view import ObjectKey, parse_request
from datakeys.controller.handlers.re_encrypt_requests import ReEncryptionWakeups
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.kube.api import KEYS, REQUESTS, Json, KubeApi
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.request_memory import RequestMemory
from datakeys.controller.wakeups import Wakeups
from datakeys.controller.workloads import Workloads

_LOG = logging.getLogger(__name__)
_PAGE_SIZE: Final = 500
#: How long requests wait for KmsKeys that existed at the start; one that has gone meanwhile never comes.
_KEYS_TIMEOUT_SECONDS: Final = 10.0
_MAX_PAUSE_SECONDS: Final = 30.0


@dataclass
class RequestWatch:
    """The one place from which states of requests come, but for the answers to own writes.

    Attributes:
        synced: All requests of the cluster have been seen once.
    """

    requests: RequestMemory
    keys: KeyMemory
    wakeups: Wakeups
    re_encryptions: ReEncryptionWakeups
    workloads: Workloads
    synced: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, api: KubeApi) -> None:
        """Follow until cancelled; starts when the KmsKeys are known, without which no request can go on."""
        await self.keys.wait_until_seen(await _list_keys(api), _KEYS_TIMEOUT_SECONDS)
        await self.build(api).run()

    def build(self, api: KubeApi) -> ListWatch:
        """Return the watch. Each page of a list is taken at once, and nothing but names is kept of it."""
        return ListWatch(api, REQUESTS, None, self, {}, page_size=_PAGE_SIZE, reduce=self._take)

    # The observer of the watch.

    def on_list(self, items: Sequence[ObjectKey]) -> None:
        """Take it that all requests were listed; those that aren't among them are gone."""
        present = set(items)
        for key, uid in self.requests.uids():
            if key not in present:
                self._forget(key, uid)
        self.synced.set()

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change."""
        if kind == "DELETED":
            self._forget(_key_of(item), item["metadata"]["uid"])
        else:
            self._take(item)

    def _take(self, item: Json) -> ObjectKey:
        key = _key_of(item)
        view = self.requests.get(key)
        # Every own write comes back as an event: what its answer has told isn't parsed again.
        if view is None or view.resource_version != item["metadata"]["resourceVersion"]:
            view = parse_request(item)
            self.wakeups.on_request(view)
        self.re_encryptions.on_request(view)
        self.workloads.on_request(item)
        return key

    def _forget(self, key: ObjectKey, uid: str) -> None:
        self.wakeups.on_request_gone(key, uid)
        self.workloads.on_request_gone(key)


def _key_of(item: Json) -> ObjectKey:
    metadata = item["metadata"]
    return ObjectKey(metadata["namespace"], metadata["name"])


async def _list_keys(api: KubeApi) -> frozenset[ObjectKey]:
    """Return the names of all KmsKeys; an API server that is down is waited for."""
    failures = 0
    while True:
        try:
            answer = await api.list(KEYS, None, metadata_only=True)
            return frozenset(map(_key_of, answer.get("items") or ()))
        except KubeError as error:
            failures += 1
            _LOG.warning("KmsKeys not listed", extra={"error": str(error)})
            pause = backoff_seconds(failures, random.random())  # noqa: S311 - jitter
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, pause))
