"""Watches the copies of the trust bundle: one that somebody else deletes or changes is made again.

Zone: no secrets.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from datakeys.contract.identity import TRUST_BUNDLE_CONFIG_MAP
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.kube.api import CONFIG_MAPS, Json, KubeApi
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.kube.namespace_access import NamespaceAccess

_LOG = logging.getLogger(__name__)
#: Between two restorations in one namespace: somebody may delete the copy again and again.
_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0


class TrustBundleCopies:
    """One watch per namespace that the controller has entered."""

    def __init__(self, api: KubeApi, access: NamespaceAccess) -> None:
        self._api = api
        self._access = access
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, namespace: str) -> None:
        """Keep the copy of a namespace; twice does nothing."""
        if namespace not in self._tasks:
            task = asyncio.create_task(self._run(namespace), name=f"trust bundle of {namespace}")
            self._tasks[namespace] = task

    def forget(self, namespace: str) -> None:
        """Leave a namespace's copy alone from now on."""
        task = self._tasks.pop(namespace, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """End all watches."""
        for namespace in list(self._tasks):
            self.forget(namespace)

    async def _run(self, namespace: str) -> None:
        copy = _Copy(self._access.is_copy)
        selectors = {"fieldSelector": f"metadata.name={TRUST_BUNDLE_CONFIG_MAP}"}
        async with asyncio.TaskGroup() as group:
            group.create_task(ListWatch(self._api, CONFIG_MAPS, namespace, copy, selectors).run())
            group.create_task(self._keep(namespace, copy.is_wrong))

    async def _keep(self, namespace: str, is_wrong: asyncio.Event) -> None:
        failures = 0
        while True:
            await is_wrong.wait()
            is_wrong.clear()
            pause = _PAUSE_SECONDS
            try:
                await self._access.restore_bundle(namespace)
                failures = 0
            except KubeError as error:
                # The namespace is going, or the API server is away.
                failures += 1
                is_wrong.set()
                pause = min(_MAX_PAUSE_SECONDS, backoff_seconds(failures, random.random()))  # noqa: S311 - jitter
                _LOG.info("trust bundle not restored", extra={"namespace": namespace, "error": str(error)})
            await asyncio.sleep(pause)


class _Copy:
    """The observer of one copy."""

    def __init__(self, is_copy: Callable[[Json], bool]) -> None:
        self._is_copy = is_copy
        self.is_wrong = asyncio.Event()

    def on_list(self, items: Sequence[Json]) -> None:
        """Take it as it is at the start, or that there is none."""
        if not any(map(self._is_copy, items)):
            self.is_wrong.set()

    def on_change(self, kind: str, item: Json) -> None:
        """Take a change."""
        if kind == "DELETED" or not self._is_copy(item):
            self.is_wrong.set()
