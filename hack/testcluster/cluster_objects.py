"""The objects that every cluster starts with: its DNS Service and the rights of its DNS server."""

from typing import Any

from testcluster.kubernetes_api import KubernetesApi
from testcluster.network import ClusterNetwork

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_DNS_PORTS = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
]


def apply_all(api: KubernetesApi, network: ClusterNetwork) -> None:
    """Bring the objects to the API server."""
    for path, body in (build_dns_rights() | build_dns_service(network)).items():
        api.apply(path, body)


def build_dns_rights() -> dict[str, dict[str, Any]]:
    """CoreDNS may list Services, endpoints, pods and namespaces, and nothing else."""
    name = "system:coredns"
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
    }
    return {f"{_RBAC}/clusterroles/{name}": role, f"{_RBAC}/clusterrolebindings/{name}": binding}


def build_dns_service(network: ClusterNetwork) -> dict[str, dict[str, Any]]:
    """Service `kube-dns`, whose only endpoint is the node's own address, where CoreDNS listens."""
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": network.dns_service, "ports": _DNS_PORTS},
    }
    slice_metadata = {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": slice_metadata,
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.node_address], "conditions": {"ready": True}}],
        "ports": _DNS_PORTS,
    }
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
    return {
        "/api/v1/namespaces/kube-system/services/kube-dns": service,
        f"{slices}/kube-dns": endpoints,
    }
