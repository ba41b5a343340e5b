"""The part of the controller that cares for workloads, against an API in memory.

Zone: tests. Events are fed by hand, and work is done by hand.
"""

from dataclasses import dataclass, field
from typing import Any

from annotated_workloads import Json, build_workload
from controller_fakes import NAMESPACE, FakeApi, FakeCluster
from datakeys.controller.decisions.pod_view import parse_pod
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.handle_workload import WorkloadReconciler
from datakeys.controller.kube.api import REQUESTS
from datakeys.controller.kube.events import Subject
from datakeys.controller.work_queue import WorkQueue
from datakeys.controller.workload_memory import WorkloadMemory
from datakeys.controller.workloads import Workloads, _KindObserver

NAME = "orders.deployment"


@dataclass
class Recorder:
    """Remembers what was told, and about what."""

    told: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self, subject: Subject, reason: str, note: str) -> None:
        """Remember an Event."""
        self.told.append((subject.kind, subject.name, str(reason)))
        self.notes.append(note)

    @property
    def reasons(self) -> list[str]:
        """Return the reasons alone."""
        return [reason for _, _, reason in self.told]


class Simulation:
    """The part of the controller that cares for workloads; events are fed by hand, work is done by hand."""

    def __init__(self, cluster: FakeCluster | None = None, **hooks: Any) -> None:
        self.cluster = cluster or FakeCluster()
        self.api = FakeApi(self.cluster, **hooks)
        self.recorder = Recorder()
        self.memory = WorkloadMemory()
        untyped: Any = self.api
        recorder: Any = self.recorder
        self.reconciler = WorkloadReconciler(untyped, self.memory, recorder, fraction=lambda: 0.0)
        self.queue = WorkQueue(self.reconciler.reconcile, workers=1)
        self.workloads = Workloads(self.memory, self.queue, recorder)
        self.observers = {kind: _KindObserver(self.workloads, kind) for kind in ("Deployment", "StatefulSet")}

    def see(
        self, kind: str = "Deployment", change: str = "MODIFIED", *, uid: str = "u1", **options: Any
    ) -> None:
        """Feed a state of a workload, as its watch would."""
        self.observers[kind].on_change(change, stored(build_workload(kind, **options), uid))

    async def collect_garbage(self, living: set[str]) -> None:
        """Do what Kubernetes does for requests whose owners are gone, and tell the controller."""
        for name in self.names():
            body = self.request(name)
            owners = body["metadata"].get("ownerReferences") or []
            left = [owner for owner in owners if owner["uid"] in living]
            if owners and not left:
                await self.cluster.remove(REQUESTS, name)
            elif left != owners:
                body["metadata"]["ownerReferences"] = left
                await self.cluster.change(REQUESTS, NAMESPACE, body)
            self.see_request(name)

    def see_pod(self, name: str, *, uid: str = "p1", **options: Any) -> None:
        """Feed a state of a pod."""
        self.workloads.on_pod(parse_pod(stored(build_workload("Pod", name, **options), uid)))

    def see_request(self, name: str = NAME) -> None:
        """Feed the present state of a request, or its end."""
        body = self.cluster.find(REQUESTS, name)
        if body is None:
            self.workloads.on_request_gone(ObjectKey(NAMESPACE, name))
        else:
            self.workloads.on_request(body)

    async def work(self) -> list[float | None]:
        """Do all that is waiting, once; return the delays."""
        delays = []
        for key in self.queue.waiting_keys():
            self.queue._waiting.popleft()
            self.queue._queued.discard(key)
            delays.append(await self.reconciler.reconcile(key))
        return delays

    def request(self, name: str = NAME) -> Json:
        """Return a request."""
        body = self.cluster.find(REQUESTS, name)
        assert body is not None
        return body

    def names(self) -> list[str]:
        """Return the names of all requests."""
        return [name for plural, _, name in self.cluster.objects if plural == REQUESTS.plural]

    def owners(self, name: str = NAME) -> list[str]:
        """Return the UIDs of a request's owners."""
        return [owner["uid"] for owner in self.request(name)["metadata"].get("ownerReferences") or ()]


def stored(body: Json, uid: str) -> Json:
    """Return an object as the API server gives it."""
    return {
        **body,
        "metadata": {"namespace": NAMESPACE, "uid": uid, "resourceVersion": "1", **body["metadata"]},
    }
