"""Whatever happens around it, the guard evicts one pod per proof, never faster than allowed."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from datakeys.contract.workload import Workload
from datakeys.controller.decisions.eviction_guard import REPLACEMENT_SECONDS, EvictionGuard, Step
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
    hopeless: set[str] = field(default_factory=set)
    stopped: bool = False
    last_eviction: float = float("-inf")
    without_proof: int = 0


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
        self.guard.note_new_pod(pod)
        was_open = owner in world.open
        world.open.discard(owner)
        if pod.injected:
            world.stopped, world.without_proof = False, 0
        elif was_open:
            world.stopped = True
            world.hopeless.add(owner)

    @rule(works=st.booleans())
    def change_webhook(self, *, works: bool) -> None:
        """The webhook breaks, or is repaired."""
        self.world.works = works

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 60.0, MINIMUM_AGE, REPLACEMENT_SECONDS]))
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
        assert 0 <= verdict.seconds <= REPLACEMENT_SECONDS
        assert (verdict.step is Step.WAIT) == (verdict.seconds > 0)
        if verdict.step is not Step.EVICT:
            return
        owner = str(pod.owner_uid)
        assert KINDS[owner] != "Job"
        assert owner not in world.open | world.hopeless
        assert not world.stopped
        assert world.now - pod.created_at.timestamp() >= MINIMUM_AGE
        assert world.now - world.last_eviction >= INTERVAL
        self.guard.note_eviction(pod, world.now)
        if refused:
            self.guard.note_refusal(pod)
            return
        world.pods.remove(pod)
        world.open.add(owner)
        world.last_eviction = world.now
        world.without_proof += 1

    @invariant()
    def guard_knows_when_it_stopped(self) -> None:
        """What is shown as a metric is so."""
        assert self.guard.stopped == self.world.stopped

    @invariant()
    def few_pods_are_lost_to_a_broken_webhook(self) -> None:
        """Between two injected pods, anywhere, at most one pod of each owner goes."""
        assert self.world.without_proof <= len(OWNERS)


def _build_pod(number: int, owner: str, now: float, *, injected: bool) -> PodView:
    return PodView(
        key=ObjectKey("shop", f"{owner}-{number}"),
        uid=f"uid-{number}",
        resource_version="1",
        deleting=False,
        created_at=datetime.fromtimestamp(now, UTC),
        generate_name="",
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
