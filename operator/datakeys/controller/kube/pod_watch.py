"""The pods that ask for data keys, in all namespaces, kept by one watch. Zone: ciphertext only.

Of a pod nothing is kept but its UID; of the annotations only this project's own are passed on.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from datakeys.contract.identity import GROUP, LABEL_INJECT
from datakeys.controller.decisions.pod_view import PodView, parse_pod
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import PODS, Json, KubeApi
from datakeys.controller.kube.list_watch import ListWatch

SELECTOR: Final = f"{LABEL_INJECT}=true"
_PAGE_SIZE: Final = 250


class PodSubscriber(Protocol):
    """What is told about labelled pods. Neither call may block."""

    def on_pod(self, view: PodView) -> None:
        """Take a state of a pod; at the start and after an interruption, of every pod."""

    def on_pod_gone(self, key: ObjectKey, uid: str) -> None:
        """Take it that a pod exists no more, or has lost its label."""


class PodWatch:
    """Follows the labelled pods of all namespaces and tells the subscribers."""

    def __init__(self, api: KubeApi) -> None:
        self._watch = ListWatch(
            api, PODS, None, self, {"labelSelector": SELECTOR}, page_size=_PAGE_SIZE, reduce=reduce_pod
        )
        self._subscribers: list[PodSubscriber] = []
        self._uids: dict[ObjectKey, str] = {}

    def subscribe(self, subscriber: PodSubscriber) -> None:
        """Tell one more subscriber; to be called before ``run``."""
        self._subscribers.append(subscriber)

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._watch.run()

    # The observer of the watch.

    def on_list(self, items: Sequence[Json]) -> None:
        """Take all pods; those that aren't among them are gone."""
        views = [parse_pod(item) for item in items]
        for key in self._uids.keys() - {view.key for view in views}:
            self._forget(key)
        for view in views:
            self._tell(view)

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change; a pod that loses its label is DELETED for this watch."""
        view = parse_pod(reduce_pod(item))
        if kind == "DELETED":
            self._forget(view.key)
        else:
            self._tell(view)

    def _tell(self, view: PodView) -> None:
        if self._uids.get(view.key, view.uid) != view.uid:
            self._forget(view.key)
        self._uids[view.key] = view.uid
        for subscriber in self._subscribers:
            subscriber.on_pod(view)

    def _forget(self, key: ObjectKey) -> None:
        uid = self._uids.pop(key, None)
        if uid is not None:
            for subscriber in self._subscribers:
                subscriber.on_pod_gone(key, uid)


def reduce_pod(item: Json) -> Json:
    """Return what ``parse_pod`` needs of a pod, so that a list of thousands isn't held in full."""
    metadata, spec = item["metadata"], item["spec"]
    annotations = metadata.get("annotations") or {}
    wanted = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "creationTimestamp")
    return {
        "metadata": {
            **{name: metadata[name] for name in wanted if name in metadata},
            "generateName": metadata.get("generateName", ""),
            "annotations": {name: annotations[name] for name in annotations if name.startswith(f"{GROUP}/")},
            "ownerReferences": metadata.get("ownerReferences") or [],
        },
        "spec": {
            "serviceAccountName": spec.get("serviceAccountName"),
            "initContainers": [{"name": one["name"]} for one in spec.get("initContainers") or ()],
            "containers": [{"name": one["name"]} for one in spec["containers"]],
        },
        "status": {"phase": (item.get("status") or {}).get("phase", "Pending")},
    }
