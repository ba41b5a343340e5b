"""Labelled pods without sidecar: counted, told about once, evicted carefully."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from datakeys.controller import metrics
from datakeys.controller.decisions.eviction_guard import (
    HOLD_SECONDS,
    REPLACEMENT_SECONDS,
    EvictionGuard,
    News,
    Step,
)
from datakeys.controller.decisions.injection_check import describe_uninjected, is_evictable, is_uninjected
from datakeys.controller.decisions.pod_view import PodView, parse_pod
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.check_injection import InjectionCheck
from datakeys.controller.kube.errors import ForbiddenError, KubeError, MissingError, UnavailableError
from datakeys.controller.kube.events import Subject

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
INJECTED = {"datakeys.dev/injected": "sidecar:1"}


def build_pod(name: str = "orders-1", *, owner: str | None = "orders", injected: bool = False) -> PodView:
    """Return a labelled pod, an hour old; its UID is made from its name, its owner's from the owner's."""
    references = [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": owner,
            "uid": f"rs-{owner}",
            "controller": True,
        }
    ]
    return parse_pod(
        {
            "metadata": {
                "namespace": "shop",
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T11:00:00Z",
                "annotations": INJECTED if injected else {},
                "ownerReferences": references if owner else [],
            },
            "spec": {"containers": [{"name": "app"}, *([{"name": "datakeys-sidecar"}] if injected else [])]},
            "status": {"phase": "Running"},
        }
    )


@dataclass
class Cluster:
    """Takes Events and evictions, or refuses the latter."""

    told: list[tuple[str, str]] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    refusal: KubeError | None = None
    on_evict: Callable[[], None] = lambda: None

    def record(self, subject: Subject, reason: str, note: str, *, once: bool = False) -> None:
        """Remember what was told."""
        assert once
        assert note
        assert (subject.kind, subject.api_version) == ("Pod", "v1")
        self.told.append((subject.name, str(reason)))

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Evict a pod."""
        assert namespace == "shop"
        assert uid == f"uid-{name}"
        if self.refusal is not None:
            raise self.refusal
        self.evicted.append(name)
        self.on_evict()


class Check:
    """A check whose queue is emptied by hand."""

    def __init__(self, *, evict: bool = False, excluded: frozenset[str] = frozenset()) -> None:
        self.cluster, self.now = Cluster(), NOW
        untyped: Any = self.cluster
        guard = EvictionGuard(120, 10) if evict else None
        self.check = InjectionCheck(
            untyped, untyped, excluded, guard, clock=lambda: self.now, jitter=lambda: 1.0
        )

    def see(self, *pods: PodView) -> None:
        """Feed states of pods."""
        for pod in pods:
            self.check.on_pod(pod)

    async def look(self, name: str = "orders-1") -> float | None:
        """Look at one pod."""
        return await self.check.look(ObjectKey("shop", name))

    def count(self) -> float | None:
        """Return what the gauge shows for the namespace; None: nothing."""
        return metrics.REGISTRY.get_sample_value("datakeys_pods_not_injected", {"namespace": "shop"})


@pytest.mark.parametrize(
    ("change", "uninjected"),
    [
        ({}, True),
        ({"phase": "Pending"}, True),
        ({"injected": True}, False),
        ({"deleting": True}, False),
        ({"phase": "Succeeded"}, False),
        ({"phase": "Failed"}, False),
    ],
)
def test_pod_that_runs_without_sidecar_is_uninjected(change: dict[str, Any], *, uninjected: bool) -> None:
    """What has ended or is ending needs no key any more."""
    assert is_uninjected(replace(build_pod(), **change)) is uninjected


def test_next_step_fits_the_pod() -> None:
    """A person is told what brings the pod back with its sidecar."""
    pod = build_pod()
    assert "kubectl delete pod orders-1 -n shop; ReplicaSet/orders makes it again" in describe_uninjected(
        pod, excluded=False
    )
    assert "create it again" in describe_uninjected(build_pod(owner=None), excluded=False)
    stamped = replace(pod, annotations={"datakeys.dev/workload": "Deployment/orders"})
    assert "kubectl rollout restart deployment/orders -n shop" in describe_uninjected(stamped, excluded=False)
    assert "excludedNamespaces" in describe_uninjected(pod, excluded=True)


