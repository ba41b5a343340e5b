"""Real sidecars of pods that exist but don't run: each fetches its data key as in a pod, with its retries.

Zone: tests. A sidecar reads no PYTHONPATH, so name resolution is faked for it by a hosts file of its own.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from controller_rig import ROOT, TOKEN_SECONDS, Rig
from custom_objects import Objects
from pod_caller import start_pod
from waiting import eventually

PROGRAM: Final = ROOT / "operator" / "datakeys" / "sidecar" / "__main__.py"
#: Longer than a key service needs to come back, by far.
GIVE_UP_SECONDS: Final = 240.0
_START: Final = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


@dataclass
class SidecarPods:
    """Starts init sidecars one after another, each for the same data key, in several threads.

    Attributes:
        delivered: What each of them has delivered.
        failures: The output of those that ended otherwise, or not at all.
        retries: How many attempts failed and were made again by the sidecar itself, by the error's name.
    """

    rig: Rig
    objects: Objects
    request: str
    token_seconds: int = TOKEN_SECONDS
    threads: int = 2
    delivered: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin."""
        self._folder = self.rig.folder / f"pods-{self.objects.namespace}"
        secret = self._folder / "encrypted" / self.request
        secret.mkdir(parents=True)
        for name, value in self.objects.secret(self.request).data.items():
            (secret / name).write_bytes(base64.b64decode(value))
        (self._folder / "token").write_text(
            start_pod(self.rig, self.objects.namespace, seconds=self.token_seconds).token
        )
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost {self.rig.keyservice_host}\n")
        self._running = [threading.Thread(target=self._run) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; the present ones finish."""
        self.stop()

    def stop(self) -> None:
        """End, and wait for those that are at work."""
        self._stop.set()
        for thread in self._running:
            thread.join()

    def wait_delivered(self, more: int) -> None:
        """Wait until so many more have delivered their data key."""
        wanted = len(self.delivered) + more
        assert eventually(lambda: bool(self.failures) or len(self.delivered) >= wanted, GIVE_UP_SECONDS)
        assert not self.failures, self.failures

    def _run(self) -> None:
        while not self._stop.is_set():
            # A sidecar writes to memory only.
            with tempfile.TemporaryDirectory(dir="/dev/shm") as keys:
                self._start_one(Path(keys))

    def _start_one(self, keys: Path) -> None:
        hosts = str(self._folder / "hosts")
        command = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _START,
            "sh",
            hosts,
            sys.executable,
            "-ISB",
            str(PROGRAM),
        ]
        process = subprocess.Popen(
            [*command, "run"],
            env={
                "PATH": os.environ["PATH"],
                "DATAKEYS_REQUESTS": self.request,
                "DATAKEYS_DELIVERY": "init",
                "DATAKEYS_KEYSERVICE_URL": f"https://{self.rig.keyservice_host}:{self.rig.keyservice_port}",
                "DATAKEYS_KEYSERVICE_CA_FILE": str(self.rig.folder / "ca.crt"),
                "DATAKEYS_TOKEN_FILE": str(self._folder / "token"),
                "DATAKEYS_ENCRYPTED_DIRECTORY": str(self._folder / "encrypted"),
                "DATAKEYS_KEYS_DIRECTORY": str(keys),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=GIVE_UP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        events = map(json.loads, output.splitlines())
        self.retries += [event["code"] for event in events if event["event"] == "decrypt_failed"]
        if process.returncode == 0:
            self.delivered.append((keys / self.request).read_bytes())
        else:
            self.failures.append(output)
