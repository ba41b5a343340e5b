"""Watches the copies of the trust bundle: one that somebody else deletes or changes is made again.

Zone: no secrets. One watch sees the ConfigMaps of this one name in all namespaces, and nothing else.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from datakeys.contract.identity import TRUST_BUNDLE_CONFIG_MAP
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.kube.api import CONFIG_MAPS, Json, KubeApi
from datakeys.controller.kube.errors import ForbiddenError, KubeError
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.kube.namespace_access import NamespaceAccess

_LOG = logging.getLogger(__name__)
#: Between two restorations in one namespace: somebody may delete the copy again and again.
_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0


class TrustBundleCopies:
    """The copies in the namespaces that the controller has entered."""

    def __init__(self, access: NamespaceAccess) -> None:
        self._access = access
        self._wrong: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, api: KubeApi) -> None:
        """Follow all copies until cancelled."""
        selectors = {"fieldSelector": f"metadata.name={TRUST_BUNDLE_CONFIG_MAP}"}
        await ListWatch(api, CONFIG_MAPS, None, self, selectors).run()

    def on_list(self, items: Sequence[Json]) -> None:
        """Take all copies as they are: who has none, or a wrong one, gets one."""
        right = {item["metadata"]["namespace"] for item in items if self._access.is_copy(item)}
        for namespace in self._access.entered() - right:
            self._restore(namespace)

    def on_change(self, kind: str, item: Json) -> None:
        """Take a change of one copy, unless the namespace is none of the controller's."""
        namespace = item["metadata"]["namespace"]
        if namespace in self._access.entered() and (kind == "DELETED" or not self._access.is_copy(item)):
            self._restore(namespace)

    def _restore(self, namespace: str) -> None:
        self._wrong.add(namespace)
        if namespace not in self._tasks:
            task = asyncio.create_task(self._mend(namespace), name=f"restore trust bundle of {namespace}")
            self._tasks[namespace] = task
            task.add_done_callback(lambda _: self._tasks.pop(namespace))

    async def _mend(self, namespace: str) -> None:
        failures = 0
        while namespace in self._wrong and namespace in self._access.entered():
            self._wrong.discard(namespace)
            pause = _PAUSE_SECONDS
            try:
                await self._access.restore_bundle(namespace)
                failures = 0
            except ForbiddenError:
                # The namespace is going. Or the right is, which the next request makes anew.
                self._access.doubt(namespace)
            except KubeError as error:
                failures += 1
                self._wrong.add(namespace)
                pause = min(_MAX_PAUSE_SECONDS, backoff_seconds(failures, random.random()))  # noqa: S311 - jitter
                _LOG.info("trust bundle not restored", extra={"namespace": namespace, "error": str(error)})
            await asyncio.sleep(pause)
        self._wrong.discard(namespace)
