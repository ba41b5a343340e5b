"""What is known about the Secrets of namespaces with requests, kept by watches.

Zone: ciphertext passes through and isn't kept: a digest is. Secrets without the request label are seen by
their metadata only, and only while a request waits for one of them to go away.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from datakeys.contract.identity import LABEL_REQUEST
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.secret import SecretView, parse_secret
from datakeys.controller.decisions.versions import is_newer
from datakeys.controller.kube.api import SECRETS, Json, KubeApi
from datakeys.controller.kube.errors import MissingError
from datakeys.controller.kube.list_watch import ListWatch

#: Called with namespace and name of a Secret that has changed or gone.
OnChange = Callable[[ObjectKey], None]

SYNC_TIMEOUT_SECONDS: Final = 15.0
_PAGE_SIZE: Final = 500


class LabelledSecrets:
    """The Secrets of one namespace that carry the request label."""

    def __init__(self, namespace: str, on_change: OnChange) -> None:
        self._namespace = namespace
        self._on_change = on_change
        self._views: dict[str, SecretView] = {}
        self._version = ""
        self.synced = asyncio.Event()

    def build_watch(self, api: KubeApi) -> ListWatch:
        """Return the watch that keeps this memory."""
        selectors = {"labelSelector": LABEL_REQUEST}
        return ListWatch(
            api, SECRETS, self._namespace, self, selectors, page_size=_PAGE_SIZE, reduce=remember_secret
        )

    def find(self, name: str) -> SecretView | None:
        """Return a Secret, without its content."""
        return self._views.get(name)

    def on_list(self, items: Sequence[SecretView]) -> None:
        """Take the whole collection."""
        fresh = {view.name: view for view in items}
        names = {*self._views, *fresh} if self.synced.is_set() else set()
        old, self._views = self._views, fresh
        for name in names:
            self._tell(name, old.get(name))
        self.synced.set()

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change."""
        metadata = item["metadata"]
        old = self._views.get(metadata["name"])
        self._version = metadata["resourceVersion"]
        if old is not None and old.resource_version == self._version and kind != "DELETED":
            return  # the answer to an own write came first
        view = remember_secret(item)
        if kind != "DELETED":
            self._views[view.name] = view
        elif old is not None and not is_newer(old.resource_version, view.resource_version):
            # Otherwise it was made anew under the same name, and the answer to that came first.
            del self._views[view.name]
        self._tell(view.name, old)

    def observe(self, view: SecretView) -> None:
        """Take an answer of the API, unless the watch has already told what came after it."""
        if not self._version or is_newer(view.resource_version, self._version):
            self._views[view.name] = replace(view, encrypted=None)

    def _tell(self, name: str, old: SecretView | None) -> None:
        new = self._views.get(name)
        if _facts(old) != _facts(new):
            self._on_change(ObjectKey(self._namespace, name))


