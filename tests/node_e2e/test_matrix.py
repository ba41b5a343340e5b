"""Workload kind x delivery x Pod Security level x user: all cells are applied at once, each is a test."""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from deployment import Cluster, wait_until
from workload_matrix import (
    GRACE_SECONDS,
    KINDS,
    LABEL_CELL,
    OWN,
    PROFILES,
    SHARED,
    Cell,
    build_cell,
    is_done,
    list_cells,
    wait_for_reports,
)
from workloads import (
    Manifest,
    apply,
    build_alias,
    build_bindings,
    build_key,
    build_namespace,
    build_request,
    build_service_account,
)

CELLS = list_cells()
#: A CronJob's first Job is due within a minute; all cells share two cores.
WAIT_SECONDS = 900
#: What a slow machine may need to end a pod and to notice it.
FAST_SECONDS = GRACE_SECONDS / 2


@dataclass
class Matrix:
    """The applied cells: one namespace for each Pod Security level, and what became of the pods."""

    suffix: str
    #: By name of the cell: its pods, and what their apps have reported.
    pods: dict[str, list[Manifest]] = field(default_factory=dict)
    reports: dict[str, list[Manifest]] = field(default_factory=dict)

    def namespace(self, level: str) -> str:
        """Return the namespace of a level."""
        return f"matrix-{level}-{self.suffix}"

    def digests(self, cell: Cell, key: str) -> set[str]:
        """Return the SHA-256 of the data keys that the pods of a cell have got under a name."""
        return {report["keys"][key] for report in self.reports[cell.name]}


LEVELS = sorted({profile.level for profile in PROFILES})


@pytest.fixture(scope="module")
def matrix(cluster: Cluster) -> Iterator[Matrix]:
    """Apply all cells at once, wait until each has a pod whose app has reported, and collect the reports."""
    matrix = Matrix(uuid.uuid4().hex[:6])
    namespaces = [matrix.namespace(level) for level in LEVELS]
    for level, namespace in zip(LEVELS, namespaces, strict=True):
        apply(
            cluster,
            build_namespace(namespace, level),
            build_service_account(namespace, "app"),
            *build_bindings(namespace, "app", "datakeys-encrypter", "datakeys-decrypter"),
            build_key(namespace, "main"),
            build_alias(namespace, "main", "main"),
            build_request(namespace, SHARED),
        )
        cluster.wait("kmsalias/main", "condition=Ready", namespace)
    apply(cluster, *[build_cell(matrix.namespace(cell.profile.level), cell) for cell in CELLS])
    try:
        wait_until(
            "every cell has reported", WAIT_SECONDS, lambda: _collect_pods(cluster, matrix), interval=2
        )
        for namespace in namespaces:
            mine = {
                pod["metadata"]["name"]: name
                for name, pods in matrix.pods.items()
                for pod in pods
                if pod["metadata"]["namespace"] == namespace
            }
            for pod, report in wait_for_reports(cluster, namespace, LABEL_CELL, mine).items():
                if pod in mine:
                    matrix.reports.setdefault(mine[pod], []).append(report)
        yield matrix
    finally:
        cluster.kubectl("delete", "namespace", *namespaces, "--wait=false")


def _collect_pods(cluster: Cluster, matrix: Matrix) -> bool:
    """Note the pods of each cell whose apps have reported; return whether no cell lacks one."""
    done: dict[str, list[Manifest]] = {cell.name: [] for cell in CELLS}
    for pod in cluster.get("pods", "-A", "-l", LABEL_CELL)["items"]:
        if pod["metadata"]["namespace"].endswith(matrix.suffix) and is_done(pod):
            done[pod["metadata"]["labels"][LABEL_CELL]].append(pod)
    matrix.pods = done
    return all(len(done[cell.name]) >= cell.pods for cell in CELLS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_cell_gets_its_data_keys(matrix: Matrix, cell: Cell) -> None:
    """The apps ran as their user and read their keys, or used the KMS endpoint under their pod's identity."""
    assert len(matrix.reports[cell.name]) >= cell.pods
    for report in matrix.reports[cell.name]:
        assert report["uid"] == cell.profile.uid
        if cell.delivery == "aws-endpoint":
            assert report["same"] is True
            continue
        assert set(report["keys"]) == {OWN, SHARED}
        files = set() if cell.delivery == "socket" else {OWN, SHARED}
        assert report["modes"] == dict.fromkeys(files, "0o400")


@pytest.mark.parametrize("level", LEVELS)
def test_whoever_asks_for_one_request_gets_one_key(matrix: Matrix, level: str) -> None:
    """All kinds and deliveries of a namespace read the same data key; another namespace's is another."""
    by_level = {
        one: {digest for cell in _with_keys(one) for digest in matrix.digests(cell, SHARED)} for one in LEVELS
    }
    [digest] = by_level.pop(level)
    assert all(digest not in others for others in by_level.values())


def test_every_annotated_workload_has_a_data_key_of_its_own(matrix: Matrix) -> None:
    """All pods of one workload share it, and no other workload has it."""
    digests = [matrix.digests(cell, OWN) for level in LEVELS for cell in _with_keys(level)]
    assert [len(one) for one in digests] == [1] * len(digests)
    assert len(set.union(*digests)) == len(digests) == len(CELLS) - len(KINDS)


def _with_keys(level: str) -> list[Cell]:
    return [cell for cell in CELLS if cell.profile.level == level and cell.delivery != "aws-endpoint"]


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.kind in ("Job", "CronJob")], ids=str)
def test_jobs_complete_unaided_and_at_once(cluster: Cluster, matrix: Matrix, cell: Cell) -> None:
    """The sidecar ends with the app: nothing waits for the grace period."""
    pod = matrix.pods[cell.name][0]
    owner = pod["metadata"]["ownerReferences"][0]["name"]
    namespace = pod["metadata"]["namespace"]
    cluster.wait(f"job/{owner}", "condition=Complete", namespace)
    job = cluster.get("job", owner, "-n", namespace)
    [app] = [one for one in pod["status"]["containerStatuses"] if one["name"] == "app"]
    ended = dt.datetime.fromisoformat(app["state"]["terminated"]["finishedAt"])
    completed = dt.datetime.fromisoformat(job["status"]["completionTime"])
    assert (completed - ended).total_seconds() < FAST_SECONDS


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_nothing_had_to_be_tried_again(matrix: Matrix, cell: Cell) -> None:
    """No container of an injected pod was restarted on the way."""
    for pod in matrix.pods[cell.name]:
        containers = [*pod["status"]["containerStatuses"], *pod["status"].get("initContainerStatuses", [])]
        restarts = {one["name"]: one["restartCount"] for one in containers}
        assert restarts == {"app": 0, "datakeys-sidecar": 0}
