"""How each component is started: pure command lines from a cluster's layout."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from testcluster import recipes
from testcluster.binaries import path_of
from testcluster.layout import NODE_NAME, ClusterLayout


@dataclass(frozen=True)
class Component:
    """A program of the cluster, ready to be started in the cluster's namespace."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def build_control_plane(layout: ClusterLayout) -> list[Component]:
    """Etcd and the API server: enough for admission, CRDs and RBAC."""
    return [_etcd(layout), _apiserver(layout)]


def build_controller_manager(layout: ClusterLayout) -> Component:
    """Service accounts of new namespaces, garbage collection, end of namespaces."""
    certificates = layout.certificates
    arguments = (
        f"--kubeconfig={_kubeconfig(layout, 'kube-controller-manager')}",
        f"--service-account-private-key-file={certificates}/service-account.key",
        f"--root-ca-file={certificates}/ca.crt",
        f"--cluster-signing-cert-file={certificates}/ca.crt",
        f"--cluster-signing-key-file={certificates}/ca.key",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    return _component(layout, recipes.CONTROLLER_MANAGER, arguments)


def build_node(layout: ClusterLayout) -> list[Component]:
    """Everything that makes pods run; containerd comes first, the kubelet needs it at once."""
    return [_containerd(layout), _scheduler(layout), _kubelet(layout), _kube_proxy(layout), _coredns(layout)]


def _etcd(layout: ClusterLayout) -> Component:
    arguments = (
        f"--name={layout.name}",
        f"--data-dir={layout.etcd_data}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        f"--initial-cluster={layout.name}=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # a test cluster need not survive a power cut, only SIGKILL
        "--log-level=warn",
    )
    return _component(layout, recipes.ETCD, arguments)


def _apiserver(layout: ClusterLayout) -> Component:
    certificates, network = layout.certificates, layout.network
    issuer = "https://kubernetes.default.svc"
    arguments = (
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--advertise-address={network.node_address}",
        "--secure-port=6443",
        f"--client-ca-file={certificates}/ca.crt",
        f"--tls-cert-file={certificates}/apiserver.crt",
        f"--tls-private-key-file={certificates}/apiserver.key",
        f"--kubelet-certificate-authority={certificates}/ca.crt",
        f"--kubelet-client-certificate={certificates}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={certificates}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={issuer}",
        f"--service-account-jwks-uri={issuer}/openid/v1/jwks",
        f"--service-account-key-file={certificates}/service-account.key",
        f"--service-account-signing-key-file={certificates}/service-account.key",
        f"--service-cluster-ip-range={network.service_range}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    )
    return _component(layout, recipes.APISERVER, arguments)


def _scheduler(layout: ClusterLayout) -> Component:
    arguments = (
        f"--kubeconfig={_kubeconfig(layout, 'kube-scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    return _component(layout, recipes.SCHEDULER, arguments)


def _containerd(layout: ClusterLayout) -> Component:
    folder = path_of(recipes.SHIM).parent  # containerd looks for its shim on PATH
    environment = {"PATH": f"{folder}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return _component(
        layout, recipes.CONTAINERD, (f"--config={layout.configuration}/containerd.toml",), environment
    )


def _kubelet(layout: ClusterLayout) -> Component:
    arguments = (
        f"--config={layout.configuration}/kubelet.json",
        f"--kubeconfig={_kubeconfig(layout, 'kubelet')}",
        f"--root-dir={layout.directory}/kubelet",
        f"--cert-dir={layout.directory}/kubelet-pki",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={layout.network.node_address}",  # a loopback address is refused
    )
    return _component(layout, recipes.KUBELET, arguments)


def _kube_proxy(layout: ClusterLayout) -> Component:
    arguments = (
        f"--kubeconfig={_kubeconfig(layout, 'kube-proxy')}",
        f"--hostname-override={NODE_NAME}",
        f"--cluster-cidr={layout.network.pod_range}",
        "--proxy-mode=iptables",
        # The connection table belongs to the machine: it is left as it is.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )
    return _component(layout, recipes.KUBE_PROXY, arguments)


def _coredns(layout: ClusterLayout) -> Component:
    return _component(layout, recipes.COREDNS, ("-conf", f"{layout.configuration}/Corefile"))


def _component(
    layout: ClusterLayout,
    binary: recipes.Binary,
    arguments: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
) -> Component:
    command = layout.network.entered(str(path_of(binary)), *arguments)
    return Component(binary.name, tuple(command), environment or {})


def _kubeconfig(layout: ClusterLayout, user: str) -> str:
    return str(layout.configuration / f"{user}.kubeconfig")