async def test_uninjected_pods_are_counted_by_namespace() -> None:
    """The gauge follows states and ends of pods, and vanishes with the last one."""
    check = Check()
    check.see(build_pod("a"), build_pod("b"), build_pod("c", injected=True))
    check.see(build_pod("b"))
    assert check.count() == 2
    check.see(replace(build_pod("a"), deleting=True))
    assert check.count() == 1
    check.check.on_pod_gone(ObjectKey("shop", "a"), "uid-a")
    check.check.on_pod_gone(ObjectKey("shop", "b"), "uid-b")
    assert check.count() is None


async def test_pod_is_told_about_once() -> None:
    """However often it is looked at; without eviction nothing is left to do."""
    check = Check()
    check.see(build_pod())
    assert await check.look() is None
    check.see(replace(build_pod(), phase="Pending"))
    assert await check.look() is None
    assert check.cluster.told == [("orders-1", "NotInjected")]
    assert check.cluster.evicted == []
    assert await check.look("unknown") is None


async def test_queue_looks_at_uninjected_pods_only() -> None:
    """The wiring: what the watch tells reaches the look."""
    check = Check()
    task = asyncio.create_task(check.check.run())
    check.see(build_pod("a"), build_pod("b", injected=True))
    for _ in range(6000):
        if check.cluster.told:
            break
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert check.cluster.told == [("a", "NotInjected")]


async def test_uninjected_pod_is_evicted_if_wanted() -> None:
    """It is told about first."""
    check = Check(evict=True)
    check.see(build_pod())
    assert await check.look() is None
    assert check.cluster.told == [("orders-1", "NotInjected")]
    assert check.cluster.evicted == ["orders-1"]


@pytest.mark.parametrize("kind", [None, "Job", "Node", "Workflow"])
async def test_pod_that_does_not_come_back_is_never_evicted(kind: str | None) -> None:
    """A bare pod, a static pod, a Job's pod (it would count as failed), and owners nobody knows."""
    pod = build_pod()
    pod = replace(pod, owner=replace(pod.owner, kind=kind) if pod.owner and kind else None)
    check = Check(evict=True)
    check.see(pod)
    assert not is_evictable(pod)
    assert await check.look() is None
    assert check.cluster.evicted == []


async def test_pod_in_an_excluded_namespace_is_never_evicted() -> None:
    """It would come back without sidecar."""
    check = Check(evict=True, excluded=frozenset({"shop"}))
    check.see(build_pod())
    assert await check.look() is None
    assert check.cluster.told == [("orders-1", "NotInjected")]
    assert check.cluster.evicted == []


async def test_young_pod_waits_for_its_age() -> None:
    """Also if this process' clock is behind the API server's."""
    check = Check(evict=True)
    check.see(replace(build_pod(), created_at=datetime.fromtimestamp(NOW - 20, UTC)))
    assert await check.look() == 100
    check.now -= 1000
    assert await check.look() == 120
    assert check.cluster.evicted == []


async def test_disruption_budget_is_respected_with_growing_pauses() -> None:
    """A 429 isn't news and isn't an end: the pod is tried again, less and less often."""
    check = Check(evict=True)
    check.see(build_pod())
    check.cluster.refusal = UnavailableError(429, "TooManyRequests", "would violate the budget")
    pauses = [await check.look() for _ in range(8)]
    assert pauses == [8, 16, 32, 64, 128, 256, 300, 300]
    check.cluster.refusal = None
    assert await check.look() is None
    assert check.cluster.evicted == ["orders-1"]


@pytest.mark.parametrize(
    ("refusal", "again"), [(MissingError(404, "", ""), False), (ForbiddenError(403, "", ""), True)]
)
async def test_eviction_that_fails(refusal: KubeError, *, again: bool) -> None:
    """A pod that is gone is done; a missing right is tried again later."""
    check = Check(evict=True)
    check.see(build_pod())
    check.cluster.refusal = refusal
    assert (await check.look() is not None) is again


async def test_evictions_are_spaced() -> None:
    """Pods of different owners go one after another."""
    check = Check(evict=True)
    check.see(build_pod("a", owner="a"), build_pod("b", owner="b"))
    await check.look("a")
    check.now += 4
    assert await check.look("b") == 6
    check.now += 6
    assert await check.look("b") is None
    assert check.cluster.evicted == ["a", "b"]


async def test_next_pod_of_an_owner_waits_for_the_proof() -> None:
    """The pod in place of the evicted one is injected: now the next one goes."""
    check = Check(evict=True)
    check.see(build_pod("a"), build_pod("b"))
    await check.look("a")
    check.now += 60
    assert await check.look("b") == REPLACEMENT_SECONDS - 60
    check.see(replace(build_pod("a"), deleting=True), build_pod("c", injected=True))
    assert await check.look("b") is None
    assert check.cluster.evicted == ["a", "b"]


