"""What one more object costs: bytes in etcd, memory and CPU time of each process. The input of simulate.py.

Starts a real etcd and API server, installs the chart, and runs the real controller, key service and webhook
beside it. Objects are added in steps; a slope is the least squares line through the steps. Memory is resident
memory; CPU time is the process's own, user and system, so other work on the machine disturbs it little.

    python benchmarks/scale/measure.py --json benchmarks/scale/slopes.json
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("operator", "hack", "tests/support", "benchmarks/controller")
sys.path[:0] = [str(ROOT / folder) for folder in FOLDERS]

from bench_api import BenchApi, build_request, in_parallel, read_cpu_seconds, read_memory, until  # noqa: E402
from kubernetes import config  # noqa: E402

from controller_rig import Process, Rig, running_rig  # noqa: E402
from controller_wire import Wire  # noqa: E402
from deployment import cluster_path, run_testcluster  # noqa: E402
from loopback_certificate import write_certificate  # noqa: E402
from pod_caller import decrypt, start_pod  # noqa: E402
from testcluster.cluster import layout_of  # noqa: E402
from testcluster.layout import ClusterLayout  # noqa: E402
from testcluster.processes import recorded  # noqa: E402
from webhook_rig import find_own_address, point_to  # noqa: E402

NAME = "bench-scale"
GROUP = "/apis/datakeys.dev/v1alpha1/namespaces"
WIDTH = 16
#: What is written late is over by then, and memory has settled.
SETTLE_SECONDS = 3.0
_ETCD = (
    "import json,contextlib,urllib.error,urllib.request as u\n"
    "def call(path, body):\n"
    "    data = json.dumps(body).encode()\n"
    "    return json.load(u.urlopen('http://127.0.0.1:2379/v3/' + path, data, timeout=60))\n"
    "revision = call('maintenance/status', {})['header']['revision']\n"
    "with contextlib.suppress(urllib.error.HTTPError):\n"  # nothing was written since the last time
    "    call('kv/compaction', {'revision': revision, 'physical': True})\n"
    "call('maintenance/defragment', {})\n"
    "print(call('maintenance/status', {})['dbSizeInUse'])\n"
)
Sample = dict[str, float]


class Scale:
    """The processes, and what they cost at the moment."""

    def __init__(self, api: BenchApi, rig: Rig, layout: ClusterLayout) -> None:
        self.api = api
        self.rig = rig
        self._layout = layout
        self.keyservice = rig.start_keyservice()
        self.controller: Process | None = None

    def start_controller(self) -> Process:
        self.controller = self.rig.start_controller(DATAKEYS_LEADER_ELECTION="false")
        return self.controller

    def sample(self) -> Sample:
        """Return bytes and CPU seconds of everything; etcd is compacted, so history doesn't count."""
        pids = {name: daemon.pid for name, daemon in recorded(self._layout.directory).items()}
        pids["keyservice"] = self.keyservice.popen.pid
        if self.controller is not None:
            pids["controller"] = self.controller.popen.pid
        found: Sample = {"etcd_bytes": self._etcd_bytes()}
        for name, pid in pids.items():
            short = name.removeprefix("kube-")
            found[f"{short}_memory"] = read_memory(pid)["rss"] * 1024 * 1024
            found[f"{short}_cpu"] = read_cpu_seconds(pid)
        return found

    def _etcd_bytes(self) -> int:
        command = self._layout.network.entered(sys.executable, "-c", _ETCD)
        return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout)

    async def make_namespaces(self, first: int, number: int) -> None:
        """Make namespaces, each with its own KmsKey."""

        async def one(index: int) -> None:
            name = f"n{first + index:05d}"
            await self.api.read("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            body = {"apiVersion": "datakeys.dev/v1alpha1", "kind": "KmsKey", "metadata": {"name": "main"}}
            await self.api.read("POST", f"{GROUP}/{name}/kmskeys", {**body, "spec": {}})

        await in_parallel(one, range(number), WIDTH)

    async def make_requests(self, namespaces: Sequence[str], first: int, number: int) -> None:
        """Make so many requests in each namespace, and wait until all are Ready."""

        async def one(index: int) -> None:
            path = f"{GROUP}/{namespaces[index // number]}/datakeyrequests"
            await self.api.read("POST", path, build_request(first + index % number))

        before, total = self._count_ready(), len(namespaces) * number
        await in_parallel(one, range(total), WIDTH)
        await self.wait_ready(before + total)

    async def wait_ready(self, number: float) -> None:
        """Wait until the controller counts that many Ready requests."""
        await until(lambda: self._count_ready() >= number, "Ready", 600)

    def _count_ready(self) -> float:
        return self.controller.metric("datakeys_requests", state="ready") if self.controller else 0


def lines_of(samples: Sequence[tuple[float, Sample]]) -> tuple[Sample, Sample]:
    """Return what each figure grows by per object, and where its line starts: least squares.

    The sample before the first step is left out: a process that has done nothing yet is no point of the line.
    """
    counts = [count for count, _ in samples[1:]]
    slopes, starts = {}, {}
    for name in samples[-1][1]:
        slopes[name], starts[name] = statistics.linear_regression(
            counts, [sample[name] for _, sample in samples[1:]]
        )
    return slopes, starts


async def measure_steps(
    scale: Scale, steps: Sequence[int], add: Callable[[int, int], Awaitable[object]]
) -> list[tuple[float, Sample]]:
    """Return samples at each number of objects."""
    samples, present = [(0.0, scale.sample())], 0
    for step in steps:
        await add(present, step - present)
        present = step
        await asyncio.sleep(SETTLE_SECONDS)
        samples.append((float(step), scale.sample()))
        print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
    return samples


async def measure_all(scale: Scale, options: argparse.Namespace) -> dict[str, Any]:
    controller = scale.start_controller()
    await scale.make_namespaces(0, 1)
    await scale.make_requests(["n00000"], 1_000_000, 1)
    requests = await measure_steps(
        scale, options.requests, lambda first, number: scale.make_requests(["n00000"], first, number)
    )
    start = requests[0][1]["controller_cpu"]
    restart = await measure_restart(scale, controller, options.requests[-1] + 1, start)
    controller = scale.rig.processes[-1]

    async def add_namespaces(first: int, number: int) -> None:
        await scale.make_namespaces(first + 1, number)
        names = [f"n{first + 1 + index:05d}" for index in range(number)]
        await scale.make_requests(names, 0, 1)

    namespaces = await measure_steps(scale, options.namespaces, add_namespaces)
    await asyncio.to_thread(controller.stop)
    scale.controller = None
    keys = await measure_steps(scale, options.keys, lambda _, number: make_keys(scale, number))
    per_request, base = lines_of(requests)
    return {
        "request": per_request,
        "namespace": lines_of(namespaces)[0],
        "key": lines_of(keys)[0],
        "base": base,
        "restart_cpu_seconds_per_request": restart,
        "decrypt": await measure_decrypts(scale, options.pods),
        "admission": await measure_admissions(scale, options.pods),
        "samples": {"requests": requests, "namespaces": namespaces, "keys": keys},
    }


async def measure_restart(scale: Scale, controller: Process, present: int, start: float) -> float:
    """Return the CPU time that a new leader needs per request, until it has seen that all is done.

    Args:
        scale: The processes.
        controller: The one that runs, which is stopped.
        present: How many requests there are.
        start: CPU seconds of a controller that has started and has one request.
    """
    await asyncio.to_thread(controller.stop)
    again = scale.start_controller()
    await scale.wait_ready(present)
    await asyncio.sleep(SETTLE_SECONDS)
    return (read_cpu_seconds(again.popen.pid) - start) / present


async def make_keys(scale: Scale, number: int) -> None:
    """Make keys by the API: their records are all that there is of them."""
    wire = Wire(scale.rig, "n00000")
    wire.call("ListKeys")  # fetches the token once
    with ThreadPoolExecutor(WIDTH) as threads:
        calls = [threads.submit(wire.call, "CreateKey") for _ in range(number)]
        await asyncio.to_thread(lambda: [call.result() for call in calls])


async def give_addresses(scale: Scale, namespace: str) -> None:
    """Say of all pods where their calls come from, as a kubelet does: else no token is remembered."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
    for pod in (await scale.api.call("GET", path))["items"]:
        own = f"{path}/{pod['metadata']['name']}/status"
        await scale.api.read("PATCH", own, body, "application/merge-patch+json")


async def measure_decrypts(scale: Scale, number: int) -> Sample:
    """Return the CPU time of a pod's first Decrypt: new TLS connection, TokenReview, decryption."""
    found = await scale.api.call("GET", f"{GROUP}/n00000/datakeyrequests?limit=1")
    item = found["items"][0]
    request, blob = item["metadata"]["name"], item["status"]["ciphertextBlob"]
    pairs = item["spec"]["encryptionContext"]
    with ThreadPoolExecutor(WIDTH) as threads:
        pods = list(threads.map(lambda _: start_pod(scale.rig, "n00000"), range(number)))
        await give_addresses(scale, "n00000")
        before = scale.sample()
        started = time.monotonic()
        plain = set(threads.map(lambda pod: decrypt(pod, blob, "n00000", request, **pairs), pods))
        seconds = time.monotonic() - started
        middle = scale.sample()
        list(threads.map(lambda pod: decrypt(pod, blob, "n00000", request, **pairs), pods))
        after = scale.sample()
    if len(plain) != 1:
        raise SystemExit("the pods have got different data keys of one request")
    return {
        "keyservice_cpu_seconds": (middle["keyservice_cpu"] - before["keyservice_cpu"]) / number,
        "apiserver_cpu_seconds": (middle["apiserver_cpu"] - before["apiserver_cpu"]) / number,
        "keyservice_cpu_seconds_known_token": (after["keyservice_cpu"] - middle["keyservice_cpu"]) / number,
        "per_second_seen": number / seconds,
    }


async def measure_admissions(scale: Scale, number: int) -> Sample:
    """Return the CPU time of one injection; for the API server what it costs more than a bare pod."""
    address = find_own_address(scale.api.server)
    tls = scale.rig.folder / "webhook-tls"
    write_certificate(tls, address)
    port = 28443
    webhook = scale.rig.start_webhook(address, port, tls)
    with config.new_client_from_config(str(scale.rig.installation.kubeconfig)) as api:
        point_to(api, f"https://{address}:{port}")
    await until(lambda: webhook.answers("/readyz") == 200, "the webhook", 30)
    found = await scale.api.call("GET", f"{GROUP}/n00000/datakeyrequests?limit=1")
    pod: dict[str, Any] = {
        "metadata": {"generateName": "p-", "annotations": {}, "labels": {}},
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [{"name": "app", "image": "app"}],
        },
    }
    path = "/api/v1/namespaces/n00000/pods?dryRun=All"
    costs = {}
    for injected in (False, True):
        if injected:
            pod["metadata"]["labels"] = {"datakeys.dev/inject": "true"}
            pod["metadata"]["annotations"] = {"datakeys.dev/requests": found["items"][0]["metadata"]["name"]}
            answer = await scale.api.call("POST", path, pod)
            if "datakeys-sidecar" not in json.dumps(answer):
                raise SystemExit(f"the pod isn't injected: {answer}")
        before, cpu = scale.sample(), read_cpu_seconds(webhook.popen.pid)
        await in_parallel(lambda _: scale.api.read("POST", path, pod), range(number), WIDTH)
        costs[injected] = (
            (scale.sample()["apiserver_cpu"] - before["apiserver_cpu"]) / number,
            (read_cpu_seconds(webhook.popen.pid) - cpu) / number,
        )
    return {
        "webhook_cpu_seconds": costs[True][1],
        "apiserver_cpu_seconds": costs[True][0] - costs[False][0],
        "apiserver_cpu_seconds_bare_pod": costs[False][0],
    }


async def run(options: argparse.Namespace, layout: ClusterLayout, folder: Path) -> dict[str, Any]:
    kubeconfig = cluster_path(layout.name, "kubeconfig")
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        rigs = running_rig(kubeconfig, api_client, folder)
        rig = await asyncio.to_thread(rigs.__enter__)
        try:
            async with BenchApi(kubeconfig) as api:
                return await measure_all(await asyncio.to_thread(Scale, api, rig, layout), options)
        finally:
            await asyncio.to_thread(rigs.__exit__, None, None, None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--namespaces", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--keys", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--pods", type=int, default=300)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="keep the logs here")
    options = parser.parse_args()
    run_testcluster("up", "--control-plane-only", "--name", NAME)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.folder or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            found = asyncio.run(run(options, layout_of(NAME), folder))
    finally:
        run_testcluster("down", "--name", NAME)
    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
