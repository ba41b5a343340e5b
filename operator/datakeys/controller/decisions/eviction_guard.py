"""When an uninjected pod may be evicted, so that a broken webhook costs one pod and never a storm.

Zone: no secrets, no I/O; the clock is an argument, in seconds. After an eviction the owner's next pod is the
proof: it must be injected before another pod of that owner goes. If it isn't, that owner is left alone, and
so is everybody until a new pod has been injected somewhere.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from datakeys.controller.decisions.injection_check import is_evictable
from datakeys.controller.decisions.pod_view import PodView

#: How long an owner may take to make a pod in place of an evicted one, before a person is told.
REPLACEMENT_SECONDS: Final = 300.0


class Step(Enum):
    """What to do about an uninjected pod."""

    EVICT = auto()
    #: Look again after some seconds.
    WAIT = auto()
    #: Until there is news, evicting helps nobody.
    LEAVE = auto()
    #: The owner has made no pod in place of an evicted one.
    TELL_NO_REPLACEMENT = auto()


class News(Enum):
    """What a new pod proves."""

    NONE = auto()
    #: Pods are injected: the others may be looked at again.
    WORKS = auto()
    #: A pod made in place of an evicted one isn't injected either.
    BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step; with WAIT, how long, in seconds."""

    step: Step
    seconds: float = 0.0


@dataclass
class EvictionGuard:
    """What was evicted, and what came of it.

    Attributes:
        minimum_age_seconds: A pod is left alone for that long after it was made.
        interval_seconds: Between two evictions, whosever pods.
    """

    minimum_age_seconds: float
    interval_seconds: float
    _open_since: dict[str, float] = field(default_factory=dict)
    _hopeless: set[str] = field(default_factory=set)
    _stopped: bool = False
    _next_at: float = 0.0

    @property
    def stopped(self) -> bool:
        """Return whether nothing is evicted until a new pod has been injected."""
        return self._stopped

    def decide(self, pod: PodView, now: float) -> Verdict:
        """Return what to do about an uninjected pod of a namespace that isn't excluded."""
        owner = pod.owner_uid
        if owner is None or not is_evictable(pod) or owner in self._hopeless:
            return Verdict(Step.LEAVE)
        if owner in self._open_since:
            return self._await_replacement(now - self._open_since[owner])
        age = now - pod.created_at.timestamp()
        if age < self.minimum_age_seconds:
            return _wait(self.minimum_age_seconds - age, self.minimum_age_seconds)
        if self._stopped:
            return Verdict(Step.LEAVE)
        if now < self._next_at:
            return _wait(self._next_at - now, self.interval_seconds)
        return Verdict(Step.EVICT)

    def note_eviction(self, pod: PodView, now: float) -> None:
        """Take it that a pod is about to be evicted: the pod in its place may be seen before the answer."""
        if pod.owner_uid is not None:
            self._open_since[pod.owner_uid] = now
        self._next_at = now + self.interval_seconds

    def note_refusal(self, pod: PodView) -> None:
        """Take it that the pod wasn't evicted after all."""
        self._open_since.pop(pod.owner_uid or "", None)
        self._next_at = 0.0

    def note_new_pod(self, pod: PodView) -> News:
        """Take a pod that is seen for the first time."""
        is_replacement = pod.owner_uid in self._open_since
        if pod.owner_uid is not None:
            self._open_since.pop(pod.owner_uid, None)
        if pod.injected:
            news = News.WORKS if is_replacement or self._stopped else News.NONE
            self._stopped = False
            return news
        if not is_replacement or pod.owner_uid is None:
            return News.NONE
        self._hopeless.add(pod.owner_uid)
        self._stopped = True
        return News.BROKEN

    @staticmethod
    def _await_replacement(elapsed: float) -> Verdict:
        if elapsed >= REPLACEMENT_SECONDS:
            return Verdict(Step.TELL_NO_REPLACEMENT)
        return _wait(REPLACEMENT_SECONDS - elapsed, REPLACEMENT_SECONDS)


def _wait(seconds: float, longest: float) -> Verdict:
    """Return a wait; a clock that was set back makes it no longer than it could ever be."""
    return Verdict(Step.WAIT, min(seconds, longest))
