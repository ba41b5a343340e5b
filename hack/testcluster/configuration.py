"""Configuration files of the components: pure text from a cluster's layout, then written at one place."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from testcluster.binaries import path_of
from testcluster.layout import ClusterLayout
from testcluster.progress import TestclusterError
from testcluster.recipes import CNI_PLUGINS

PAUSE_IMAGE = "localhost/datakeys-pause:1"
COMPONENT_USERS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")


def write_control_plane(layout: ClusterLayout) -> None:
    """Write the kubeconfigs of the owner and of each component."""
    layout.configuration.mkdir(exist_ok=True)
    _write_private(layout.kubeconfig, build_kubeconfig(layout, "admin"))
    for user in COMPONENT_USERS:
        _write_private(layout.configuration / f"{user}.kubeconfig", build_kubeconfig(layout, user))


def write_node(layout: ClusterLayout) -> None:
    """Write what kubelet, containerd, CNI and CoreDNS read."""
    (layout.directory / "cni").mkdir(exist_ok=True)
    (layout.directory / "cni" / "10-bridge.conflist").write_text(json.dumps(build_cni(layout), indent=1))
    (layout.configuration / "kubelet.json").write_text(json.dumps(build_kubelet(layout), indent=1))
    (layout.configuration / "containerd.toml").write_text(build_containerd(layout, _runc()))
    (layout.configuration / "Corefile").write_text(build_corefile(layout))


def build_kubeconfig(layout: ClusterLayout, user: str) -> str:
    """Kubeconfig with the certificates inside. It is JSON, which every YAML reader takes."""
    cluster = {"server": layout.server, "certificate-authority-data": _encoded(layout, "ca.crt")}
    credentials = {
        "client-certificate-data": _encoded(layout, f"{user}.crt"),
        "client-key-data": _encoded(layout, f"{user}.key"),
    }
    context = {"cluster": "testcluster", "user": user}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testcluster", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "testcluster", "context": context}],
        "current-context": "testcluster",
    }
    return json.dumps(config, indent=1)


def build_kubelet(layout: ClusterLayout) -> dict[str, Any]:
    """Kubelet configuration for a machine without systemd and without room for resource tuning."""
    certificates = layout.certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificates / "kubelet.crt"),
        "tlsPrivateKeyFile": str(certificates / "kubelet.key"),
        "readOnlyPort": 0,
        "clusterDNS": [layout.network.dns_service],
        "clusterDomain": "cluster.local",
        "resolvConf": "",  # nothing outside the cluster can be resolved, so pods get no host entries
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "podLogsDir": str(layout.pod_logs),
        "volumePluginDir": str(layout.directory / "volume-plugins"),
        "staticPodPath": "",
        # Resource control of the node is not what is tested, and needs rights that a sandbox lacks.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,  # an image that was collected could not be pulled again
        "syncFrequency": "10s",
    }


def build_cni(layout: ClusterLayout) -> dict[str, Any]:
    """Pod network: one bridge in the cluster's namespace."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": layout.network.pod_range}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(layout.directory / "cni-addresses"),
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,  # a pod may reach itself through its Service
        "ipam": addresses,
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": layout.network.namespace, "plugins": [bridge, port_map]}


def build_containerd(layout: ClusterLayout, runc: str) -> str:
    """Containerd configuration; every path that it would put elsewhere is led below the state folder."""
    state = layout.directory / "containerd"
    plugins = path_of(CNI_PLUGINS[0]).parent
    return f"""\
version = 3
root = '{state}/root'
state = '{state}/state'

[grpc]
address = '{layout.containerd_socket}'

[plugins.'io.containerd.internal.v1.opt']
path = '{state}/opt'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE runc cannot lower the score and dies.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{plugins}']
conf_dir = '{layout.directory}/cni'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{runc}'
Root = '{state}/runc'
SystemdCgroup = false
"""


def build_corefile(layout: ClusterLayout) -> str:
    """CoreDNS answers for the cluster and has nowhere to ask for the rest."""
    return f"""\
.:53 {{
    bind {layout.network.node_address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {layout.configuration}/coredns.kubeconfig testcluster
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def _runc() -> str:
    found = shutil.which("runc")
    if not found:
        raise TestclusterError("runc is missing: run `python -m testcluster packages`")
    return found


def _encoded(layout: ClusterLayout, file: str) -> str:
    return base64.b64encode((layout.certificates / file).read_bytes()).decode()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
