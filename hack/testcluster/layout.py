"""The parts of one cluster's state folder, and the names that all its components share."""

from dataclasses import dataclass
from pathlib import Path

from testcluster.network import ClusterNetwork

NODE_NAME = "node"


@dataclass(frozen=True)
class ClusterLayout:
    """One cluster: its name, its folder, its network. All paths are below the folder."""

    name: str
    directory: Path
    network: ClusterNetwork

    @property
    def server(self) -> str:
        """URL of the API server, reachable from this machine."""
        return f"https://{self.network.node_address}:6443"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the cluster's owner (system:masters)."""
        return self.directory / "kubeconfig"

    @property
    def certificates(self) -> Path:
        """Certificates and keys of the components."""
        return self.directory / "certificates"

    @property
    def configuration(self) -> Path:
        """Configuration files and kubeconfigs of the components."""
        return self.directory / "configuration"

    @property
    def etcd_data(self) -> Path:
        """All that the cluster stores, also on disk what etcd keeps of older revisions."""
        return self.directory / "etcd-data"

    @property
    def logs(self) -> Path:
        """Logs of the components."""
        return self.directory / "logs"

    @property
    def pod_logs(self) -> Path:
        """Logs of the pods, as the kubelet writes them."""
        return self.directory / "pod-logs"

    @property
    def containerd_socket(self) -> Path:
        """Socket of the container runtime."""
        return self.directory / "containerd.sock"
