"""How long does a pod with injection take until its key can be read and its app starts?

Pods with and without injection take turns, one at a time. Both run the same app, whose first act is to print
the time; with injection it then reads its key, or fails. All clocks are this machine's real-time clock.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_cluster import REQUEST, SIDECAR, Bench, print_table, quantile, run

APP = "trap 'exit 0' TERM; date +started=%s%N; {read} sleep 1000 & wait"
READ = f"test $(wc -c < /var/run/datakeys/keys/{REQUEST}) = 32 && echo read || exit 1;"
DELIVERIES = ("file", "init")
#: The kubelet looks at containers once a second: creations are spread evenly over that second.
GOLDEN = 0.618034


def measure(bench: Bench, rounds: int) -> None:
    """Print the tables: milliseconds since the pod's creation, and what injection adds to them."""
    plain: list[float] = []
    injected: dict[str, list[list[float]]] = {delivery: [] for delivery in DELIVERIES}
    for number in range(rounds + 1):
        times = {delivery: _start_injected(bench, delivery, number) for delivery in DELIVERIES}
        started = _start_plain(bench, number)
        if not number:
            continue  # the first round warms up: the trust bundle, the page cache, the kubelet's own memory
        plain.append(started)
        for delivery, found in times.items():
            injected[delivery].append(found)
    rows: list[tuple[object, ...]] = [("app starts, no injection", *_summarize(plain), "")]
    added: list[tuple[object, ...]] = []
    for delivery, found in injected.items():
        labels = ("sidecar runs", "key readable", "app starts")
        for label, values in zip(labels, zip(*found, strict=True), strict=True):
            difference = quantile(values, 0.5) - quantile(plain, 0.5)
            added.append((f"{label}, delivery {delivery}", *_summarize(values), difference))
    head = ("what", "p50", "p90", "most", "p50 added")
    print_table("Pod start, ms since creation (goal: under 500 added to key readable)", head, [*rows, *added])


def _summarize(values: Sequence[float]) -> tuple[float, float, float]:
    return quantile(values, 0.5), quantile(values, 0.9), max(values)


def _start_plain(bench: Bench, number: int) -> float:
    name = f"plain-{number}"
    created, started = _start(bench, name, number, None)
    bench.delete(name)
    return (started - created) * 1e3


def _start_injected(bench: Bench, delivery: str, number: int) -> list[float]:
    """Return when the sidecar ran, the key was readable, and the app started: milliseconds since creation."""
    name = f"{delivery}-{number}"
    created, started = _start(bench, name, number, delivery)
    bench.wait_line(name, "app", "read")
    running, _ = bench.wait_line(name, SIDECAR, '"started"')
    readable, _ = bench.wait_line(name, SIDECAR, '"delivered"')
    bench.delete(name)
    return [(one - created) * 1e3 for one in (running, readable, started)]


def _start(bench: Bench, name: str, number: int, delivery: str | None) -> tuple[float, float]:
    """Start a pod; return when it was created, and when its app was started."""
    command = ["sh", "-c", APP.format(read=READ if delivery else "")]
    annotations = {"datakeys.dev/delivery": delivery} if delivery else {}
    pod = bench.build_pod(name, injected=bool(delivery), command=command, annotations=annotations)
    time.sleep(number * GOLDEN % 1)
    created = time.time()
    bench.create(pod)
    bench.wait_running(name, "app")
    _, line = bench.wait_line(name, "app", "started=")
    return created, int(line.partition("=")[2]) / 1e9


if __name__ == "__main__":
    run({"pod_start": (measure, 12)})
