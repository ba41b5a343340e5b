"""Runs the webhook as a process of this machine beside a real API server, with its own rights only.

Zone: tests.
"""

import ipaddress
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client

from chart_installation import Installation, installed_chart
from in_force import Asked, wait_asked
from loopback_certificate import write_certificate
from ports import find_free_port
from waiting import WAIT_SECONDS, wait_for

OPERATOR: Final = Path(__file__).parents[2] / "operator"
NAME: Final = "datakeys-webhook"


@dataclass(frozen=True)
class RunningWebhook:
    """The process, and where it listens."""

    installation: Installation
    process: subprocess.Popen[bytes]
    address: str
    port: int
    log: Path
    health_url: str

    def is_ready(self) -> bool:
        """Return whether it says so."""
        return _is_ready(self.health_url)


@contextmanager
def running_webhook(kubeconfig: Path, api: client.ApiClient, folder: Path) -> Iterator[Installation]:
    """Install the chart and run the webhook under its own ServiceAccount; yields when it is ready."""
    with running_webhook_process(kubeconfig, api, folder) as running:
        yield running.installation


@contextmanager
def running_webhook_process(
    kubeconfig: Path, api: client.ApiClient, folder: Path
) -> Iterator[RunningWebhook]:
    """Do the same, and give the process."""
    address = find_own_address(api.configuration.host)
    port, health_port = find_free_port(address), find_free_port("127.0.0.1")
    write_certificate(folder / "tls", address)
    with installed_chart(kubeconfig) as installation:
        _write_kubeconfig(folder / "kubeconfig", installation, api)
        point_to(api, f"https://{address}:{port}")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DATAKEYS_LISTEN": f"{address}:{port}",
            "DATAKEYS_HEALTH_LISTEN": f"127.0.0.1:{health_port}",
            "DATAKEYS_TLS_DIRECTORY": str(folder / "tls"),
            "DATAKEYS_SIDECAR_IMAGE": "datakeys-sidecar:test",
            "DATAKEYS_CLUSTER_NAME": "cluster-1",
            "DATAKEYS_KEYSERVICE_URL": "https://datakeys-keyservice.datakey-system.svc:443",
        }
        with (folder / "webhook.log").open("wb") as log:
            command = [sys.executable, "-m", "datakeys.webhook"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        health_url = f"http://127.0.0.1:{health_port}/readyz"
        running = RunningWebhook(installation, process, address, port, folder / "webhook.log", health_url)
        try:
            wait_for(running.is_ready, "the webhook is ready")
            wait_asked(api, Asked.STAMPED)
            yield running
        finally:
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0, (folder / "webhook.log").read_text()[-2000:]


def find_own_address(server: str) -> str:
    """Return this machine's address on the way to the API server: there it can call the webhook."""
    address = urlsplit(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address.hostname, address.port))
        own: str = probe.getsockname()[0]
    if ipaddress.ip_address(own).is_loopback:
        pytest.skip("the API server can't call this machine back")
    return own


def _write_kubeconfig(path: Path, installation: Installation, api: client.ApiClient) -> None:
    """Write a kubeconfig that is the webhook's ServiceAccount, and nobody else."""
    body: Any = {"spec": {"expirationSeconds": 7200}}
    token: Any = client.CoreV1Api(api).create_namespaced_service_account_token(
        NAME, installation.namespace, body
    )
    admin = yaml.safe_load(installation.kubeconfig.read_text())
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token.status.token}}]
    path.write_text(yaml.safe_dump(admin))


def point_to(api: client.ApiClient, url: str) -> None:
    """Make the API server call this machine instead of the Service, on the same paths."""
    admission = client.AdmissionregistrationV1Api(api)
    present: Any = admission.read_mutating_webhook_configuration(NAME)
    patch: Any = [
        {
            "op": "replace",
            "path": f"/webhooks/{index}/clientConfig",
            "value": {"url": url + webhook.client_config.service.path},
        }
        for index, webhook in enumerate(present.webhooks)
    ]
    admission.patch_mutating_webhook_configuration(NAME, patch)


def _is_ready(url: str) -> bool:
    """Return whether the webhook says that it is ready."""
    try:
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except OSError:
        return False
