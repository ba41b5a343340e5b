"""How late does another replica of the key service see a change?

Starts a control plane, then two stores on it: this process writes as one replica does, a child process reads
as the other one does and notes when a record arrives in its memory. The floor in the same run: a bare watch
of ConfigMaps in a third process, with writes of the same size and pace. Times are of the kernel's monotonic
clock, which all processes share; a delay counts from the return of the write.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack"), str(ROOT / "tests" / "support")]

from datakeys.contract.key_types import KeyOrigin, KeySpec, KeyState, KeyUsage  # noqa: E402
from datakeys.keyservice.cluster_api import KubernetesApi  # noqa: E402
from datakeys.keyservice.material.root_key import RootKey  # noqa: E402
from datakeys.keyservice.store.grant_record import GrantRecord  # noqa: E402
from datakeys.keyservice.store.kubernetes_store import KubernetesStore  # noqa: E402
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi  # noqa: E402
from datakeys.keyservice.store.record_cache import RecordCache  # noqa: E402
from datakeys.keyservice.store.records import AliasRecord, KeyRecord  # noqa: E402
from datakeys.keyservice.store.watcher import Watcher  # noqa: E402
from deployment import run_testcluster  # noqa: E402

NAMESPACE = "default"
ROOT_KEY = RootKey(bytes(32))
KEY_ID = "00000000-0000-4000-8000-{:012d}"


def note(kind: str, name: str) -> None:
    """Print an arrival: kind, name, nanoseconds."""
    sys.stdout.write(f"{kind} {name} {time.monotonic_ns()}\n")
    sys.stdout.flush()


def watch_own_writes(store: KubernetesStore, noted: Callable[[str], None]) -> None:
    """Call ``noted`` with ``name/resourceVersion`` whenever the store's memory takes a Secret over."""
    apply = RecordCache.apply

    def apply_and_note(secret: dict[str, Any]) -> None:
        apply(store.cache, secret)
        noted(f"{secret['metadata']['name']}/{secret['metadata']['resourceVersion']}")

    store.cache.apply = apply_and_note  # type: ignore[method-assign]


def read_as_replica() -> None:
    """Note every record that the watch brings into memory."""
    objects = ObjectsApi(KubernetesApi(), NAMESPACE)
    store = KubernetesStore(objects, ROOT_KEY)
    watch_own_writes(store, lambda name: note("secret", name))
    watcher = Watcher(objects, store.cache, time.monotonic)
    watcher.start()
    watcher.synced.wait()
    note("ready", "-")
    threading.Event().wait()


def read_as_floor() -> None:
    """Note every ConfigMap that a bare watch gives."""
    api = KubernetesApi()
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    version = api.call("GET", path).body["metadata"]["resourceVersion"]
    note("ready", "-")
    for event in api.watch(path, {"resourceVersion": version}):
        metadata = event["object"]["metadata"]
        note("configmap", f"{metadata['name']}/{metadata['resourceVersion']}")


class Reader:
    """A child process that notes arrivals."""

    def __init__(self, role: str) -> None:
        self.arrivals: dict[str, int] = {}
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--role", role], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(30):
            raise SystemExit(f"the reader {role} doesn't start")

    def _read(self) -> None:
        for line in self._process.stdout or ():
            kind, name, at = line.split()
            if kind == "ready":
                self._ready.set()
            else:
                self.arrivals.setdefault(name, int(at))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def build_writes(store: KubernetesStore, config_maps: ObjectsApi, number: int) -> list[Callable[[], str]]:
    """Return the writes of one round; each returns ``name/resourceVersion``."""
    key_id = KEY_ID.format(number)
    key = KeyRecord(
        key_id, "team-a", KeySpec.SYMMETRIC_DEFAULT, KeyUsage.ENCRYPT_DECRYPT, KeyOrigin.AWS_KMS,
        KeyState.ENABLED, 0.0,
    )  # fmt: skip
    alias = AliasRecord("team-a", f"alias/a{number}", key_id, 0.0, 0.0)
    grant = GrantRecord(
        f"{number:064x}", key_id, "team-a", "system:serviceaccount:team-a:app", frozenset({"Decrypt"}), 0.0
    )
    filler = json.dumps(key.to_json())

    applied: list[str] = []
    watch_own_writes(store, applied.append)

    def write_config_map() -> str:
        body = {"metadata": {"name": f"floor-{number}"}, "data": {"record": filler * 2}}
        metadata = (config_maps.create(body) or {})["metadata"]
        return f"{metadata['name']}/{metadata['resourceVersion']}"

    def record_write(write: Callable[[], object]) -> Callable[[], str]:
        def run() -> str:
            write()
            return applied[-1]

        return run

    return [
        record_write(lambda: store.create_key(key)),
        record_write(lambda: store.update_key(key_id, _disabled)),
        record_write(lambda: store.create_alias(alias)),
        record_write(lambda: store.create_grant(grant)),
        write_config_map,
    ]


def _disabled(record: KeyRecord) -> KeyRecord:
    return KeyRecord.from_json({**record.to_json(), "state": KeyState.DISABLED})


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the delays in milliseconds, by kind of write."""
    labels = ["new key", "changed key", "new alias", "new grant", "floor: bare watch"]
    secrets, config_maps = (
        ObjectsApi(KubernetesApi(), NAMESPACE),
        ObjectsApi(KubernetesApi(), NAMESPACE, CONFIG_MAPS),
    )
    store = KubernetesStore(secrets, ROOT_KEY)
    replica, floor = Reader("replica"), Reader("floor")
    returned: list[tuple[str, str, int]] = []
    for number in range(rounds):
        for label, write in zip(labels, build_writes(store, config_maps, number), strict=True):
            name = write()
            returned.append((label, name, time.monotonic_ns()))
            time.sleep(0.01)
    time.sleep(2)
    arrivals = replica.arrivals | floor.arrivals
    lost = [name for _, name, _ in returned if name not in arrivals]
    replica.stop()
    floor.stop()
    if lost:
        raise SystemExit(f"{len(lost)} writes never arrived: {lost[:3]}")
    delays: dict[str, list[float]] = {label: [] for label in labels}
    for label, name, at in returned:
        delays[label].append((arrivals[name] - at) / 1e6)
    return delays


def print_table(delays: dict[str, list[float]]) -> None:
    """Print a table in Markdown."""
    print("| what | p50, ms | p99, ms | most, ms |\n|---|---|---|---|")
    for label, values in delays.items():
        quantiles = statistics.quantiles(values, n=100)
        print(f"| {label} | {quantiles[49]:.1f} | {quantiles[98]:.1f} | {max(values):.1f} |")


def main() -> None:
    """Start a control plane and the writer beside it; the client library reads KUBECONFIG at its import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--role", choices=["writer", "replica", "floor"])
    arguments = parser.parse_args()
    match arguments.role:
        case "writer":
            print_table(measure(arguments.rounds))
        case "replica":
            read_as_replica()
        case "floor":
            read_as_floor()
        case _:
            run_in_cluster(["--role", "writer", "--rounds", str(arguments.rounds)])


def run_in_cluster(role: list[str], name: str = "propagation") -> None:
    """Run this program in a role, with a cluster of its own."""
    run_testcluster("up", "--control-plane-only", "--name", name)
    try:
        path = run_testcluster("path", "kubeconfig", "--name", name, capture=True).strip().splitlines()[-1]
        subprocess.run([sys.executable, __file__, *role], env={**os.environ, "KUBECONFIG": path}, check=True)
    finally:
        run_testcluster("down", "--name", name)


if __name__ == "__main__":
    main()
