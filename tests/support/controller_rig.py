"""Runs the controller and the key service as real processes beside a real API server.

Zone: tests. Both act as their ServiceAccounts with the chart's rights. There is no cluster network, so one
thing is faked, name resolution: the key service's name leads to the loopback address.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chart_installation import Installation, installed_chart
from datakeys.contract.identity import AUDIENCE, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from in_force import leave_webhook_out
from live_files import read_whole_lines, replace_text
from ports import find_free_port
from waiting import WAIT_SECONDS, eventually, wait_for

ROOT: Final = Path(__file__).parents[2]
CLUSTER_NAME: Final = "cluster-1"
TOKEN_SECONDS: Final = 7200
#: A Lease that another controller takes over soon.
SHORT_LEASE: Final = {"DATAKEYS_LEASE_SECONDS": "10", "DATAKEYS_RENEW_DEADLINE_SECONDS": "8"}
_RESOLVER: Final = """
import socket
_original = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    return _original("127.0.0.1" if host == {name!r} else host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
import uvloop  # which asks the C library itself
_of_loop = uvloop.Loop.getaddrinfo
def getaddrinfo_of_loop(loop, host, *arguments, **options):
    return _of_loop(loop, "127.0.0.1" if host == {name!r} else host, *arguments, **options)
uvloop.Loop.getaddrinfo = getaddrinfo_of_loop
"""


def accepts(port: int) -> bool:
    """Return whether somebody listens on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Process:
    """A process of this project."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    health_port: int

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def writes(self) -> dict[tuple[str, str], int]:
        """Return how many writes of each kind and verb it has made, Leases and Events left out."""
        counts = {}
        for sample in self._told():
            labels = sample.labels
            if sample.name == "datakeys_writes_total" and labels["kind"] not in ("leases", "events"):
                counts[labels["kind"], labels["verb"]] = int(sample.value)
        return counts

    def calls(self, operation: str) -> int:
        """Return how many calls of an operation of the key service it has made."""
        return sum(
            int(sample.value)
            for sample in self._told()
            if sample.name == "datakeys_keyservice_calls_total" and sample.labels["operation"] == operation
        )

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all values of a metric that have these labels, 0 if there are none."""
        return sum(
            sample.value
            for sample in self._told()
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_led(self) -> None:
        """Wait until it leads."""
        assert eventually(lambda: self.check_alive() and self.is_leader()), self.log.read_text()[-2000:]

    def check_alive(self) -> bool:
        """Fail if it has ended: nobody need wait for it."""
        assert self.popen.poll() is None, self.log.read_text()[-2000:]
        return True

    def is_leader(self) -> bool:
        """Return whether it holds the Lease."""
        return any(sample.name == "datakeys_leader" and sample.value for sample in self._samples())

    def answers(self, path: str) -> int:
        """Return the HTTP status of its health server, 0 without an answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health_port}{path}", timeout=WAIT_SECONDS
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def _told(self) -> list[Sample]:
        """Return the metrics of a process that lives: no answer isn't taken for nothing done."""
        found: list[Sample] = []

        def answers() -> bool:
            found.extend(self._samples())
            return bool(found)

        assert eventually(answers), self.log.read_text()[-2000:]
        return found

    def _samples(self) -> Iterator[Sample]:
        """Yield the metrics; none if the process has ended, or doesn't serve yet."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.health_port}/metrics", timeout=WAIT_SECONDS
            ) as answer:
                text = answer.read().decode()
        except OSError:
            return
        for family in text_string_to_metric_families(text):
            yield from family.samples

    def pause(self) -> None:
        """Freeze it: it is alive and does nothing."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self.popen.send_signal(signal.SIGCONT)


@dataclass
class Rig:
    """Starts processes and remembers them, so that each is ended."""

    installation: Installation
    api: client.ApiClient
    folder: Path
    keyservice_port: int = field(default_factory=find_free_port)
    processes: list[Process] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def keyservice_host(self) -> str:
        """Return the name on the key service's certificate."""
        return f"datakeys-keyservice.{self.installation.namespace}.svc"

    def leave_webhook_out(self) -> None:
        """Let the API server ask no webhook: what one adds to a workload is in the builders."""
        leave_webhook_out(self.api)

    def start_keyservice(self, **extra: str) -> Process:
        """Start a key service and wait until it has published its certificate authority."""
        process = self.launch_keyservice(**extra)
        wait_for(lambda: process.check_alive() and accepts(self.keyservice_port), "the key service listens")
        core = client.CoreV1Api(self.api)

        def published() -> bool:
            selector = f"metadata.name={TRUST_BUNDLE_CONFIG_MAP}"
            found = core.list_namespaced_config_map(self.installation.namespace, field_selector=selector)
            for item in found.items:
                replace_text(self.folder / "ca.crt", (item.data or {})[TRUST_BUNDLE_KEY])
            return bool(found.items)

        wait_for(published, "the trust bundle is published")
        return process

    def launch_keyservice(self, **extra: str) -> Process:
        """Start a key service; it isn't waited for."""
        environment = {"DATAKEYS_LISTEN": f"127.0.0.1:{self.keyservice_port}", **extra}
        return self._start("keyservice", environment)

    def start_controller(self, identity: str = "one", **extra: str) -> Process:
        """Start a controller; it isn't waited for."""
        return self._start("controller", self.build_controller_settings(identity, **extra))

    def build_controller_settings(self, identity: str = "one", **extra: str) -> dict[str, str]:
        """Return a controller's environment variables, apart from those that every process has."""
        token = self.folder / "keyservice-token"
        replace_text(token, self.token("datakeys-controller", AUDIENCE))
        return {
            "DATAKEYS_KEYSERVICE_URL": f"https://{self.keyservice_host}:{self.keyservice_port}",
            "DATAKEYS_KEYSERVICE_CA_FILE": str(self.folder / "ca.crt"),
            "DATAKEYS_TOKEN_FILE": str(token),
            "DATAKEYS_IDENTITY": identity,
            # Long, so that it is no leader's end if the machine stands still for a while.
            "DATAKEYS_LEASE_SECONDS": "120",
            "DATAKEYS_RENEW_DEADLINE_SECONDS": "100",
            "DATAKEYS_LEASE_RETRY_SECONDS": "1",
            **extra,
        }

    def start_webhook(self, address: str, port: int, tls_directory: Path, **extra: str) -> Process:
        """Start a webhook; it waits for its certificate in this folder."""
        environment = {
            "DATAKEYS_LISTEN": f"{address}:{port}",
            "DATAKEYS_TLS_DIRECTORY": str(tls_directory),
            "DATAKEYS_SIDECAR_IMAGE": "datakeys-sidecar:test",
            "DATAKEYS_KEYSERVICE_URL": f"https://{self.keyservice_host}:{self.keyservice_port}",
            **extra,
        }
        return self._start("webhook", environment)

    def audited(self, operation: str, account: str) -> list[dict[str, Any]]:
        """Return the audit records of all calls of an operation for a namespace that weren't refused."""
        logs = [process.log for process in self.processes if process.name == "keyservice"]
        lines = [line for log in logs for line in read_whole_lines(log) if account in line]
        records = [json.loads(line) for line in lines]
        return [it for it in records if it.get("eventName") == operation and "errorCode" not in it]

    def stop_all(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()

    def token(self, account: str, audience: str | None = None) -> str:
        """Return a token of a ServiceAccount of the system namespace."""
        body: Any = {
            "spec": {"audiences": [audience] if audience else [], "expirationSeconds": TOKEN_SECONDS}
        }
        answer = client.CoreV1Api(self.api).create_namespaced_service_account_token(
            account, self.installation.namespace, body
        )
        return str(answer.status and answer.status.token)

    def _start(self, name: str, environment: Mapping[str, str]) -> Process:
        number = next(self._numbers)
        log, health_port = self.folder / f"{name}-{number}.log", find_free_port()
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", f"datakeys.{name}"],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                env=self.build_environment(name, health_port, environment),
            )
        process = Process(name, popen, log, health_port)
        self.processes.append(process)
        return process

    def build_environment(self, name: str, health_port: int, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process of this project, which finds the key service by its name."""
        sites = self.folder / "site"
        sites.mkdir(exist_ok=True)
        replace_text(sites / "sitecustomize.py", _RESOLVER.format(name=self.keyservice_host))
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{sites}:{ROOT / 'operator'}",
            "KUBECONFIG": str(self.write_kubeconfig(f"datakeys-{name}")),
            "DATAKEYS_CLUSTER_NAME": CLUSTER_NAME,
            "DATAKEYS_SYSTEM_NAMESPACE": self.installation.namespace,
            "DATAKEYS_HEALTH_LISTEN": f"127.0.0.1:{health_port}",
            **settings,
        }

    def write_kubeconfig(self, account: str) -> Path:
        """Return a kubeconfig of a ServiceAccount of the system namespace."""
        config = yaml.safe_load(self.installation.kubeconfig.read_text())
        config["users"] = [{"name": account, "user": {"token": self.token(account)}}]
        for context in config["contexts"]:
            context["context"]["user"] = account
        path = self.folder / f"{account}.kubeconfig"
        replace_text(path, yaml.safe_dump(config))
        return path


@contextmanager
def running_rig(kubeconfig: Path, api: client.ApiClient, folder: Path) -> Iterator[Rig]:
    """Install the chart and yield a rig without processes; ends all that were started."""
    with installed_chart(kubeconfig) as installation:
        rig = Rig(installation, api, folder)
        try:
            yield rig
        finally:
            rig.stop_all()
