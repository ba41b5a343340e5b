"""Whatever happens around it, the guard evicts one pod per proof or long wait, never faster than allowed."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from datakeys.contract.workload import Workload
from datakeys.controller.decisions.eviction_guard import (
    HOLD_SECONDS,
    LONGEST_HOLD_SECONDS,
    REPLACEMENT_SECONDS,
    EvictionGuard,
    Step,
)
from datakeys.controller.decisions.pod_view import PodView
from datakeys.controller.decisions.request_view import ObjectKey

MINIMUM_AGE, INTERVAL = 120.0, 10.0
OWNERS = ("a", "b", "c")
KINDS = {"a": "ReplicaSet", "b": "StatefulSet", "c": "Job"}


@dataclass
class World:
    """What is true, independently of the guard."""

    now: float = 1_000_000.0
    works: bool = True
    pods: list[PodView] = field(default_factory=list)
    #: Owners whose evicted pod nothing has been seen in place of.
    open: set[str] = field(default_factory=set)
    #: When a pod of an owner came back uninjected last; "" for anybody's, until a new pod is injected.
    failed_at: dict[str, float] = field(default_factory=dict)
    last_eviction: float = float("-inf")


class Guarded(RuleBasedStateMachine):
    """Pods come and go, the webhook breaks and works again, time passes; the guard is asked now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = EvictionGuard(MINIMUM_AGE, INTERVAL)
        self.world = World()

    @rule(owner=st.sampled_from(OWNERS))
    def create(self, owner: str) -> None:
        """An owner makes a pod, through the webhook as it is now."""
        world = self.world
        pod = _build_pod(len(world.pods), owner, world.now, injected=world.works)
        world.pods.append(pod)
        self.guard.note_new_pod(pod, world.now)
        was_open = owner in world.open
        world.open.discard(owner)
        if pod.injected:
            world.failed_at.pop("", None)
            world.failed_at.pop(owner, None)
        elif was_open:
            world.failed_at[""] = world.failed_at[owner] = world.now

    @rule(works=st.booleans())
    def change_webhook(self, *, works: bool) -> None:
        """The webhook breaks, or is repaired."""
        self.world.works = works

    @rule(
        seconds=st.sampled_from(
            [1.0, 9.0, 11.0, MINIMUM_AGE, REPLACEMENT_SECONDS, HOLD_SECONDS, 3 * HOLD_SECONDS]
        )
    )
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.now += seconds

    @rule(number=st.integers(0, 50), refused=st.booleans())
    def look(self, number: int, *, refused: bool) -> None:
        """A pod is looked at; if it may go, it is evicted, unless a budget refuses that."""
        world = self.world
        waiting = [pod for pod in world.pods if not pod.injected]
        if not waiting:
            return
        pod = waiting[number % len(waiting)]
        verdict = self.guard.decide(pod, world.now)
        assert 0 <= verdict.seconds <= LONGEST_HOLD_SECONDS
        assert (verdict.step is Step.WAIT) == (verdict.seconds > 0)
        if verdict.step is not Step.EVICT:
            return
        owner = str(pod.owner_uid)
        assert KINDS[owner] != "Job"
        assert owner not in world.open
        for whose in ("", owner):
            assert world.now - world.failed_at.get(whose, float("-inf")) >= HOLD_SECONDS
        assert world.now - pod.created_at.timestamp() >= MINIMUM_AGE
        assert world.now - world.last_eviction >= INTERVAL
        self.guard.note_eviction(pod, world.now)
        if refused:
            self.guard.note_refusal(pod)
            return
        world.pods.remove(pod)
        world.open.add(owner)
        world.last_eviction = world.now

    @invariant()
    def stop_is_shown(self) -> None:
        """What is shown as a metric is so: stopped for a while after a failure, unless a pod was injected."""
        failed_at = self.world.failed_at.get("")
        if failed_at is None:
            assert not self.guard.is_stopped(self.world.now)
        elif self.world.now < failed_at + HOLD_SECONDS:
            assert self.guard.is_stopped(self.world.now)


def _build_pod(number: int, owner: str, now: float, *, injected: bool) -> PodView:
    return PodView(
        key=ObjectKey("shop", f"{owner}-{number}"),
        uid=f"uid-{number}",
        resource_version="1",
        deleting=False,
        created_at=datetime.fromtimestamp(now, UTC),
        workload=None,
        annotations={},
        service_account="app",
        owner=Workload(KINDS[owner], owner),
        owner_api_version="apps/v1",
        owner_uid=owner,
        injected=injected,
        phase="Running",
    )


TestGuarded = Guarded.TestCase
TestGuarded.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
