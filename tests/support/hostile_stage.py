"""A key service that is attacked, and a pod that decrypts its data key meanwhile. Zone: tests."""

import base64
import json
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from controller_rig import ROOT, Process, Rig
from controller_wire import Wire
from live_files import read_whole_lines
from waiting import WAIT_SECONDS, eventually

NAMESPACE: Final = "shop"
#: Of the pod's data key.
CONTEXT: Final = {
    "datakeys.dev/namespace": NAMESPACE,
    "datakeys.dev/request": "orders",
    "datakeys.dev/service-account": "app",
}
_UNITS: Final = {"Mi": 1024 * 1024}


@contextmanager
def many_open_files() -> Iterator[None]:
    """Let this process have as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Stage:
    """A key service, and a pod with a data key."""

    rig: Rig
    process: Process
    pod: Wire
    ciphertext: str

    def decrypt(self) -> None:
        """Decrypt on a connection of its own, trying again for some time as the sidecar does for ever."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                answer = self.pod.call("Decrypt", CiphertextBlob=self.ciphertext, EncryptionContext=CONTEXT)
            except (OSError, ValueError):
                assert time.monotonic() < deadline, self.process.log.read_text()[-2000:]
                time.sleep(0.2)
                continue
            assert len(base64.b64decode(answer["Plaintext"])) == 32
            return

    def connect(self) -> socket.socket:
        """Return a TCP connection."""
        return socket.create_connection(("127.0.0.1", self.rig.keyservice_port), WAIT_SECONDS)

    def connect_securely(self) -> ssl.SSLSocket:
        """Return a TLS connection."""
        context = ssl.create_default_context(cafile=str(self.rig.folder / "ca.crt"))
        return context.wrap_socket(self.connect(), server_hostname=self.rig.keyservice_host)

    def post(self, token: str, body: bytes = b"{}", headers: str = "") -> tuple[int, bytes]:
        """Return status and body of Decrypt's answer; (0, nothing) if the connection ends without one."""
        head = (
            "POST / HTTP/1.1\r\nHost: kms\r\nConnection: close\r\nX-Amz-Target: TrentService.Decrypt\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        )
        with self.connect_securely() as secure:
            with suppress(OSError):
                secure.sendall(head.encode("latin-1") + body)
            return _read_answer(secure)

    def check_unharmed(self) -> None:
        """Check that the process lives, is ready, has kept to the chart's memory, and has failed nowhere."""
        assert self.process.popen.poll() is None
        assert eventually(lambda: self.process.answers("/readyz") == 200)
        peak = peak_bytes(self.process.popen.pid)
        assert peak < memory_limit("keyservice"), f"{peak / 1e6:.0f} MB"
        lines = [json.loads(line) for line in read_whole_lines(self.process.log) if line.startswith("{")]
        assert [line for line in lines if line.get("level") in ("ERROR", "CRITICAL")] == []


def _read_answer(secure: ssl.SSLSocket) -> tuple[int, bytes]:
    raw = b""
    with suppress(OSError):
        while piece := secure.recv(65536):
            raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]), body) if head else (0, b"")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has ever had resident."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))) * 1024


def memory_limit(process: str) -> int:
    """Return the limit of a process' container in bytes, as the chart sets it."""
    values = yaml.safe_load((ROOT / "charts/datakey-operator/values.yaml").read_text())
    text = values[process]["resources"]["limits"]["memory"]
    return int(text[:-2]) * _UNITS[text[-2:]]
