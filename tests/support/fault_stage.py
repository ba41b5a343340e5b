"""Two key services, two controllers and what is between them and a real API server, all of which can fail.

Zone: tests. The API server and the key services are reached through relays; whoever ends is started again, as
a kubelet does. Without a webhook, its registration is removed: what it adds to a workload is in the builders.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client

from controller_rig import Process, Rig, running_rig
from ports import find_free_port
from relay import Relay
from steady_load import CALL_SECONDS, UNREACHABLE
from testcluster import backend, processes
from waiting import eventually

REPLICAS: Final = 2
_LOOK_SECONDS: Final = 0.3
#: Short, so that it runs out while a component of the cluster is away.
_LEASE: Final = {
    "DATAKEYS_LEASE_SECONDS": "4",
    "DATAKEYS_RENEW_DEADLINE_SECONDS": "3",
    "DATAKEYS_LEASE_RETRY_SECONDS": "1",
}


class Kubelet:
    """Starts processes, and starts them again when they have ended.

    Attributes:
        running: The present process of each start.
        ended: The processes that have ended by themselves or were killed.
    """

    def __init__(self, *starts: Callable[[], Process]) -> None:
        self.running = [start() for start in starts]
        self.ended: list[Process] = []
        self._starts = starts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        """Look after them."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End them all."""
        self._stop.set()
        self._thread.join()
        for process in self.running:
            process.kill()

    def wait_leader(self) -> Process:
        """Return the process that leads."""
        assert eventually(lambda: any(map(Process.is_leader, self.running)))
        return next(filter(Process.is_leader, self.running))

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            for number, process in enumerate(self.running):
                if process.popen.poll() is not None:
                    self._start_again(number)

    def _start_again(self, number: int) -> None:
        try:
            process = self._starts[number]()
        except UNREACHABLE:
            return  # no token without an API server: once more in a moment
        former, self.running[number] = self.running[number], process
        self.ended.append(former)


@dataclass
class FaultStage:
    """The stage: see the module.

    Attributes:
        to_cluster: Between all processes of the project and the API server; not between the test and it.
        to_keyservices: What the key service's address leads to.
    """

    kubeconfig: Path
    rig: Rig
    to_cluster: Relay
    to_keyservices: Relay
    ports: list[int]
    replicas: list[Process] = field(default_factory=list)

    def start_replica(self, number: int, **extra: str) -> Process:
        """Start a key service and wait until it is ready."""
        environment = {"DATAKEYS_LISTEN": f"127.0.0.1:{self.ports[number]}", **extra}
        process = self.rig.launch_keyservice(**environment)
        assert eventually(lambda: process.answers("/readyz") == 200), process.log.read_text()[-2000:]
        return process

    def keep_replicas(self) -> Kubelet:
        """Let a kubelet look after the key services in place of the present ones."""
        for replica in self.replicas:
            replica.kill()
        return Kubelet(*(lambda number=number: self.start_replica(number) for number in range(REPLICAS)))

    def controllers(self, number: int = 2, **extra: str) -> Kubelet:
        """Run controllers; one that loses its Lease because the machine stands still is started again."""
        names = [f"controller-{it}" for it in range(number)]
        settings = {**_LEASE, **extra}
        return Kubelet(*(lambda name=name: self.rig.start_controller(name, **settings) for name in names))

    def away(self, component: str, seconds: float = 0.0) -> None:
        """Kill a component of the cluster with SIGKILL; bring it back after a time, wait until it serves."""
        directory = self.kubeconfig.parent
        daemon = processes.recorded(directory)[component]
        processes.end([daemon])
        time.sleep(seconds)
        processes.start(directory, component, daemon.command, daemon.environment)
        assert eventually(self._serves), component

    def compact(self) -> int:
        """Make etcd forget all former revisions; return the one that is left."""
        etcd = 'import json, sys, urllib.request as u; r = u.Request("http://127.0.0.1:2379/v3/kv/" + sys.argv[1], sys.argv[2].encode()); print(u.urlopen(r).read().decode())'  # noqa: E501
        pid = processes.recorded(self.kubeconfig.parent)["etcd"].pid

        def ask(call: str, body: str) -> str:
            command = ["nsenter", f"--net=/proc/{pid}/ns/net", "python3", "-c", etcd, call, body]
            return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

        revision = int(json.loads(ask("range", '{"key": "AA=="}'))["header"]["revision"])
        ask("compaction", json.dumps({"revision": revision, "physical": True}))
        return revision

    def _serves(self) -> bool:
        """Return whether the API server says that it is ready: it judges requests by its policies, too."""
        method, url, headers, *_ = self.rig.api.param_serialize(
            "GET", "/readyz", auth_settings=["BearerToken"]
        )
        try:
            answer = self.rig.api.call_api(method, url, headers, _request_timeout=CALL_SECONDS)
            return bool(answer.status == 200)
        except UNREACHABLE:
            return False


@contextmanager
def running_stage(
    kubeconfig: Path, api: client.ApiClient, folder: Path, *, with_webhook: bool = False
) -> Iterator[FaultStage]:
    """Run the key services; ends all that was started. With a webhook, the caller must run it."""
    if backend.uses_kind():
        pytest.skip("the components of a kind cluster can't be killed one by one from outside")
    config = yaml.safe_load(kubeconfig.read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    with Relay([(str(server.hostname), server.port or 443)]) as to_cluster:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{to_cluster.port}"
        relayed = folder / "relayed.kubeconfig"
        relayed.write_text(yaml.safe_dump(config))
        ports = [find_free_port() for _ in range(REPLICAS)]
        with (
            Relay([("127.0.0.1", port) for port in ports]) as to_keyservices,
            running_rig(relayed, api, folder) as rig,
        ):
            if not with_webhook:
                rig.leave_webhook_out()
            rig.keyservice_port = to_keyservices.port
            stage = FaultStage(kubeconfig, rig, to_cluster, to_keyservices, ports)
            rig.start_keyservice(DATAKEYS_LISTEN=f"127.0.0.1:{ports[0]}")
            first = rig.processes[-1]
            assert eventually(lambda: first.answers("/readyz") == 200), first.log.read_text()[-2000:]
            stage.replicas = [first, *(stage.start_replica(number) for number in range(1, REPLICAS))]
            yield stage
