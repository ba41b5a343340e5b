"""What the measurements on a real cluster share: the cluster, an injectable pod, clocks and tables."""

import argparse
import contextlib
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack"), str(ROOT / "tests" / "support")]

from kubernetes import client, config, watch  # noqa: E402

from deployment import Cluster, attach, install_chart, run_testcluster, start_cluster  # noqa: E402
from workloads import (  # noqa: E402
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_request,
    build_service_account,
)

OWN_CLUSTER = "bench"
NAMESPACE = "bench"
REQUEST = "bench"
SIDECAR = "datakeys-sidecar"
Manifest = dict[str, Any]


class Bench:
    """A namespace with a data key, and calls that keep their connection."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
        apply(
            cluster,
            build_namespace(NAMESPACE),
            build_service_account(NAMESPACE, "app"),
            build_key(NAMESPACE, "main"),
            build_request(NAMESPACE, REQUEST),
        )
        cluster.wait(f"datakeyrequest/{REQUEST}", "condition=Ready", NAMESPACE)

    def build_pod(self, name: str, *, injected: bool, command: Sequence[str], **options: Any) -> Manifest:
        """Return the same pod with or without the wish for a data key; its own token is mounted as usual."""
        return build_pod(
            NAMESPACE,
            name,
            requests=REQUEST if injected else "",
            command=list(command),
            automountServiceAccountToken=True,
            **options,
        )

    def admit(self, pod: Manifest) -> Manifest:
        """Return the pod as admission leaves it, without creating it."""
        answer = self.core.create_namespaced_pod(NAMESPACE, pod, dry_run="All", _preload_content=False)
        return dict(json.loads(answer.data))

    def create(self, pod: Manifest) -> None:
        self.core.create_namespaced_pod(NAMESPACE, pod, _preload_content=False).release_conn()

    def wait_running(self, name: str, container: str, seconds: int = 60) -> str:
        """Wait until a container runs; return its id."""
        found = watch.Watch().stream(
            self.core.list_namespaced_pod,
            NAMESPACE,
            field_selector=f"metadata.name={name}",
            timeout_seconds=seconds,
        )
        for event in found:
            status = event["object"].status
            for one in [*(status.container_statuses or ()), *(status.init_container_statuses or ())]:
                if one.name == container and one.state.running:
                    return str(one.container_id).rpartition("/")[2]
        raise SystemExit(f"container {container} of {name} doesn't run after {seconds} s")

    def log_times(self, name: str, container: str) -> list[tuple[float, str]]:
        """Return the lines of a container's log, each with the second at which the runtime got it."""
        text = self.core.read_namespaced_pod_log(name, NAMESPACE, container=container, timestamps=True)
        return [
            (parse_time(stamp), line) for stamp, _, line in (one.partition(" ") for one in text.splitlines())
        ]

    def wait_line(self, name: str, container: str, word: str, seconds: float = 60.0) -> tuple[float, str]:
        """Wait for a line of a log; return its time and text."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(client.exceptions.ApiException):
                for at, line in self.log_times(name, container):
                    if word in line:
                        return at, line
            time.sleep(0.1)
        raise SystemExit(f"{container} of {name} hasn't printed {word!r} after {seconds:.0f} s")

    def delete(self, *names: str) -> None:
        """Delete pods at once and wait until they are gone, so that they don't disturb the next ones."""
        self.cluster.kubectl("delete", "pod", *names, "-n", NAMESPACE, "--now", "--wait=true")


def parse_time(stamp: str) -> float:
    """Return the seconds since the epoch of ``2026-01-31T10:20:30.123456789Z``."""
    return dt.datetime.fromisoformat(stamp).timestamp()


def find_processes(container_id: str) -> list[int]:
    """Return the process ids of a container; all containers run on this machine's kernel."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if container_id in (folder / "cgroup").read_text():
                found.append(int(folder.name))
    return sorted(found)


def quantile(values: Sequence[float], part: float) -> float:
    """Return a quantile: the value below which this part of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n**{title}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(f'{one:.1f}' if isinstance(one, float) else str(one) for one in row)} |")
    sys.stdout.flush()


@contextlib.contextmanager
def running_bench(name: str | None) -> Iterator[Bench]:
    """Use a cluster that is up and has the chart, or start one and take it down afterwards."""
    if name:
        bench = Bench(attach(name))
        yield bench
        return
    cluster = start_cluster(OWN_CLUSTER)
    try:
        install_chart(cluster)
        yield Bench(cluster)
    finally:
        run_testcluster("down", "--name", OWN_CLUSTER)


def run(measurements: Mapping[str, tuple[Callable[[Bench, int], None], int]]) -> None:
    """Parse the command line and run measurements, each with its number of rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--cluster", help="name of a cluster that is up and has the chart (default: start one)"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each measurement")
    arguments = parser.parse_args()
    if os.geteuid():
        raise SystemExit("must be root: reads the memory of other users' processes")
    with running_bench(arguments.cluster) as bench:
        for measure, rounds in measurements.values():
            measure(bench, arguments.rounds or rounds)
