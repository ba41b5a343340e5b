"""What a node leaves behind when its programs are killed: pods, mounts, control groups, log links."""

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

from testcluster import processes
from testcluster.layout import ClusterLayout
from testcluster.progress import TestclusterError

#: The kernel lets go of a mount some time after the last process that uses it.
_UNMOUNT_SECONDS = 60
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_LOG_LINKS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")


def clear(layout: ClusterLayout) -> None:
    """End the pods and remove the mounts; kubelet and containerd must have ended before."""
    groups = _end_pods(layout)
    _unmount_below(layout.directory)
    for group in sorted(groups, key=lambda group: len(group.parts), reverse=True):
        _remove_control_group(group)
    _remove_links_into(_LOG_LINKS, layout.pod_logs)
    _remove_records_of_containers(layout)


def _end_pods(layout: ClusterLayout) -> set[Path]:
    """Kill the shims of this cluster's containerd with all their containers.

    A shim is known by the socket of its containerd on its command line: no other cluster has that.
    """
    shims = processes.pids_with_argument(str(layout.containerd_socket))
    members = processes.with_descendants(shims)
    groups = {group for pid, _ in members for group in _control_groups(pid)}
    processes.end_tree(members)
    return groups


def _control_groups(pid: int) -> set[Path]:
    """Control groups made for a container; those that a process has from this machine are left out."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "/k8s.io/" in path or path.startswith("/kubepods"):
            hierarchy = _CONTROL_GROUPS / (controllers.removeprefix("name=") or "unified")
            group = (hierarchy if hierarchy.is_dir() else _CONTROL_GROUPS) / path.lstrip("/")
            found |= {group, group.parent}
    return found


def _remove_control_group(group: Path) -> None:
    with contextlib.suppress(
        OSError
    ):  # it went with its last process, or another cluster's container is in it
        group.rmdir()


def _unmount_below(directory: Path) -> None:
    """Unmount all below a folder, the innermost first.

    Raises:
        TestclusterError: Something is still mounted; removing the folder would reach into it.
    """
    deadline = time.monotonic() + _UNMOUNT_SECONDS
    while left := _mounts_below(directory):
        for mount in reversed(left):
            subprocess.run(["umount", mount], capture_output=True, check=False)
        if not _mounts_below(directory):
            return
        if time.monotonic() > deadline:
            raise TestclusterError(f"still mounted: {left}")
        time.sleep(0.2)


def _mounts_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(f"{directory}{os.sep}")]


def _remove_records_of_containers(layout: ClusterLayout) -> None:
    """Remove the shims' sockets and CNI's results: both programs keep them at fixed places of the machine."""
    for container in (layout.directory / "containerd/state/io.containerd.runtime.v2.task/k8s.io").glob("*"):
        bootstrap = container / "bootstrap.json"
        if bootstrap.exists():
            address = json.loads(bootstrap.read_text())["address"]
            Path(address.removeprefix("unix://")).unlink(missing_ok=True)
        for result in _CNI_RESULTS.glob(f"*-{container.name}-*"):
            result.unlink()


def _remove_links_into(folder: Path, target: Path) -> None:
    if not folder.is_dir():
        return
    for link in folder.iterdir():
        if link.is_symlink() and str(link.readlink()).startswith(f"{target}{os.sep}"):
            link.unlink()
