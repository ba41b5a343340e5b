"""Turns changes of annotated workloads, their pods and their requests into work. Zone: no secrets.

A workload is watched by the label that the webhook puts on it. One that loses the label, or ends, is
forgotten; its data key stays or goes as its annotation says.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_DELETION_POLICY, LABEL_INJECT
from datakeys.contract.pod_workload import POD
from datakeys.contract.workload import DeletionPolicy, Workload
from datakeys.controller.decisions.pod_view import PodView
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.workload_view import (
    API_VERSIONS,
    WorkloadView,
    parse_pod_workload,
    parse_workload,
    reduce_workload,
)
from datakeys.controller.kube.api import Json, KubeApi, Resource
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.work_queue import WorkQueue
from datakeys.controller.workload_memory import WorkloadMemory

_SELECTOR: Final = f"{LABEL_INJECT}=true"
_PAGE_SIZE: Final = 250


@dataclass
class _Pods:
    """The pods that ask for data keys themselves, and the names of the queue that they come under."""

    _views: dict[ObjectKey, tuple[ObjectKey, WorkloadView]] = field(default_factory=dict)
    _members: dict[ObjectKey, set[ObjectKey]] = field(default_factory=dict)

    def put(self, pod: ObjectKey, key: ObjectKey, view: WorkloadView) -> WorkloadView | None:
        """Remember a pod; return what it asked for before, under the same name."""
        known = self._views.get(pod)
        if known is not None and known[0] != key:
            self.remove(pod)
            known = None
        self._views[pod] = (key, view)
        self._members.setdefault(key, set()).add(pod)
        return known[1] if known else None

    def remove(self, pod: ObjectKey) -> ObjectKey | None:
        """Forget a pod; return the name that no pod comes under any more, or None."""
        key, _ = self._views.pop(pod, (None, None))
        if key is None:
            return None
        self._members[key].discard(pod)
        if self._members[key]:
            return None
        del self._members[key]
        return key


@dataclass(frozen=True)
class Workloads:
    """The one place that adds workloads to the queue."""

    memory: WorkloadMemory
    queue: WorkQueue
    recorder: EventRecorder
    _pods: _Pods = field(default_factory=_Pods)

    async def run(self, api: KubeApi) -> None:
        """Watch the workloads of all kinds and work on them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run(), name="workload workers")
            for kind in API_VERSIONS:
                watch = _watch(api, kind, _KindObserver(self, kind))
                group.create_task(watch.run(), name=f"watch {kind}s")

    def observe(self, key: ObjectKey, view: WorkloadView) -> None:
        """Take a state of a workload."""
        if self.memory.observe(key, view):
            self.queue.add(key)

    def forget(self, key: ObjectKey) -> None:
        """Take it that a workload is gone, or asks for nothing any more."""
        view = self.memory.get(key)
        if view is None:
            return
        self.queue.forget(key)
        for name, uid in self.memory.forget(key):
            if _is_retained(view):
                self._tell_retained(view, name, uid)

    # The requests, as kopf follows them.

    def on_request(self, body: Mapping[str, Any]) -> None:
        """Take a state of a DataKeyRequest."""
        for key in self.memory.observe_request(body):
            self.queue.add(key)

    def on_request_gone(self, request: ObjectKey) -> None:
        """Take it that a DataKeyRequest is gone."""
        for key in self.memory.forget_request(request):
            self.queue.add(key)

    # The subscriber of the pod watch.

    def on_pod(self, view: PodView) -> None:
        """Take a state of a labelled pod."""
        workload = parse_pod_workload(view)
        if workload is None:
            if not view.deleting:
                self.on_pod_gone(view.key, view.uid)
            return
        key = _key_of_pods(workload)
        before = self._pods.put(view.key, key, workload)
        if before != workload:
            self.observe(key, workload)

    def on_pod_gone(self, key: ObjectKey, uid: str) -> None:  # noqa: ARG002 - the name is told of one at a time
        """Take it that a pod is gone, or asks for no data key itself."""
        emptied = self._pods.remove(key)
        if emptied is not None:
            self.forget(emptied)

    def _tell_retained(self, view: WorkloadView, name: str, uid: str) -> None:
        note = (
            f"{view.workload} is gone or asks for no data key any more. This one stays, and a new "
            f"{view.workload} finds it; delete this request to give the data key up"
        )
        self.recorder.record(Subject("DataKeyRequest", view.namespace, name, uid), EventReason.RETAINED, note)


@dataclass
class _KindObserver:
    """The observer of the watch of one kind."""

    workloads: Workloads
    kind: str
    _known: set[ObjectKey] = field(default_factory=set)

    def on_list(self, items: Sequence[Json]) -> None:
        """Take all objects; those that aren't among them are gone."""
        present = {self._key(item) for item in items}
        for key in self._known - present:
            self._forget(key)
        for item in items:
            self._observe(item)

    def on_change(self, kind: str, item: Json) -> None:
        """Take one change; an object that loses its label is DELETED for this watch."""
        if kind == "DELETED":
            self._forget(self._key(item))
        else:
            self._observe(item)

    def _observe(self, item: Json) -> None:
        key, view = self._key(item), parse_workload(self.kind, item)
        known = self.workloads.memory.get(key)
        if view is None or (known is not None and known.uid != view.uid):
            self._forget(key)
        if view is not None:
            self._known.add(key)
            self.workloads.observe(key, view)

    def _forget(self, key: ObjectKey) -> None:
        self._known.discard(key)
        self.workloads.forget(key)

    def _key(self, item: Json) -> ObjectKey:
        metadata = item["metadata"]
        return ObjectKey(metadata["namespace"], str(Workload(self.kind, metadata["name"])))


def _watch(api: KubeApi, kind: str, observer: _KindObserver) -> ListWatch:
    return ListWatch(
        api,
        Resource.of_kind(API_VERSIONS[kind], kind),
        None,
        observer,
        {"labelSelector": _SELECTOR},
        page_size=_PAGE_SIZE,
        reduce=lambda item: reduce_workload(kind, item),
    )


def _key_of_pods(view: WorkloadView) -> ObjectKey:
    """Return the name under which the pods of a workload are worked on, each ordinal by itself."""
    ordinal = "" if view.ordinals is None else f" {view.ordinals.start}"
    return ObjectKey(view.namespace, f"pods of {view.workload}{ordinal}")


def _is_retained(view: WorkloadView) -> bool:
    """Return whether a workload is gone for good with its watched object, and its data key isn't."""
    is_whole = view.told.kind != POD or view.workload.kind == POD
    policy = view.annotations.get(ANNOTATION_DELETION_POLICY, DeletionPolicy.RETAIN)
    return is_whole and (policy != DeletionPolicy.DELETE or view.uid is None)
