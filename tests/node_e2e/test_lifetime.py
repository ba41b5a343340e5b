"""The end of a data key in a real pod: by time, by its first read, and what is left in memory then."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from deployment import Cluster, wait_until
from process_memory import find_in_memory
from workloads import (
    APP_UID,
    Manifest,
    apply,
    build_pod,
    build_request,
    build_service_account,
    sidecar_log,
    status_of,
)

KEYS = "/var/run/datakeys/keys"
SIDECAR = "datakeys-sidecar"
#: Reads its data key and keeps it in its memory until it is stopped.
KEEPING_APP = f"key = open('{KEYS}/disk', 'rb').read(); import signal; signal.sigwait([signal.SIGTERM])"


def _apply_pod(cluster: Cluster, namespace: str, annotations: dict[str, str], **pod: Any) -> None:
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_request(namespace, "disk"),
        build_pod(
            namespace,
            "consumer",
            requests="disk",
            annotations={f"datakeys.dev/{name}": value for name, value in annotations.items()},
            **pod,
        ),
    )
    cluster.wait("pod/consumer", "condition=Ready", namespace)


def _list_keys(cluster: Cluster, namespace: str) -> list[str]:
    command = ["exec", "-n", namespace, "consumer", "-c", "app", "--", "ls", "-A", KEYS]
    return cluster.kubectl(*command).split()


def _find_processes(cluster: Cluster, namespace: str) -> dict[int, str]:
    """Return the processes of the pod, as the node sees them: PID -> command line.

    A container has the pod's /etc/hosts from the kubelet; the pause container, which hasn't, shares the IPC
    namespace with the others.
    """
    uid = cluster.get("pod", "consumer", "-n", namespace)["metadata"]["uid"]
    commands, spaces, own = {}, {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            commands[folder] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            spaces[folder] = (folder / "ns/ipc").readlink()
            if f"/pods/{uid}/etc-hosts /etc/hosts " in (folder / "mountinfo").read_text():
                own.add(spaces[folder])
        except OSError:
            continue
    return {int(folder.name): commands[folder] for folder, space in spaces.items() if space in own}


def _holds(pid: int, key: bytes) -> bool:
    """Return whether a process has the key in its memory; what was run in a container may have ended."""
    try:
        return bool(find_in_memory(pid, key))
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_expired(cluster: Cluster, namespace: str) -> None:
    """Wait until the sidecar has told of the end."""
    wait_until("the end is told", 120, lambda: '"expired"' in sidecar_log(cluster, namespace, "consumer"))


def _find_sidecar(cluster: Cluster, namespace: str) -> int:
    [pid] = [pid for pid, text in _find_processes(cluster, namespace).items() if f"{SIDECAR} run" in text]
    return pid


def _sidecar_status(cluster: Cluster, namespace: str) -> Manifest:
    statuses = status_of(cluster, "pod", "consumer", namespace).get("initContainerStatuses", [])
    return next((one for one in statuses if one["name"] == SIDECAR), {})


@pytest.mark.usefixtures("key")
def test_key_is_nowhere_in_the_pod_after_its_time_but_in_the_app(cluster: Cluster, namespace: str) -> None:
    """The node finds it in the app's memory only; a sidecar that is killed then doesn't bring it back."""
    # Long enough for a slow machine to start the app and to look.
    _apply_pod(cluster, namespace, {"ttl": "60s"}, command=["python3", "-c", KEEPING_APP])
    key = cluster.read_file(namespace, "consumer", "app", f"{KEYS}/disk")
    assert len(key) == 32
    wait_until("the key's end", 240, lambda: _list_keys(cluster, namespace) == [".~disk"])
    processes = _find_processes(cluster, namespace)
    holders = [command for pid, command in processes.items() if _holds(pid, key)]
    assert len(processes) >= 3, "the pause container, the sidecar and the app"
    assert len(holders) == 1
    assert holders[0].startswith("python3 -c key = open")
    _wait_expired(cluster, namespace)
    os.kill(_find_sidecar(cluster, namespace), signal.SIGKILL)
    wait_until(
        "the sidecar is back",
        180,
        lambda: (
            (status := _sidecar_status(cluster, namespace))["restartCount"] == 1 and status.get("started")
        ),
    )
    _wait_expired(cluster, namespace)
    assert _list_keys(cluster, namespace) == [".~disk"]


@pytest.mark.usefixtures("key")
def test_key_is_read_once(cluster: Cluster, namespace: str) -> None:
    """The first reader gets the file, the second one none; then the node finds it in no process."""
    _apply_pod(cluster, namespace, {"reads": "once"})
    assert _list_keys(cluster, namespace) == ["disk"]
    key = cluster.read_file(namespace, "consumer", "app", f"{KEYS}/disk")
    assert len(key) == 32
    assert _list_keys(cluster, namespace) == [".~disk"]
    _wait_expired(cluster, namespace)
    processes = _find_processes(cluster, namespace)
    assert len(processes) >= 3
    assert [command for pid, command in processes.items() if _holds(pid, key)] == []


@pytest.mark.usefixtures("key")
def test_init_delivery_leaves_the_key_and_no_process(cluster: Cluster, namespace: str) -> None:
    """The init container has succeeded and is gone; the app, of whatever user it is, has its file."""
    _apply_pod(cluster, namespace, {"delivery": "init"})
    assert len(cluster.read_file(namespace, "consumer", "app", f"{KEYS}/disk")) == 32
    assert _sidecar_status(cluster, namespace)["state"]["terminated"]["exitCode"] == 0
    assert not [one for one in _find_processes(cluster, namespace).values() if SIDECAR in one]


@pytest.mark.usefixtures("key")
def test_containers_of_different_users_share_a_key_by_the_volumes_group(
    cluster: Cluster, namespace: str
) -> None:
    """With mode 0440 and fsGroup two users read one file; a container without the mount doesn't."""
    body = build_pod(namespace, "x")["spec"]
    [app] = body["containers"]
    other, stranger = dict(app, name="other"), dict(app, name="stranger")
    other["securityContext"] = {**app["securityContext"], "runAsUser": APP_UID + 1}
    _apply_pod(
        cluster,
        namespace,
        {"file-mode": "0440", "containers": "app,other"},
        containers=[app, other, stranger],
        securityContext={**body["securityContext"], "fsGroup": 4242},
    )
    keys = {cluster.read_file(namespace, "consumer", name, f"{KEYS}/disk") for name in ("app", "other")}
    assert [len(key) for key in keys] == [32]
    stat = ["exec", "-n", namespace, "consumer", "-c", "other", "--", "stat", "-c", "%a %g", f"{KEYS}/disk"]
    assert cluster.kubectl(*stat).split() == ["440", "4242"]
    listing = ["exec", "-n", namespace, "consumer", "-c", "stranger", "--", "ls", KEYS]
    assert "No such file" in cluster.kubectl(*listing, check=False)
