"""SIGKILL for containers: what a crash of a process looks like, without a grace period."""

import os
import signal
from pathlib import Path

from deployment import Cluster


def kill_containers(cluster: Cluster, namespace: str, name_part: str) -> int:
    """Kill every process of the running pods whose name holds ``name_part``; gives how many were killed.

    Raises:
        LookupError: No process was found: a kill that hits nothing must not look like a survived crash.
    """
    killed = 0
    for pod in cluster.get("pods", "-n", namespace)["items"]:
        if name_part not in pod["metadata"]["name"]:
            continue
        for status in pod["status"].get("containerStatuses", []):
            container_id = status.get("containerID", "").rpartition("/")[2]
            if container_id and "running" in status.get("state", {}):
                killed += _kill_processes(container_id)
    if not killed:
        raise LookupError(f"no running container of {namespace}/*{name_part}*")
    return killed


def kill_sidecar(cluster: Cluster, namespace: str, pod: str) -> None:
    """Kill every process of a pod's injected sidecar.

    Raises:
        LookupError: It doesn't run.
    """
    statuses = cluster.get("pod", pod, "-n", namespace)["status"].get("initContainerStatuses", [])
    ids = [it["containerID"].rpartition("/")[2] for it in statuses if it["name"] == "datakeys-sidecar"]
    if not sum(map(_kill_processes, ids)):
        raise LookupError(f"no running sidecar in {namespace}/{pod}")


def _kill_processes(container_id: str) -> int:
    """Kill the processes whose control group is the container's; they run on this machine's kernel."""
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if container_id in (folder / "cgroup").read_text():
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended by itself
    return killed
