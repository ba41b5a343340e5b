"""Workload kind x delivery x Pod Security level x user: all cells are applied at once, each is a test."""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from deployment import Cluster, wait_until
from workload_matrix import (
    LABEL_CELL,
    PROFILES,
    SHARED,
    Cell,
    build_cell,
    is_done,
    list_cells,
    read_reports,
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

CELLS = [cell for cell in list_cells() if cell.delivery != "init"]
#: A CronJob's first Job is due within a minute; all cells share two cores.
WAIT_SECONDS = 240
#: A sidecar that ignores SIGTERM would hold its pod for 30.
FAST_SECONDS = 15


@dataclass
class Matrix:
    """The applied cells: one namespace for each Pod Security level, and what became of the pods."""

    suffix: str
    pods: dict[str, Manifest] = field(default_factory=dict)
    reports: dict[str, Manifest] = field(default_factory=dict)

    def namespace(self, level: str) -> str:
        """Return the namespace of a level."""
        return f"matrix-{level}-{self.suffix}"

    def digests(self, level: str) -> set[str]:
        """Return the SHA-256 of the data keys that the cells of a level have got."""
        names = [cell.name for cell in CELLS if cell.profile.level == level]
        return {digest for name in names for digest in self.reports[name]["keys"].values()}


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
            for pod, report in read_reports(cluster, namespace, LABEL_CELL):
                names = [cell for cell, found in matrix.pods.items() if found["metadata"]["name"] == pod]
                matrix.reports.update(dict.fromkeys(names, report))
        yield matrix
    finally:
        cluster.kubectl("delete", "namespace", *namespaces, "--wait=false")


def _collect_pods(cluster: Cluster, matrix: Matrix) -> bool:
    """Note the first pod of each cell whose app has reported; return whether all have one."""
    for pod in cluster.get("pods", "-A", "-l", LABEL_CELL)["items"]:
        name = pod["metadata"]["labels"][LABEL_CELL]
        if pod["metadata"]["namespace"].endswith(matrix.suffix) and is_done(pod):
            matrix.pods.setdefault(name, pod)
    return len(matrix.pods) == len(CELLS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_cell_gets_its_data_key(matrix: Matrix, cell: Cell) -> None:
    """The app ran as its user and read its key, or used the KMS endpoint under its pod's identity."""
    report = matrix.reports[cell.name]
    assert report["uid"] == cell.profile.uid
    if cell.delivery == "aws-endpoint":
        assert report["same"] is True
        return
    assert set(report["keys"]) == {SHARED}
    assert report["modes"] == ({} if cell.delivery == "socket" else {SHARED: "0o400"})


@pytest.mark.parametrize("level", LEVELS)
def test_whoever_asks_for_one_request_gets_one_key(matrix: Matrix, level: str) -> None:
    """All kinds and deliveries of a namespace read the same data key; another namespace's is another."""
    [digest] = matrix.digests(level)
    assert all(digest not in matrix.digests(other) for other in LEVELS if other != level)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.kind in ("Job", "CronJob")], ids=str)
def test_jobs_complete_unaided_and_at_once(cluster: Cluster, matrix: Matrix, cell: Cell) -> None:
    """The sidecar ends with the app: nothing waits for the grace period."""
    pod = matrix.pods[cell.name]
    owner = pod["metadata"]["ownerReferences"][0]["name"]
    namespace = pod["metadata"]["namespace"]
    cluster.wait(f"job/{owner}", "condition=Complete", namespace, seconds=FAST_SECONDS)
    job = cluster.get("job", owner, "-n", namespace)
    [app] = [one for one in pod["status"]["containerStatuses"] if one["name"] == "app"]
    ended = dt.datetime.fromisoformat(app["state"]["terminated"]["finishedAt"])
    completed = dt.datetime.fromisoformat(job["status"]["completionTime"])
    assert (completed - ended).total_seconds() < FAST_SECONDS


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_nothing_had_to_be_tried_again(matrix: Matrix, cell: Cell) -> None:
    """No container of an injected pod was restarted on the way."""
    status = matrix.pods[cell.name]["status"]
    containers = [*status["containerStatuses"], *status.get("initContainerStatuses", [])]
    assert {one["name"]: one["restartCount"] for one in containers} == {
        "app": 0,
        "datakeys-sidecar": 0,
    }
