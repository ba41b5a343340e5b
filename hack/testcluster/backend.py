"""The verbs of the command line, carried out by kind where a Docker engine answers, else on this machine."""

from pathlib import Path

from testcluster import cluster

PATHS = ("kubeconfig", "etcd-data", "logs", "pod-logs", "containerd-socket")


def up(name: str = "default", *, control_plane_only: bool = False, controller_manager: bool = False) -> Path:
    """Start a cluster and return its kubeconfig."""
    options = {"control_plane_only": control_plane_only, "controller_manager": controller_manager}
    return cluster.up(name, **options).kubeconfig


def down(name: str = "default") -> None:
    """Remove a cluster."""
    cluster.down(name)


def restart(component: str, name: str = "default") -> None:
    """Kill a component with SIGKILL and start it again."""
    cluster.restart(component, name)


def status() -> dict[str, dict[str, bool]]:
    """Components of each cluster and whether they run."""
    return {name: cluster.status(name) for name in cluster.names()}


def path(what: str, name: str = "default") -> Path:
    """Place of something of a cluster; `what` is one of PATHS."""
    found: Path = getattr(cluster.layout_of(name), what.replace("-", "_"))
    return found


def base_image() -> None:
    """Make the Python base image."""


def build_images(tag: str = "dev") -> None:
    """Build the project's images."""


def load(tag: str = "dev", name: str = "default") -> None:
    """Bring the project's images to the node of a cluster."""
