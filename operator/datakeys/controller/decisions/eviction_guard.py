"""When an uninjected pod may be evicted, so that a broken webhook costs one pod now and then, never a storm.

Zone: no secrets, no I/O; the clock is an argument, in seconds. After an eviction the owner's next pod is the
proof: it must be injected before another pod of that owner goes. If it isn't, everybody is left alone for a
while, longer and longer, or until a new pod has been injected somewhere; that owner in any case for a while.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from datakeys.controller.decisions.injection_check import is_evictable
from datakeys.controller.decisions.pod_view import PodView

#: After the first pod that came back uninjected nothing is evicted for that long; it doubles every time.
HOLD_SECONDS: Final = 600.0
LONGEST_HOLD_SECONDS: Final = 6 * 3600.0
#: How long an owner may take to make a pod in place of an evicted one, before a person is told.
REPLACEMENT_SECONDS: Final = 300.0


class Step(Enum):
    """What to do about an uninjected pod."""

    EVICT = auto()
    #: Look again after some seconds.
    WAIT = auto()
    #: The pod wouldn't come back.
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


@dataclass(frozen=True, slots=True)
class _Hold:
    """No evictions until a time, after so many failures in a row."""

    until: float = 0.0
    failures: int = 0

    def remaining(self, now: float) -> float:
        """Return for how long, in seconds; 0: it is over."""
        return max(0.0, self.until - now)

    def again(self, now: float) -> "_Hold":
        """Return the hold after one more failure."""
        seconds = min(LONGEST_HOLD_SECONDS, HOLD_SECONDS * 2.0 ** min(self.failures, 16))
        return _Hold(now + seconds, self.failures + 1)


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
    _holds: dict[str, _Hold] = field(default_factory=dict)
    _everybody: _Hold = field(default_factory=_Hold)
    _next_at: float = 0.0

    def is_stopped(self, now: float) -> bool:
        """Return whether nothing is evicted for now, whosever pod."""
        return self._everybody.remaining(now) > 0

    def decide(self, pod: PodView, now: float) -> Verdict:
        """Return what to do about an uninjected pod of a namespace that isn't excluded."""
        owner = pod.owner_uid
        if owner is None or not is_evictable(pod):
            return Verdict(Step.LEAVE)
        if owner in self._open_since:
            return self._await_replacement(now - self._open_since[owner])
        age = now - pod.created_at.timestamp()
        if age < self.minimum_age_seconds:
            return _wait(self.minimum_age_seconds - age, self.minimum_age_seconds)
        held = max(self._everybody.remaining(now), self._holds.get(owner, _Hold()).remaining(now))
        if held > 0:
            return _wait(held, LONGEST_HOLD_SECONDS)
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

    def note_new_pod(self, pod: PodView, now: float) -> News:
        """Take a pod that is seen for the first time."""
        owner = pod.owner_uid or ""
        is_replacement = self._open_since.pop(owner, None) is not None
        if pod.injected:
            news = News.WORKS if is_replacement or self.is_stopped(now) else News.NONE
            self._everybody = _Hold()
            self._holds.pop(owner, None)
            return news
        if not is_replacement:
            return News.NONE
        self._everybody = self._everybody.again(now)
        self._holds[owner] = self._holds.get(owner, _Hold()).again(now)
        return News.BROKEN

    @staticmethod
    def _await_replacement(elapsed: float) -> Verdict:
        if elapsed >= REPLACEMENT_SECONDS:
            return Verdict(Step.TELL_NO_REPLACEMENT)
        return _wait(REPLACEMENT_SECONDS - elapsed, REPLACEMENT_SECONDS)


def _wait(seconds: float, longest: float) -> Verdict:
    """Return a wait; a clock that was set back makes it no longer than it could ever be."""
    return Verdict(Step.WAIT, min(seconds, longest))
