"""How many DataKeyRequests per second, at what cost? The controller, the plainest kopf operator, a floor.

Starts a real etcd and API server, installs the chart, runs the real key service. Each contender is started on
N requests that nobody has seen yet. The rate is taken between the first and the last Ready; the cost per
request is the CPU time of the contender's process less that of a start without any request; the calls are
those that the API server has counted. Contenders take turns, in another order each round; the
tables have medians.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack"), str(ROOT / "tests" / "support")]

import yaml  # noqa: E402
from bench_api import (  # noqa: E402
    KEY,
    KEYS,
    MERGE_PATCH,
    NAMESPACE,
    REQUESTS,
    SECRETS,
    BenchApi,
    build_name,
    build_request,
    in_parallel,
    read_cpu_seconds,
    read_memory,
    until,
)
from kubernetes import client, config  # noqa: E402
from report import is_of_interest, is_write, print_goals, print_tables, summarize  # noqa: E402

from controller_rig import Process, Rig, running_rig  # noqa: E402
from deployment import cluster_path, run_testcluster  # noqa: E402

CLUSTER = "bench-controller"
CONTENDERS = ("controller", "plain kopf", "floor")
#: A start without requests is over by then on a quiet machine, and so is what is written late.
IDLE_SECONDS = 4.0
#: A process that takes less CPU time in a second has nothing more to do.
IDLE_CPU_SECONDS = 0.01
#: Parts of the clean-up.
PARTS = 500


class Contest:
    """The cluster, and what happens to its requests."""

    def __init__(self, api: BenchApi, rig: Rig, kubeconfig: Path) -> None:
        self.api = api
        self.rig = rig
        self.kubeconfig = kubeconfig
        self.ready_at: dict[str, float] = {}

    def observe(self, kind: str, item: dict[str, Any]) -> None:
        if kind == "MODIFIED" and "secretRef" in (item.get("status") or {}):
            self.ready_at.setdefault(item["metadata"]["name"], time.monotonic())

    async def prepare(self) -> None:
        """Make the namespace and its KMS key, and let the controller make itself at home."""
        await self.api.read("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        body = {
            "apiVersion": "datakeys.dev/v1alpha1",
            "kind": "KmsKey",
            "metadata": {"name": KEY},
            "spec": {},
        }
        await self.api.read("POST", KEYS, body)
        await self.create(1)
        async with self.running("controller"):
            await until(lambda: bool(self.ready_at), "the first request", 60)
        await self.clean(1)

    async def leave(self) -> None:
        """Remove the KMS key; no controller runs that would let it go."""
        await self.api.read("DELETE", f"{KEYS}/{KEY}")
        body = {"metadata": {"finalizers": None}}
        await self.api.read("PATCH", f"{KEYS}/{KEY}", body, MERGE_PATCH)

    async def create(self, number: int) -> None:
        await in_parallel(
            lambda index: self.api.read("POST", REQUESTS, build_request(index)), range(number), 32
        )
        self.ready_at.clear()

    async def clean(self, number: int) -> None:
        """Remove all requests and Secrets; nobody collects garbage here."""
        for start in range(0, number, PARTS):
            indexes = range(start, min(number, start + PARTS))
            for path in (REQUESTS, SECRETS):
                await in_parallel(
                    lambda index, path=path: self.api.read("DELETE", f"{path}/{build_name(index)}"),
                    indexes,
                    32,
                )
        self.ready_at.clear()

    async def measure(self, contender: str, number: int) -> dict[str, Any]:
        """Let a contender do its work once."""
        await self.create(number)
        before = await self.api.count_calls()
        async with self.running(contender) as pid:
            await until(lambda: len(self.ready_at) >= number, f"{contender} with {number}", 60 + number / 10)
            cpu, memory = await settle(pid), read_memory(pid)
            calls = await self.api.count_calls() - before
        if contender == "controller" and number >= 1000:
            restart = await self.restart(number)
        else:
            restart = {}
        times = sorted(self.ready_at.values())
        return {
            "contender": contender,
            "number": number,
            "rate": (len(times) - 1) / (times[-1] - times[0]) if number > 1 else None,
            "cpu_seconds": cpu,
            **memory,
            "calls": {name: count for name, count in calls.items() if is_of_interest(name)},
            **restart,
        }

    async def restart(self, number: int) -> dict[str, Any]:
        """Start the controller with everything Ready: when has it seen so, and what does it write?"""
        before = await self.api.count_calls()
        started = time.monotonic()
        async with self.running("controller") as pid:
            process = self.rig.processes[-1]
            await until(lambda: process.metric("datakeys_requests", state="ready") >= number, "restart", 120)
            seconds = time.monotonic() - started
            cpu, memory = await settle(pid), read_memory(pid)
        calls = await self.api.count_calls() - before
        writes = sum(count for name, count in calls.items() if is_write(name) and is_of_interest(name))
        return {
            "restart_seconds": seconds,
            "restart_writes": writes,
            "restart_cpu": cpu,
            "restart_rss": memory["rss"],
            "restart_peak": memory["peak"],
        }

    @contextlib.asynccontextmanager
    async def running(self, contender: str) -> AsyncIterator[int]:
        """Run a contender; gives its process id."""
        if contender == "controller":
            process = await asyncio.to_thread(self._start_controller)
            try:
                yield process.popen.pid
            finally:
                await asyncio.to_thread(process.stop)
            return
        popen = self._start(contender)
        try:
            yield popen.pid
        finally:
            popen.terminate()
            await asyncio.to_thread(popen.wait)

    def _start_controller(self) -> Process:
        return self.rig.start_controller(DATAKEYS_LEADER_ELECTION="false")

    def _start(self, contender: str) -> subprocess.Popen[bytes]:
        folder = Path(__file__).parent
        if contender == "floor":
            command = [sys.executable, str(folder / "floor.py")]
            kubeconfig = self.rig.write_kubeconfig("datakeys-controller")
        else:
            peer = str(folder / "plain_kopf.py")
            command = [sys.executable, "-m", "kopf", "run", "--quiet", "-n", NAMESPACE, peer]
            kubeconfig = self.kubeconfig
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        with (self.rig.folder / "peer.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def run(options: argparse.Namespace, kubeconfig: Path, folder: Path) -> list[dict[str, Any]]:
    results = []
    with config.new_client_from_config(str(kubeconfig)) as api_client:
        await asyncio.to_thread(install_crds, api_client)
        rigs = running_rig(kubeconfig, api_client, folder)
        rig = await asyncio.to_thread(rigs.__enter__)
        try:
            await asyncio.to_thread(rig.start_keyservice)
            async with BenchApi(kubeconfig) as api:
                contest = Contest(api, rig, kubeconfig)
                follower = asyncio.create_task(contest_follow(contest))
                await contest.prepare()
                for number, rounds in options.sizes:
                    for turn in range(rounds):
                        for contender in rotate(options.contenders, turn):
                            results.append(await contest.measure(contender, number))
                            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
                            await contest.clean(number)
                follower.cancel()
                await contest.leave()
        finally:
            await asyncio.to_thread(rigs.__exit__, None, None, None)
    return results


async def settle(pid: int) -> float:
    """Wait until a process has nothing more to do, a minute at most; return its CPU time so far."""
    await asyncio.sleep(IDLE_SECONDS)
    cpu = read_cpu_seconds(pid)
    for _ in range(60):
        before = cpu
        await asyncio.sleep(1.0)
        cpu = read_cpu_seconds(pid)
        if cpu - before < IDLE_CPU_SECONDS:
            break
    return cpu


def rotate(contenders: Sequence[str], turn: int) -> Sequence[str]:
    """Let another one be first each time: the API server still has work from the one before."""
    start = turn % len(contenders)
    return [*contenders[start:], *contenders[:start]]


async def contest_follow(contest: Contest) -> None:
    await contest.api.follow(REQUESTS, contest.observe)


def install_crds(api_client: client.ApiClient) -> None:
    extensions = client.ApiextensionsV1Api(api_client)
    known = {item.metadata.name for item in extensions.list_custom_resource_definition().items}
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        if crd["metadata"]["name"] not in known:
            extensions.create_custom_resource_definition(crd)
    time.sleep(2)


def parse_size(text: str) -> tuple[int, int]:
    number, _, rounds = text.partition("x")
    return int(number), int(rounds or 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", help="a control plane that is up; else one is started")
    parser.add_argument(
        "--sizes",
        type=parse_size,
        nargs="+",
        default=[(0, 3), (100, 4), (1000, 3), (10_000, 1)],
        help="numbers of requests, each with its rounds: 100x5; 0: the start alone",
    )
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--folder", type=Path, help="keep the logs here")
    options = parser.parse_args()
    name = options.cluster or CLUSTER
    if not options.cluster:
        run_testcluster("up", "--control-plane-only", "--name", name)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.folder or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            results = asyncio.run(run(options, cluster_path(name, "kubeconfig"), folder))
    finally:
        if not options.cluster:
            run_testcluster("down", "--name", name)
    summary = summarize(results)
    if options.json:
        options.json.write_text(json.dumps({"summary": summary, "runs": results}, indent=1))
    print_tables(summary)
    print_goals(summary)


if __name__ == "__main__":
    main()
