"""A webhook that is attacked, while an API server asks it about pods. Zone: tests."""

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from hostile_stage import memory_limit, peak_bytes
from live_files import read_whole_lines
from waiting import WAIT_SECONDS, eventually, wait_for
from webhook_rig import RunningWebhook

POD: Any = {
    "metadata": {
        "name": "app",
        "labels": {"datakeys.dev/inject": "true"},
        "annotations": {"datakeys.dev/requests": "orders"},
    },
    "spec": {
        "serviceAccountName": "app",
        "securityContext": {"runAsUser": 10001},
        "containers": [{"name": "app", "image": "app:1"}],
    },
}


_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_CONTEXT.check_hostname = False
_CONTEXT.verify_mode = ssl.CERT_NONE


@dataclass
class WebhookStage:
    """The attacked process, and the API server that needs it."""

    webhook: RunningWebhook
    api: client.ApiClient
    namespace: str

    def admit(self) -> None:
        """Create a pod by dry run, trying again for some time as its owner would for ever."""
        wait_for(self._admit_once, "a pod is admitted")

    def _admit_once(self) -> bool:
        body: Any = POD
        core = client.CoreV1Api(self.api)
        try:
            pod: Any = core.create_namespaced_pod(self.namespace, body, dry_run="All")
        except client.ApiException:
            return False
        return [one.name for one in pod.spec.init_containers] == ["datakeys-sidecar"]

    def connect(self, source: str = "") -> socket.socket:
        """Return a TCP connection, from an address of this machine."""
        target = (self.webhook.address, self.webhook.port)
        return socket.create_connection(target, WAIT_SECONDS, (source, 0) if source else None)

    def connect_securely(self, source: str = "") -> ssl.SSLSocket:
        """Return a TLS connection."""
        return _CONTEXT.wrap_socket(self.connect(source))

    def hold(
        self, stack: ExitStack, count: int, opening: bytes, sources: list[str], *, securely: bool = True
    ) -> None:
        """Open connections from each of some addresses and leave them open, the same beginning on each."""
        connect: Callable[[str], socket.socket] = self.connect_securely if securely else self.connect
        for number in range(count):
            with suppress(OSError):
                connection = stack.enter_context(connect(sources[number % len(sources)]))
                connection.settimeout(5)
                connection.sendall(opening)

    def post(self, body: bytes, headers: str = "", source: str = "127.0.0.2") -> int:
        """Return the status of an answer; 0 if the connection ends without one."""
        head = f"POST /mutate-pods HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\n{headers}"
        if "chunked" not in headers:
            head += f"Content-Length: {len(body)}\r\n"
        with self.connect_securely(source) as secure:
            with suppress(OSError):
                secure.sendall(f"{head}\r\n".encode() + body)
            with suppress(OSError):
                answer = secure.recv(4096)
                return int(answer.split(b" ")[1]) if answer else 0
        return 0

    def check_unharmed(self) -> None:
        """Check that the process is ready, has kept to the chart's memory, and has failed nowhere."""
        assert self.webhook.process.poll() is None
        assert eventually(self.webhook.is_ready)
        peak = peak_bytes(self.webhook.process.pid)
        assert peak < memory_limit("webhook"), f"{peak / 1e6:.0f} MB"
        lines = [json.loads(line) for line in read_whole_lines(self.webhook.log) if line.startswith("{")]
        assert [line for line in lines if line.get("level") in ("error", "critical")] == []