class ForeignSecrets:
    """The names of all Secrets of one namespace, while requests wait for some of them to go away."""

    def __init__(self, namespace: str, on_change: OnChange) -> None:
        self._namespace = namespace
        self._on_change = on_change
        #: Name of a Secret -> who waits.
        self.awaited: dict[str, set[ObjectKey]] = {}

    def on_list(self, items: Sequence[Json]) -> None:
        """Take the whole collection: what is awaited and isn't there has gone."""
        present = {item["metadata"]["name"] for item in items}
        for name in self.awaited.keys() - present:
            self._on_change(ObjectKey(self._namespace, name))

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change."""
        name = item["metadata"]["name"]
        if kind == "DELETED" and name in self.awaited:
            self._on_change(ObjectKey(self._namespace, name))


class SecretMemory:
    """The watches of all namespaces with requests."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._subscriber: OnChange | None = None
        self._labelled: dict[str, LabelledSecrets] = {}
        self._foreign: dict[str, ForeignSecrets] = {}
        self._tasks: dict[tuple[str, type], asyncio.Task[None]] = {}

    def close(self) -> None:
        """End all watches."""
        for namespace in {namespace for namespace, _ in self._tasks}:
            self.forget(namespace)

    def subscribe(self, on_change: OnChange) -> None:
        """Tell one subscriber about every change."""
        self._subscriber = on_change

    async def follow(self, namespace: str) -> LabelledSecrets:
        """Return the Secrets of a namespace, once they have been listed.

        Raises:
            TimeoutError: They can't be listed for now.
        """
        secrets = self._labelled.get(namespace)
        if secrets is None:
            secrets = self._labelled[namespace] = LabelledSecrets(namespace, self._on_change)
            self._start(namespace, secrets.build_watch(self._api))
        if not secrets.synced.is_set():
            async with asyncio.timeout(SYNC_TIMEOUT_SECONDS):
                await secrets.synced.wait()
        return secrets

    async def fetch(self, key: ObjectKey) -> SecretView:
        """Return a Secret with its content.

        Raises:
            MissingError: There is none.
            KubeError: It can't be read.
        """
        return parse_secret(await self._api.get(SECRETS, key.namespace, key.name))

    async def create(self, key: ObjectKey, body: Json) -> SecretView:
        """Create a Secret and return it: the atomic step.

        Raises:
            ExistsError: The name is taken.
            KubeError: It can't be created.
        """
        view = parse_secret(await self._api.create(SECRETS, key.namespace, body))
        if key.namespace in self._labelled:
            self._labelled[key.namespace].observe(view)
        return view

    async def delete(self, key: ObjectKey, seen: SecretView) -> None:
        """Delete a Secret in exactly the state that was seen; one that is gone is no error.

        Raises:
            ConflictError: It has changed, or was made anew.
            KubeError: It can't be deleted.
        """
        try:
            await self._api.delete(
                SECRETS, key.namespace, key.name, uid=seen.uid, resource_version=seen.resource_version
            )
        except MissingError:
            return

    def await_removal(self, key: ObjectKey, waiter: ObjectKey) -> None:
        """Tell when a Secret goes away, whoever made it; ``waiter`` is the request that wants its name."""
        foreign = self._foreign.get(key.namespace)
        if foreign is None:
            foreign = self._foreign[key.namespace] = ForeignSecrets(key.namespace, self._on_change)
            self._start(
                key.namespace, ListWatch(self._api, SECRETS, key.namespace, foreign, {}, metadata_only=True)
            )
        foreign.awaited.setdefault(key.name, set()).add(waiter)

    def is_awaited(self, key: ObjectKey) -> bool:
        """Return whether a request waits for this Secret to go away."""
        foreign = self._foreign.get(key.namespace)
        return foreign is not None and key.name in foreign.awaited

    def stop_awaiting(self, key: ObjectKey, waiter: ObjectKey) -> None:
        """Undo ``await_removal``; the watch ends with the last waiter."""
        foreign = self._foreign.get(key.namespace)
        if foreign is None or waiter not in foreign.awaited.get(key.name, ()):
            return
        foreign.awaited[key.name].discard(waiter)
        if not foreign.awaited[key.name]:
            del foreign.awaited[key.name]
        if not foreign.awaited:
            del self._foreign[key.namespace]
            self._stop(key.namespace, ForeignSecrets)

    def forget(self, namespace: str) -> None:
        """End the watches of a namespace that has no requests any more."""
        self._labelled.pop(namespace, None)
        self._foreign.pop(namespace, None)
        self._stop(namespace, LabelledSecrets)
        self._stop(namespace, ForeignSecrets)

    def _on_change(self, secret: ObjectKey) -> None:
        if self._subscriber is not None:
            self._subscriber(secret)

    def _start(self, namespace: str, watch: ListWatch) -> None:
        key = (namespace, type(watch.observer))
        self._tasks[key] = asyncio.create_task(watch.run(), name=f"watch Secrets in {namespace}")

    def _stop(self, namespace: str, observer: type) -> None:
        task = self._tasks.pop((namespace, observer), None)
        if task is not None:
            task.cancel()


def remember_secret(item: Json) -> SecretView:
    """Return what is kept of a Secret: no content."""
    return parse_secret(item, with_content=False)


def _facts(view: SecretView | None) -> tuple[str | None, bytes] | None:
    return None if view is None else (view.owner_uid, view.digest)
