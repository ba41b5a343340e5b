"""What does the sidecar cost a pod: memory while it is idle, time until the key is there, time until it ends?

Real containers of real pods. The floor, in the same rounds: a container of the same image that only runs
``python3 -c "import time; time.sleep(...)"``. Memory is the proportional set size (PSS) of all processes of
the container as the kernel counts it; pages that several Python processes share are shared out among them.
Time counts from a ``date`` that the shell in the container runs right before it becomes the sidecar.
"""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_cluster import REQUEST, SIDECAR, Bench, Manifest, find_processes, print_table, quantile, run

SLEEP = "import time; time.sleep(1000)"
CONSUMER = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
#: After this many seconds the sidecar has nothing more to do.
IDLE_SECONDS = 2.0
SIDECARS = {
    "file": {"datakeys.dev/delivery": "file"},
    "socket": {"datakeys.dev/delivery": "socket"},
    "file and aws-endpoint": {"datakeys.dev/aws-endpoint": "true"},
}
FLOOR = "floor: bare sleep"


def measure(bench: Bench, rounds: int) -> None:
    """Print the table: KiB and milliseconds, medians."""
    memory: dict[str, list[float]] = {name: [] for name in (FLOOR, *SIDECARS)}
    ready: dict[str, list[float]] = {name: [] for name in SIDECARS}
    ended: dict[str, list[float]] = {name: [] for name in SIDECARS}
    for number in range(rounds + 1):
        for name in (FLOOR, *SIDECARS):
            pod = _build_floor(bench, number) if name == FLOOR else _build_consumer(bench, name, number)
            pss, milliseconds, stop = _run(bench, pod, floor=name == FLOOR)
            if not number:
                continue  # the first round warms up
            memory[name].append(pss)
            if name != FLOOR:
                ready[name].append(milliseconds)
                ended[name].append(stop)
    floor = quantile(memory[FLOOR], 0.5)
    rows = []
    for name, values in memory.items():
        median = quantile(values, 0.5)
        times: list[object] = [""] * 4
        if name in ready:
            times = [
                quantile(ready[name], 0.5),
                min(ready[name]),
                max(ready[name]),
                quantile(ended[name], 0.5),
            ]
        rows.append((name, f"{median:.0f}", f"{median / floor:.2f}", *times))
    head = ("container", "idle PSS, KiB", "ratio", "start to key, ms", "least", "most", "SIGTERM to end, ms")
    print_table(f"Sidecar, medians of {rounds} (goals: ratio 1.30, 150 ms)", head, rows)


def _build_consumer(bench: Bench, name: str, number: int) -> Manifest:
    """Return an injected pod whose sidecar first prints the time; the app is of no matter here."""
    pod = bench.build_pod(f"sidecar-{number}", injected=True, command=CONSUMER, annotations=SIDECARS[name])
    admitted = bench.admit(pod)
    sidecar = next(one for one in admitted["spec"]["initContainers"] if one["name"] == SIDECAR)
    sidecar["command"] = ["sh", "-c", 'date +start=%s%N; exec "$@"', "sh", *sidecar["command"]]
    metadata = {key: admitted["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    return {**admitted, "metadata": metadata, "status": None}


def _build_floor(bench: Bench, number: int) -> Manifest:
    """Return a pod of the sidecar's image that only sleeps."""
    injected = bench.admit(bench.build_pod("floor", injected=True, command=CONSUMER))
    image = next(one for one in injected["spec"]["initContainers"] if one["name"] == SIDECAR)["image"]
    command = ["sh", "-c", 'date +start=%s%N; exec "$@"', "sh", "python3", "-c", SLEEP]
    pod = bench.build_pod(f"floor-{number}", injected=False, command=command)
    pod["spec"]["containers"][0]["image"] = image
    return pod


def _run(bench: Bench, pod: Manifest, *, floor: bool) -> tuple[float, float, float]:
    """Run a pod; return KiB of memory, milliseconds to the key, milliseconds to the end."""
    name, container = pod["metadata"]["name"], "app" if floor else SIDECAR
    bench.create(pod)
    container_id = bench.wait_running(name, container)
    at, line = bench.wait_line(name, container, "start=")
    started = int(line.partition("=")[2]) / 1e9
    if not floor:
        at, _ = bench.wait_line(name, container, '"delivered"')
        bench.wait_running(name, "app")
    time.sleep(IDLE_SECONDS)
    processes = find_processes(container_id)
    pss = float(sum(map(_read_pss, processes)))
    stop = 0.0 if floor else _end(processes[0])
    bench.delete(name)
    return pss, (at - started) * 1e3, stop


def _read_pss(process: int) -> int:
    """Return the proportional set size in KiB. Source: proc_pid_smaps(5)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _end(process: int) -> float:
    """Send SIGTERM as the kubelet does; return the milliseconds until the process has ended."""
    descriptor = os.pidfd_open(process)
    started = time.perf_counter()
    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    readable, _, _ = select.select([descriptor], [], [], 60)
    taken = time.perf_counter() - started
    os.close(descriptor)
    if not readable:
        raise SystemExit(f"the sidecar for {REQUEST} doesn't end on SIGTERM")
    return taken * 1e3


if __name__ == "__main__":
    run({"sidecar": (measure, 5)})
