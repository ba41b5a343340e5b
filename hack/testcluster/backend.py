"""The verbs of the command line and the Python API: kind where a Docker engine answers, else this machine."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

from testcluster import base_image as python_base
from testcluster import cluster, kind_cluster, node_images, project_images
from testcluster.progress import TestclusterError, say

PATHS = ("kubeconfig", "etcd-data", "logs", "pod-logs", "containerd-socket")


@functools.cache
def uses_kind() -> bool:
    """Whether kind does the work; DATAKEYS_CLUSTER=kind or =namespace decides it by hand."""
    if chosen := os.environ.get("DATAKEYS_CLUSTER"):
        return chosen == "kind"
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def up(name: str = "default", *, control_plane_only: bool = False, controller_manager: bool = False) -> Path:
    """Start a cluster, or what of it does not run, and return its kubeconfig."""
    if uses_kind():
        return kind_cluster.up(name)
    layout = cluster.up(name, control_plane_only=control_plane_only, controller_manager=controller_manager)
    return layout.kubeconfig


def down(name: str = "default") -> None:
    """Remove a cluster and all that it left."""
    if uses_kind():
        kind_cluster.down(name)
    else:
        cluster.down(name)


def restart(component: str, name: str = "default") -> None:
    """Kill a component (`kube-apiserver`, `etcd`, …) with SIGKILL and wait until it serves again."""
    if uses_kind():
        kind_cluster.restart(component, name)
    else:
        cluster.restart(component, name)


def status() -> dict[str, dict[str, bool]]:
    """Components of each cluster, and whether they run."""
    return {name: cluster.status(name) for name in cluster.names()}


def path(what: str, name: str = "default") -> Path:
    """Place of something of a cluster; `what` is one of PATHS.

    Raises:
        TestclusterError: With kind, all but the kubeconfig is inside its container.
    """
    if uses_kind():
        if what != "kubeconfig":
            raise TestclusterError(f"{what} of a kind cluster is inside its node container")
        return kind_cluster.kubeconfig(name)
    found: Path = getattr(cluster.layout_of(name), what.replace("-", "_"))
    return found


def base_image() -> None:
    """Make the Python base image; Docker pulls the official one instead."""
    if uses_kind():
        say("docker pulls the official Python image: nothing to make")
    else:
        python_base.ensure()


def build_images(tag: str = "dev") -> None:
    """Build those of the project's images that have changed."""
    if uses_kind():
        kind_cluster.build_images(tag)
    else:
        project_images.ensure(tag)


def load(tag: str = "dev", name: str = "default") -> None:
    """Build what has changed, and bring the project's images to the node of a cluster."""
    build_images(tag)
    if uses_kind():
        kind_cluster.load(tag, name)
    else:
        node_images.load(cluster.layout_of(name), project_images.ensure(tag))
