"""Workloads that were annotated without the webhook are found when a replica begins to lead."""

import asyncio
from typing import Any

import pytest

from datakeys.contract.workload import Workload
from datakeys.controller.decisions.injection_check import describe_unstamped, is_unstamped
from datakeys.controller.handlers import find_unstamped
from datakeys.controller.handlers.find_unstamped import UnstampedSearch
from datakeys.controller.kube.api import Json, Resource
from datakeys.controller.kube.errors import UnavailableError
from datakeys.controller.kube.events import Subject

ASKS: Json = {"annotations": {"datakeys.dev/key": "alias/payments"}}


def build_workload(
    name: str = "orders", template: Json | None = None, spec: Json | None = None, **metadata: Any
) -> Json:
    """Return a workload."""
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": f"uid-{name}", **metadata},
        "spec": spec or {"template": {"metadata": template or {}}},
    }


@pytest.mark.parametrize(
    ("workload", "unstamped"),
    [
        (build_workload(**ASKS), True),
        (build_workload(template=ASKS), True),
        (build_workload(spec={"jobTemplate": {"spec": {"template": {"metadata": ASKS}}}}), True),
        (build_workload(), False),
        (build_workload(labels={"datakeys.dev/inject": "true"}, **ASKS), False),
        (build_workload(deletionTimestamp="2026-01-01T00:00:00Z", **ASKS), False),
        (build_workload(ownerReferences=[{"controller": True}], **ASKS), False),
        (build_workload(ownerReferences=[{"controller": False}], **ASKS), True),
        ({**build_workload(**ASKS), "status": {"completionTime": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_annotated_without_the_label_is_unstamped(workload: Json, *, unstamped: bool) -> None:
    """The annotation may be on the workload or on its pod template."""
    assert is_unstamped("Job", workload) is unstamped


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("Deployment", "kubectl rollout restart deployment/orders"),
        ("StatefulSet", "kubectl rollout restart statefulset/orders"),
        ("DaemonSet", "kubectl rollout restart daemonset/orders"),
        ("Job", "delete job/orders and create it again"),
        ("CronJob", "apply cronjob/orders again with a change"),
    ],
)
def test_next_step_fits_the_kind(kind: str, step: str) -> None:
    """A person is told what makes the webhook see it."""
    assert step in describe_unstamped(Workload(kind, "orders"), excluded=False)
    assert "excludedNamespaces" in describe_unstamped(Workload(kind, "orders"), excluded=True)


class Cluster:
    """Lists Deployments in pages of one, after some failures; remembers what was told."""

    def __init__(self, *deployments: Json, failures: int = 0) -> None:
        self.deployments, self.failures = deployments, failures
        self.asked: list[str] = []
        self.told: list[tuple[str, str, str, str]] = []
        self.notes: list[str] = []

    async def list(self, resource: Resource, namespace: str | None, **options: Any) -> Json:
        """Return one page."""
        assert namespace is None
        if self.failures:
            self.failures -= 1
            raise UnavailableError(0, "Unavailable", "x")
        self.asked.append(resource.plural)
        if resource.plural != "deployments":
            return {"metadata": {}, "items": []}
        number = int(options.get("continue", "0"))
        more = {"continue": str(number + 1)} if number + 1 < len(self.deployments) else {}
        return {"metadata": more, "items": [self.deployments[number]]}

    def record(self, subject: Subject, reason: str, note: str, *, once: bool) -> None:
        """Remember what was told."""
        assert once
        self.told.append((subject.api_version, subject.kind, subject.name, str(reason)))
        self.notes.append(note)


def search(cluster: Cluster, *excluded: str) -> UnstampedSearch:
    """Return a search without pauses."""
    untyped: Any = cluster
    return UnstampedSearch(untyped, untyped, frozenset(excluded), pause_seconds=0)


async def test_all_pages_are_searched() -> None:
    """Each unstamped workload is told about, by its own kind and group."""
    cluster = Cluster(build_workload("a", **ASKS), build_workload("b"), build_workload("c", **ASKS))
    assert await search(cluster).search("Deployment") == 2
    assert cluster.told == [("apps/v1", "Deployment", name, "NotStamped") for name in ("a", "c")]
    assert "rollout restart" in cluster.notes[0]


async def test_excluded_namespace_is_told_apart() -> None:
    """There the annotation has no effect, and a restart wouldn't help."""
    cluster = Cluster(build_workload("a", **ASKS))
    await search(cluster, "shop").search("Deployment")
    assert "excluded from injection" in cluster.notes[0]


async def test_search_tries_again_and_then_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unavailable API only delays it; afterwards the task goes on without doing anything."""
    monkeypatch.setattr(find_unstamped, "backoff_seconds", lambda *_: 0.0)
    cluster = Cluster(build_workload("a", **ASKS), failures=2)
    task = asyncio.create_task(search(cluster).run())
    for _ in range(100):
        await asyncio.sleep(0)
    assert cluster.asked == ["deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"]
    assert len(cluster.told) == 1
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
