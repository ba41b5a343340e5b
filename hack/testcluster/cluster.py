"""A cluster as one thing: bring it up, hurt it, look at it, take it down."""

import contextlib
import fcntl
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from testcluster import (
    binaries,
    certificates,
    cluster_objects,
    configuration,
    network,
    node_images,
    node_remains,
    processes,
    recipes,
)
from testcluster.components import Component, build_control_plane, build_controller_manager, build_node
from testcluster.kubernetes_api import KubernetesApi
from testcluster.layout import NODE_NAME, ClusterLayout
from testcluster.locations import cluster_directory, make_state_root, state_root
from testcluster.progress import TestclusterError, log_tail, say, step, wait_until

#: For a component that lives: a slow machine takes minutes; one that has ended isn't waited for.
_WAIT_SECONDS = 300


def layout_of(name: str) -> ClusterLayout:
    """Return the layout of a cluster that is up.

    Raises:
        TestclusterError: There is no such cluster.
    """
    directory = cluster_directory(name)
    number = directory / "number"
    if not number.exists():
        raise TestclusterError(f"no cluster {name!r}; there are {sorted(names())}")
    return ClusterLayout(name, directory, network.ClusterNetwork(name, int(number.read_text())))


def names() -> list[str]:
    """Names of the clusters that have a state folder."""
    return sorted(number.parent.name for number in state_root().glob("*/number"))


def up(
    name: str = "default", *, control_plane_only: bool = False, controller_manager: bool = False
) -> ClusterLayout:
    """Start what of the cluster does not run yet, and wait until it can be used.

    Args:
        name: Clusters of different names live side by side.
        control_plane_only: etcd and kube-apiserver only: admission, CRDs, RBAC, but no pods.
        controller_manager: With `control_plane_only`, start kube-controller-manager too.

    Raises:
        TestclusterError: A component did not come up; the message holds the end of its log.
    """
    cluster_directory(name)  # refuses a bad name before anything is made
    needed = recipes.CONTROL_PLANE if control_plane_only else (*recipes.CONTROL_PLANE, *recipes.NODE)
    binaries.ensure(needed)
    if not control_plane_only:
        node_images.ensure_pause()  # before the node exists: it takes a build
    with _locked(name):
        layout = _prepare(name)
        started = _start_control_plane(layout, with_controllers=controller_manager or not control_plane_only)
        if not control_plane_only:
            started |= _start_node(layout)
    say(f"cluster {name} is up" if started else f"cluster {name} was already up")
    return layout


def down(name: str = "default") -> None:
    """End all that the cluster has started, in the order in which nothing is started anew, and clean up."""
    with _locked(name):
        if name not in names():
            say(f"no cluster {name}")
            return
        layout = layout_of(name)
        with step(f"taking down {name}"):
            processes.end(processes.recorded(layout.directory).values())
            node_remains.clear(layout)
            network.remove(layout.network)
            shutil.rmtree(layout.directory)


def restart(component: str, name: str = "default") -> None:
    """Kill one component with SIGKILL, start it again with the same command, wait until it serves."""
    layout = layout_of(name)
    with step(f"restarting {component} of {name}"):
        processes.restart(layout.directory, component)
        _wait_for_api(layout)
        if component == "kubelet":
            _wait_for_node(layout)
        elif component in {"containerd", "coredns"}:
            _wait_listening(layout, component)


def status(name: str) -> dict[str, bool]:
    """Tell for each component that was started whether it still runs."""
    recorded = processes.recorded(layout_of(name).directory)
    return {component: processes.is_alive(daemon) for component, daemon in recorded.items()}


def runs_pods(layout: ClusterLayout) -> bool:
    """Whether the cluster has a node, or is a control plane only."""
    return layout.containerd_socket.exists()


def _prepare(name: str) -> ClusterLayout:
    directory = cluster_directory(name)
    number = network.claim_number(directory)
    layout = ClusterLayout(name, directory, network.ClusterNetwork(name, number))
    network.make(layout.network)
    certificates.issue_all(layout.certificates, layout.network, NODE_NAME)
    configuration.write_control_plane(layout)
    return layout


def _start_control_plane(layout: ClusterLayout, *, with_controllers: bool) -> bool:
    components = build_control_plane(layout)
    if with_controllers:
        components.append(build_controller_manager(layout))
    if not (missing := _not_running(layout, components)):
        return False
    with step(f"control plane of {layout.name}"):
        _start(layout, missing)
        _wait_for_api(layout)
        api = KubernetesApi(layout)
        if with_controllers:
            path = "/api/v1/namespaces/default/serviceaccounts/default"
            _wait(layout, "kube-controller-manager", lambda: api.get(path) is not None)
    return True


def _start_node(layout: ClusterLayout) -> bool:
    components = build_node(layout)
    if not (missing := _not_running(layout, components)):
        return False
    configuration.write_node(layout)
    with step(f"node of {layout.name}"):
        cluster_objects.apply_all(KubernetesApi(layout), layout.network)
        for component in missing:
            _start(layout, [component])
            if component.name == "containerd":
                _wait_listening(layout, "containerd")
                node_images.load(layout, {configuration.PAUSE_IMAGE: node_images.ensure_pause()})
        _wait_for_node(layout)
        _wait_listening(layout, "coredns")
    return True


def _not_running(layout: ClusterLayout, components: list[Component]) -> list[Component]:
    recorded = processes.recorded(layout.directory)
    return [c for c in components if c.name not in recorded or not processes.is_alive(recorded[c.name])]


def _start(layout: ClusterLayout, components: list[Component]) -> None:
    for component in components:
        processes.start(layout.directory, component.name, component.command, component.environment)


def _wait_for_api(layout: ClusterLayout) -> None:
    _wait(layout, "kube-apiserver", KubernetesApi(layout).is_ready)


def _wait_for_node(layout: ClusterLayout) -> None:
    api = KubernetesApi(layout)

    def node_is_ready() -> bool:
        node = api.get(f"/api/v1/nodes/{NODE_NAME}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    _wait(layout, "kubelet", node_is_ready)


def _wait_listening(layout: ClusterLayout, component: str) -> None:
    address: str | tuple[str, int] = (layout.network.node_address, 53)
    family = socket.AF_INET
    if component == "containerd":
        address, family = str(layout.containerd_socket), socket.AF_UNIX

    def accepts() -> bool:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            return client.connect_ex(address) == 0

    _wait(layout, component, accepts)


def _wait(layout: ClusterLayout, component: str, holds: Callable[[], bool]) -> None:
    """Wait for a component, but no longer than it lives."""
    daemon = processes.recorded(layout.directory)[component]
    log = Path(daemon.log)

    def holds_or_is_dead() -> bool:
        if not processes.is_alive(daemon):
            raise TestclusterError(f"{component} ended:\n{log_tail(log)}")
        return holds()

    wait_until(component, holds_or_is_dead, _WAIT_SECONDS, lambda: log_tail(log))


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Keep two calls for the same cluster apart; other clusters go on."""
    make_state_root()
    with (state_root() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
