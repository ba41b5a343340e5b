"""Labelled pods that run without sidecar: counted, told about, evicted if that is wanted. Zone: no secrets.

A pod gets there when it was admitted without the webhook: with failurePolicy Ignore, in an excluded
namespace, or before the chart was installed.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from datakeys.controller import metrics
from datakeys.controller.decisions.backoff import QUIET_ATTEMPTS, backoff_seconds
from datakeys.controller.decisions.eviction_guard import EvictionGuard, News, Step
from datakeys.controller.decisions.injection_check import describe_uninjected, is_uninjected
from datakeys.controller.decisions.pod_view import PodView
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import KubeApi
from datakeys.controller.kube.errors import ConflictError, KubeError, MissingError, UnavailableError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject
from datakeys.controller.settings import Settings
from datakeys.controller.work_queue import WorkQueue

_LOG = logging.getLogger(__name__)
#: Pods per second that are told about, so that other Events have room.
PACE: Final = 5.0
#: A PodDisruptionBudget changes its mind in seconds at the soonest: pauses begin at 8 s, and grow to 5 min.
_FIRST_FAILURE: Final = QUIET_ATTEMPTS + 2
_REPAIR: Final = "Look at the webhook: its pods, their log, the MutatingWebhookConfiguration datakeys-webhook"


@dataclass
class InjectionCheck:
    """Subscribes to labelled pods and looks at those that aren't injected.

    Attributes:
        excluded: Namespaces whose pods are never injected.
        guard: Decides about evictions; None: nothing is evicted.
    """

    api: KubeApi
    recorder: EventRecorder
    excluded: frozenset[str]
    guard: EvictionGuard | None
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    queue: WorkQueue = field(init=False)
    _seen: dict[ObjectKey, str] = field(default_factory=dict)
    _uninjected: dict[ObjectKey, PodView] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _told: set[str] = field(default_factory=set)
    _failures: Counter[str] = field(default_factory=Counter)
    _next_slot: float = 0.0

    def __post_init__(self) -> None:
        """Make the queue; one worker, so that evictions come one after another."""
        self.queue = WorkQueue(self.look, workers=1, length=metrics.POD_QUEUE_LENGTH)

    @classmethod
    def from_settings(cls, settings: Settings, api: KubeApi, recorder: EventRecorder) -> Self:
        """Return the check that the settings ask for."""
        guard = EvictionGuard(settings.eviction_minimum_age_seconds, 60 / settings.evictions_per_minute)
        return cls(api, recorder, settings.excluded_namespaces, guard if settings.evict_uninjected else None)

    async def run(self) -> None:
        """Look at pods until cancelled."""
        await self.queue.run()

    def on_pod(self, view: PodView) -> None:
        """Take a state of a labelled pod."""
        is_new = self._seen.get(view.key) != view.uid
        self._seen[view.key] = view.uid
        if not is_uninjected(view):
            self._forget(view.key)
        else:
            self._remember(view)
        if is_new and self.guard is not None:
            self._learn(self.guard, view)

    def on_pod_gone(self, key: ObjectKey, uid: str) -> None:
        """Forget a pod."""
        self._seen.pop(key, None)
        self._told.discard(uid)
        self._failures.pop(uid, None)
        self._forget(key)

    async def look(self, key: ObjectKey) -> float | None:
        """Tell about an uninjected pod, and evict it if it is time; return when to look again, in seconds."""
        pod = self._uninjected.get(key)
        if pod is None:
            return None
        excluded = key.namespace in self.excluded
        if pod.uid not in self._told:
            self._told.add(pod.uid)
            self._tell(pod, EventReason.NOT_INJECTED, describe_uninjected(pod, excluded=excluded))
        if self.guard is None or excluded:
            return None
        verdict = self.guard.decide(pod, self.clock())
        metrics.EVICTION_STOPPED.set(int(self.guard.is_stopped(self.clock())))
        match verdict.step:
            case Step.EVICT:
                return await self._evict(self.guard, pod)
            case Step.WAIT:
                return verdict.seconds
            case Step.TELL_NO_REPLACEMENT:
                self._tell(pod, EventReason.EVICTION_STOPPED, _build_no_replacement_note(pod))
        return None

    def _remember(self, pod: PodView) -> None:
        known = self._uninjected.get(pod.key)
        self._uninjected[pod.key] = pod
        if known is None:
            self._count(pod.key.namespace, 1)
        if known is None or known.uid != pod.uid:
            self.queue.add_later(pod.key, self._next_delay())

    def _forget(self, key: ObjectKey) -> None:
        if self._uninjected.pop(key, None) is not None:
            self.queue.forget(key)
            self._count(key.namespace, -1)

    def _count(self, namespace: str, change: int) -> None:
        self._counts[namespace] += change
        if self._counts[namespace]:
            metrics.PODS_NOT_INJECTED.labels(namespace).set(self._counts[namespace])
        else:
            del self._counts[namespace]
            metrics.PODS_NOT_INJECTED.remove(namespace)

    def _learn(self, guard: EvictionGuard, pod: PodView) -> None:
        news = guard.note_new_pod(pod, self.clock())
        metrics.EVICTION_STOPPED.set(int(guard.is_stopped(self.clock())))
        if news is News.WORKS:
            for key in self._uninjected:
                self.queue.add_later(key, self._next_delay())
        elif news is News.BROKEN:
            self._tell(pod, EventReason.EVICTION_STOPPED, _build_broken_note(pod))

    async def _evict(self, guard: EvictionGuard, pod: PodView) -> float | None:
        guard.note_eviction(pod, self.clock())
        try:
            await self.api.evict(pod.key.namespace, pod.key.name, pod.uid)
        except KubeError as error:
            guard.note_refusal(pod)
            return self._take_refusal(pod, error)
        metrics.EVICTIONS.labels("evicted").inc()
        _LOG.info("uninjected pod evicted", extra=_name(pod))
        return None

    def _take_refusal(self, pod: PodView, error: KubeError) -> float | None:
        """Return after how many seconds to try again; None: the pod is gone, and the watch will tell."""
        if isinstance(error, MissingError | ConflictError):
            return None
        is_blocked = isinstance(error, UnavailableError)
        metrics.EVICTIONS.labels("blocked" if is_blocked else "refused").inc()
        _LOG.info("uninjected pod not evicted", extra={**_name(pod), "error": str(error)})
        self._failures[pod.uid] += 1
        return backoff_seconds(_FIRST_FAILURE + self._failures[pod.uid], self.jitter())

    def _tell(self, pod: PodView, reason: EventReason, note: str) -> None:
        subject = Subject("Pod", pod.key.namespace, pod.key.name, pod.uid, "v1")
        self.recorder.record(subject, reason, note, once=True)

    def _next_delay(self) -> float:
        now = asyncio.get_running_loop().time()
        self._next_slot = max(now, self._next_slot + 1 / PACE)
        return self._next_slot - now


def _name(pod: PodView) -> dict[str, str]:
    return {"namespace": pod.key.namespace, "object": pod.key.name}


def _build_broken_note(pod: PodView) -> str:
    return (
        f"{pod.owner} made this pod in place of an evicted one, and it isn't injected either. No other pod "
        "is evicted for 10 minutes or, if that has happened before, longer; a new pod that is injected ends "
        f"the wait. {_REPAIR}"
    )


def _build_no_replacement_note(pod: PodView) -> str:
    return (
        f"{pod.owner} has made no pod yet in place of one that was evicted, so no other of its pods is. "
        f"Look at its Events: kubectl describe {str(pod.owner).lower()} -n {pod.key.namespace}"
    )
