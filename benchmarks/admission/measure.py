"""How much does injection add to the creation of a pod at the API server?

Pods with and without the label take turns over one connection that is kept alive, by dry run: the whole way
through authentication, admission (the webhook in the cluster, through its Service) and validation, without
the write to etcd, which is the same for both.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_cluster import NAMESPACE, SIDECAR, Bench, print_table, quantile, run

WARM_UP = 50


def measure(bench: Bench, rounds: int) -> None:
    """Print the table of milliseconds per creation."""
    pods = {
        injected: bench.build_pod("admitted", injected=injected, command=["sleep", "1"])
        for injected in (False, True)
    }
    for injected, pod in pods.items():
        names = [one["name"] for one in bench.admit(pod)["spec"].get("initContainers", [])]
        if names != ([SIDECAR] if injected else []):
            raise SystemExit(f"expected injected={injected}, found init containers {names}")
    taken: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + WARM_UP):
        for injected in (False, True) if number % 2 else (True, False):
            milliseconds = _create(bench, pods[injected])
            if number >= WARM_UP:
                taken[injected].append(milliseconds)
    rows = [
        (label, *(quantile(taken[injected], q) for q in (0.5, 0.9, 0.99)), max(taken[injected]))
        for injected, label in ((False, "without injection"), (True, "with injection"))
    ]
    added = tuple(one - other for one, other in zip(rows[1][1:], rows[0][1:], strict=True))
    head = ("creation of a pod", "p50", "p90", "p99", "most")
    print_table(
        f"Admission, ms, {rounds} creations each (goal: p99 added under 10)", head, [*rows, ("added", *added)]
    )


def _create(bench: Bench, pod: dict) -> float:
    started = time.perf_counter()
    answer = bench.core.create_namespaced_pod(NAMESPACE, pod, dry_run="All", _preload_content=False)
    body = answer.data
    taken = time.perf_counter() - started
    if json.loads(body)["kind"] != "Pod":
        raise SystemExit(f"not a pod: {body[:200]!r}")
    return taken * 1e3


if __name__ == "__main__":
    run({"admission": (measure, 1000)})
