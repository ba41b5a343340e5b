"""The network of one cluster: a namespace that no packet leaves, with one cable to this machine."""

import fcntl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testcluster.locations import make_state_root
from testcluster.progress import TestclusterError

_NAMESPACES = Path("/run/netns")
_HIGHEST_NUMBER = 250


@dataclass(frozen=True)
class ClusterNetwork:
    """Addresses of one cluster, all derived from its number. Only the cable's need differ per cluster."""

    name: str
    number: int

    service_range = "10.96.0.0/16"
    kubernetes_service = "10.96.0.1"
    dns_service = "10.96.0.10"

    @property
    def namespace(self) -> str:
        """Name of the network namespace."""
        return f"datakeys-{self.name}"

    @property
    def host_address(self) -> str:
        """This machine as the cluster sees it; a test's own webhook can listen there."""
        return f"10.250.{self.number}.1"

    @property
    def node_address(self) -> str:
        """Node and API server as this machine sees them."""
        return f"10.250.{self.number}.2"

    @property
    def pod_range(self) -> str:
        """Addresses of pods, reachable inside the namespace only."""
        return f"10.251.{self.number}.0/24"

    def entered(self, *command: str) -> list[str]:
        """Command that runs in the namespace but keeps this machine's mounts, which pods need."""
        return ["nsenter", f"--net={_NAMESPACES / self.namespace}", "--", *command]

    def exists(self) -> bool:
        """Whether the namespace is there."""
        return (_NAMESPACES / self.namespace).exists()


def claim_number(directory: Path) -> int:
    """Return the number that the cluster's folder holds, or claim the lowest free one."""
    root = make_state_root()
    with (root / "numbers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own = directory / "number"
        if own.exists():
            return int(own.read_text())
        taken = {int(file.read_text()) for file in root.glob("*/number")}
        for number in range(1, _HIGHEST_NUMBER):
            if number not in taken and not _in_use(number):
                directory.mkdir(mode=0o755, exist_ok=True)
                own.write_text(str(number))
                return number
    raise TestclusterError("no free cluster number: take some clusters down")


def make(network: ClusterNetwork) -> None:
    """Make the namespace, the cable and a default route.

    The route leads into an empty bridge: a Service address has to be routable before the packet
    filter can translate it, and what is not translated must go nowhere.
    """
    if network.exists():
        return
    outer, inner = f"datakeys{network.number}h", f"datakeys{network.number}n"
    _ip("netns", "add", network.namespace)
    _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", network.namespace)
    _ip("address", "add", f"{network.host_address}/30", "dev", outer)
    _ip("link", "set", outer, "up")
    inside = ("-n", network.namespace)
    _ip(*inside, "address", "add", f"{network.node_address}/30", "dev", inner)
    _ip(*inside, "link", "set", inner, "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "link", "add", "sink", "type", "bridge")
    _ip(*inside, "address", "add", "10.255.255.1/32", "dev", "sink")
    _ip(*inside, "link", "set", "sink", "up")
    _ip(*inside, "route", "add", "default", "dev", "sink")
    _run(network.entered("sysctl", "-q", "-w", "net.ipv4.ip_forward=1"))


def remove(network: ClusterNetwork) -> None:
    """Remove the namespace; the cable, bridges and packet filter go with it."""
    if network.exists():
        _ip("netns", "delete", network.namespace)


def _in_use(number: int) -> bool:
    return (Path("/sys/class/net") / f"datakeys{number}h").exists()


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise TestclusterError(f"{' '.join(command)}: {result.stderr.strip()}")
