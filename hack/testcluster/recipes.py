"""Which binaries make a cluster, and from which Go packages. Versions are pinned in gomod/*/go.mod."""

import re
from dataclasses import dataclass
from pathlib import Path

from testcluster.locations import GO_MODULES
from testcluster.progress import TestclusterError


@dataclass(frozen=True)
class Binary:
    """One Go program; `group` names the folder in gomod/ whose go.mod and go.sum pin it."""

    name: str
    group: str
    package: str
    module: str = ""

    @property
    def module_directory(self) -> Path:
        """Folder in which `go build` runs."""
        return GO_MODULES / self.group

    @property
    def version(self) -> str:
        """Version of the module as its go.mod requires it; "own" for a program of this tree."""
        if not self.module:
            return "own"
        go_mod = (self.module_directory / "go.mod").read_text()
        found = re.search(rf"^(?:require)?\s*{re.escape(self.module)} (v\S+)", go_mod, re.MULTILINE)
        if not found:
            raise TestclusterError(f"{self.module} is not required in {self.module_directory}/go.mod")
        return found.group(1)

    @property
    def linker_flags(self) -> str:
        """No debug tables; Kubernetes gets its version, which otherwise reads v0.0.0 to clients."""
        flags = "-s -w"
        if self.group == "k8s":
            major, minor, _ = self.version.removeprefix("v").split(".")
            prefix = "-X k8s.io/component-base/version"
            flags += (
                f" {prefix}.gitVersion={self.version} {prefix}.gitMajor={major} {prefix}.gitMinor={minor}"
            )
        return flags


def _kubernetes(name: str) -> Binary:
    return Binary(name, "k8s", f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes")


def _containerd(name: str) -> Binary:
    module = "github.com/containerd/containerd/v2"
    return Binary(name, "containerd", f"{module}/cmd/{name}", module)


def _cni(path: str) -> Binary:
    module = "github.com/containernetworking/plugins"
    return Binary(path.rsplit("/", 1)[1], "cni", f"{module}/plugins/{path}", module)


ETCD = Binary("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3")
APISERVER = _kubernetes("kube-apiserver")
CONTROLLER_MANAGER = _kubernetes("kube-controller-manager")
SCHEDULER = _kubernetes("kube-scheduler")
KUBELET = _kubernetes("kubelet")
KUBE_PROXY = _kubernetes("kube-proxy")
KUBECTL = _kubernetes("kubectl")
CONTAINERD = _containerd("containerd")
SHIM = _containerd("containerd-shim-runc-v2")
CTR = _containerd("ctr")
COREDNS = Binary("coredns", "coredns", ".", "github.com/coredns/coredns")
HELM = Binary("helm", "helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4")
PAUSE = Binary("pause", "pause", ".")
CNI_PLUGINS = tuple(map(_cni, ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")))

# The control plane comes first: its test tier can start while the rest still builds.
CONTROL_PLANE = (ETCD, APISERVER, CONTROLLER_MANAGER, KUBECTL)
NODE = (SCHEDULER, KUBELET, KUBE_PROXY, CONTAINERD, SHIM, CTR, *CNI_PLUGINS, COREDNS, PAUSE)
ALL = (*CONTROL_PLANE, *NODE, HELM)
