"""Two whole rotations of the CA within minutes, while clients of the key service and the webhook never fail.

Real processes and a real API server, which calls one replica of the webhook; the test plays the kubelets,
which are late, and the sidecars.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from certificate_stage import WEBHOOK, Stage, connect, mount
from controller_rig import Process, running_rig
from ports import find_free_port
from waiting import eventually
from webhook_rig import find_own_address

#: A CA signs 86 s after the one before it was made, and is replaced after 72 s. A leaf is made anew 12 s
#: before its end: for late kubelets, a webhook that looks at its files every 3 s, and a slow machine.
LIFETIMES: Final = {
    "DATAKEYS_CA_SECONDS": "108",
    "DATAKEYS_LEAF_SECONDS": "36",
    "DATAKEYS_CA_OVERLAP_SECONDS": "14",
}
#: How late the kubelets of two nodes are, in seconds.
KUBELET_SECONDS: Final = (1.0, 3.0)
#: Three CAs must have signed what each client sees.
WANTED_ISSUERS: Final = 3
LIMIT_SECONDS: Final = 400.0


@dataclass
class Clients:
    """Loops that connect again and again, what they saw, and what went wrong."""

    stop: threading.Event = field(default_factory=threading.Event)
    served: Counter[str] = field(default_factory=Counter)
    issuers: dict[str, set[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, attempt: Callable[[], str | None], pause_seconds: float) -> None:
        """Try for ever; an attempt returns the issuer's name if it has seen a certificate."""

        def run() -> None:
            while not self.stop.wait(pause_seconds):
                try:
                    issuer = attempt()
                except Exception as error:  # noqa: BLE001 - every failure counts
                    self.failures.append(f"{name}: {error!r}")
                    continue
                self.served[name] += 1
                if issuer is not None:
                    self.issuers.setdefault(name, set()).add(issuer)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    @contextmanager
    def ended(self) -> Iterator[None]:
        """End the loops in the end."""
        try:
            yield
        finally:
            self.stop.set()
            for thread in self.threads:
                thread.join()


class Late:
    """Something that is seen some seconds after it has changed."""

    def __init__(self, read: Callable[[], Any], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._seen: deque[tuple[float, Any]] = deque([(time.monotonic(), read())])
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        """Return the value of then."""
        with self._lock:
            self._seen.append((time.monotonic(), self._read()))
            while len(self._seen) > 1 and self._seen[1][0] <= time.monotonic() - self._seconds:
                self._seen.popleft()
            return self._seen[0][1]


def play_kubelet(stage: Stage, folder: Path, delay: float, stop: threading.Event) -> threading.Thread:
    """Bring the webhook's Secret into a folder, late; the first time at once."""
    read = Late(stage.read_secret, delay)

    def run() -> None:
        present: dict[str, bytes] = {}
        generation = 0
        while True:
            secret = read()
            if secret != present:
                present, generation = secret, generation + 1
                mount(folder, secret, generation)
            if stop.wait(0.25):
                return

    thread = threading.Thread(target=run, name=f"kubelet {folder.name}", daemon=True)
    thread.start()
    return thread


@pytest.fixture
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path: Path, namespace: str
) -> Iterator[Stage]:
    """Run a key service with short lifetimes."""
    with running_rig(control_plane, api_client, tmp_path) as rig:
        rig.start_keyservice(**LIFETIMES)
        yield Stage(rig, namespace)


def test_no_client_fails_during_two_rotations(stage: Stage, tmp_path: Path) -> None:
    """Sidecars with old and new bundles, and the API server: each is served at every instant."""
    rig, clients = stage.rig, Clients()
    address = find_own_address(rig.api.configuration.host)
    folders = [tmp_path / f"node-{number}" for number in range(2)]
    ports = [find_free_port() for _ in folders]
    stage.lead_to(address, ports[0])
    with clients.ended():
        for folder, port, delay in zip(folders, ports, KUBELET_SECONDS, strict=True):
            clients.threads.append(play_kubelet(stage, folder, delay, clients.stop))
            process = rig.start_webhook(address, port, folder)
            assert eventually(partial(_is_ready, process)), process.log.read_text()
        keyservice = ("127.0.0.1", rig.keyservice_port)
        for name, delay in (("sidecar, bundle new", 0.0), ("sidecar, bundle old", KUBELET_SECONDS[1])):
            bundle = Late(stage.read_bundle, delay)
            clients.start(name, partial(connect, keyservice, rig.keyservice_host, bundle), 0.2)
        service = f"{WEBHOOK}.{stage.system}.svc"
        for number, port in enumerate(ports):
            attempt = partial(connect, (address, port), service, stage.read_ca_bundle)
            clients.start(f"webhook {number}", attempt, 0.2)
        stage.wait_admitted()
        clients.start("API server", stage.admit, 0.5)
        _wait_for_rotations(clients)
    assert clients.failures == []
    # On a slow machine an attempt takes long.
    assert min(clients.served.values()) > 20, clients.served
    assert stage.read_bundle().count("BEGIN CERTIFICATE") <= WANTED_ISSUERS


def _is_ready(process: Process) -> bool:
    return process.answers("/readyz") == 200


def _wait_for_rotations(clients: Clients) -> None:
    """Wait until everybody has seen three CAs, or something failed."""
    end = time.monotonic() + LIMIT_SECONDS
    seen: list[set[str]] = []
    while time.monotonic() < end and not clients.failures:
        seen = list(clients.issuers.values())
        if len(seen) == 4 and min(map(len, seen)) >= WANTED_ISSUERS:
            return
        time.sleep(0.5)
    assert clients.failures == []
    raise TimeoutError(f"not all have seen {WANTED_ISSUERS} CAs: {clients.issuers}")