async def test_proof_may_come_before_the_answer_to_the_eviction() -> None:
    """The watch is faster than the answer now and then; the eviction is still seen as what made the pod."""
    check = Check(evict=True)
    check.see(build_pod("a"), build_pod("b"))
    check.cluster.on_evict = lambda: check.see(build_pod("c"))
    await check.look("a")
    assert check.cluster.told[-1] == ("c", "EvictionStopped")


async def test_broken_webhook_costs_few_pods() -> None:
    """A hundred owners of uninjected pods, for a day: one pod goes, then another after ever longer waits."""
    check = Check(evict=True)
    names = {f"p{n}": f"o{n}" for n in range(100)}
    check.see(*[build_pod(name, owner=owner) for name, owner in names.items()])
    at: list[float] = []
    for _ in range(24 * 60):
        for name, owner in list(names.items()):
            await check.look(name)
            if len(check.cluster.evicted) > len(at):
                at.append(check.now - NOW)
                del names[name]
                names[f"{name}-new"] = owner
                check.see(build_pod(f"{name}-new", owner=owner))
                assert metrics.EVICTION_STOPPED._value.get() == 1
        check.now += 60
    assert at == [60 * minutes for minutes in (0, 10, 30, 70, 150, 310, 630, 990, 1350)]
    assert check.cluster.told.count(("p0-new", "EvictionStopped")) == 1
    assert len(set(check.cluster.evicted)) == len(at)


async def test_pods_of_a_held_owner_go_when_the_wait_is_over() -> None:
    """An outage of the webhook must not leave a pod without its key for good."""
    check = Check(evict=True)
    check.see(build_pod("a"))
    await check.look("a")
    check.see(replace(build_pod("a"), deleting=True), build_pod("b"))
    assert await check.look("b") == HOLD_SECONDS
    check.now += HOLD_SECONDS
    assert await check.look("b") is None
    assert check.cluster.evicted == ["a", "b"]
    assert metrics.EVICTION_STOPPED._value.get() == 0


async def test_repaired_webhook_lets_evictions_go_on_but_for_the_owner_that_failed() -> None:
    """A new injected pod anywhere is the proof; the owner that failed waits all the same."""
    check = Check(evict=True)
    check.see(build_pod("a", owner="a"), build_pod("b", owner="b"))
    await check.look("a")
    check.see(build_pod("a-new", owner="a"))
    check.now += 60
    await check.look("b")
    assert check.cluster.evicted == ["a"]
    check.see(build_pod("c", owner="c", injected=True))
    assert metrics.EVICTION_STOPPED._value.get() == 0
    assert await check.look("a-new") == HOLD_SECONDS - 60
    await check.look("b")
    assert check.cluster.evicted == ["a", "b"]


async def test_known_pods_prove_nothing() -> None:
    """A watch that begins again tells about all pods; only a new one is in place of an evicted one."""
    check = Check(evict=True)
    pods = [build_pod("a"), build_pod("b")]
    check.see(*pods)
    await check.look("a")
    check.see(*pods)
    assert ("b", "EvictionStopped") not in check.cluster.told
    assert await check.look("b") == REPLACEMENT_SECONDS


async def test_missing_replacement_is_told() -> None:
    """The webhook refuses the new pod, or a quota does: no other pod goes, and a person hears of it."""
    check = Check(evict=True)
    check.see(build_pod("a"), build_pod("b"))
    await check.look("a")
    check.now += REPLACEMENT_SECONDS
    assert await check.look("b") is None
    assert check.cluster.told[-1] == ("b", "EvictionStopped")
    assert check.cluster.evicted == ["a"]
    check.see(build_pod("c", injected=True))
    await check.look("b")
    assert check.cluster.evicted == ["a", "b"]


def test_new_pods_without_an_eviction_are_no_news() -> None:
    """Scaling up is nothing to learn from while all is well."""
    guard = EvictionGuard(120, 10)
    assert guard.note_new_pod(build_pod(injected=True), NOW) is News.NONE
    assert guard.note_new_pod(build_pod(), NOW) is News.NONE
    assert guard.note_new_pod(build_pod(owner=None), NOW) is News.NONE
    assert guard.decide(build_pod(), NOW).step is Step.EVICT
