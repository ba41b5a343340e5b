"""Real sidecars of pods that exist but don't run: each fetches its data key as in a pod, with its retries.

Zone: tests. A sidecar reads no PYTHONPATH, so name resolution is faked for it by a hosts file of its own.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from background import Background
from controller_rig import ROOT, TOKEN_SECONDS, Rig
from custom_objects import Objects
from pod_caller import start_pod
from waiting import eventually, wait_for

PROGRAM: Final = ROOT / "operator" / "datakeys" / "sidecar" / "__main__.py"
#: Longer than a key service needs to come back, by far.
GIVE_UP_SECONDS: Final = 240.0
_THREADS: Final = 2
_START: Final = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


class SidecarPods(Background):
    """Starts init sidecars one after another, each for the same data key, in several threads.

    Attributes:
        delivered: What each of them has delivered.
        failures: The output of those that ended otherwise, or not at all.
        retries: How many attempts failed and were made again by the sidecar itself, by the error's name.
    """

    def __init__(self, rig: Rig, objects: Objects, request: str, token_seconds: int = TOKEN_SECONDS) -> None:
        super().__init__(*[self._start_one] * _THREADS)
        self.delivered: list[bytes] = []
        self.failures: list[str] = []
        self.retries: list[str] = []
        self._rig, self._request = rig, request
        self._folder = rig.folder / f"pods-{objects.namespace}"
        folder = self._folder / "encrypted" / request
        folder.mkdir(parents=True)
        wait_for(lambda: objects.secret(request) is not None, f"Secret {request} is there")
        for name, value in objects.secret(request).data.items():
            (folder / name).write_bytes(base64.b64decode(value))
        (self._folder / "token").write_text(start_pod(rig, objects.namespace, seconds=token_seconds).token)
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost {rig.keyservice_host}\n")

    def wait_delivered(self, more: int) -> None:
        """Wait until so many more have delivered their data key."""
        wanted = len(self.delivered) + more
        assert eventually(lambda: bool(self.failures) or len(self.delivered) >= wanted, GIVE_UP_SECONDS)
        assert not self.failures, self.failures

    def _start_one(self) -> None:
        # A sidecar writes to memory only.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as keys:
            self._wait_for_one(Path(keys))

    def _wait_for_one(self, keys: Path) -> None:
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
                "DATAKEYS_REQUESTS": self._request,
                "DATAKEYS_DELIVERY": "init",
                "DATAKEYS_KEYSERVICE_URL": f"https://{self._rig.keyservice_host}:{self._rig.keyservice_port}",
                "DATAKEYS_KEYSERVICE_CA_FILE": str(self._rig.folder / "ca.crt"),
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
            self.delivered.append((keys / self._request).read_bytes())
        else:
            self.failures.append(output)
