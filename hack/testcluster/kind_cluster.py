"""The same verbs where a Docker engine answers: a kind cluster, kept by pytest-kind's class."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from testcluster.locations import TREE, cluster_directory, make_state_root
from testcluster.progress import TestclusterError, step, wait_until
from testcluster.project_images import ProjectImage, all_images

_STATIC_PODS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")


def up(name: str) -> Path:
    """Create the cluster, or use the one that is there, and return its kubeconfig."""
    with step(f"kind cluster {name}"):
        _cluster(name).create()
    return kubeconfig(name)


def down(name: str) -> None:
    """Delete the cluster and its kubeconfig."""
    _cluster(name).delete()
    shutil.rmtree(cluster_directory(name), ignore_errors=True)


def kubeconfig(name: str) -> Path:
    """Place of the owner's kubeconfig."""
    return cluster_directory(name) / "kubeconfig"


def build_images(tag: str) -> None:
    """Build all images; Docker's own cache skips what has not changed."""
    for image in all_images():
        with step(f"image {image.name}:{tag}"):
            options = [f"--file={TREE / image.dockerfile}", f"--tag={_tagged(image, tag)}"]
            if image.target:
                options.append(f"--target={image.target}")
            _run("docker", "build", "--quiet", *options, str(TREE))


def load(tag: str, name: str) -> None:
    """Bring the images to the node."""
    for image in all_images():
        _cluster(name).load_docker_image(_tagged(image, tag))


def restart(component: str, name: str) -> None:
    """Kill a static pod's process with SIGKILL; the kubelet starts it again by itself."""
    if component not in _STATIC_PODS:
        raise TestclusterError(f"{component}: with kind only {', '.join(_STATIC_PODS)} can be restarted")
    node = f"{name}-control-plane"
    with step(f"restarting {component} of {name}"):
        before = _output("docker", "exec", node, "pidof", component)
        _run("docker", "exec", node, "kill", "-9", *before.split())
        wait_until(component, lambda: _serves_anew(node, component, before), 120, lambda: "see `docker logs`")


def _serves_anew(node: str, component: str, before: str) -> bool:
    kubectl = ("docker", "exec", node, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
    return _output("docker", "exec", node, "pidof", component) not in {"", before} and (
        _output(*kubectl, "get", "--raw=/readyz") == "ok"
    )


def _cluster(name: str) -> Any:  # noqa: ANN401 - pytest-kind is not typed
    from pytest_kind import KindCluster  # noqa: PLC0415 - only a machine with Docker needs it

    make_state_root()
    cluster_directory(name).mkdir(exist_ok=True)
    found = shutil.which("kind")  # without one, pytest-kind fetches the kind that it knows
    return KindCluster(name, kubeconfig=kubeconfig(name), kind_path=Path(found) if found else None)


def _tagged(image: ProjectImage, tag: str) -> str:
    return f"{image.name}:{tag}"


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise TestclusterError(f"{' '.join(command)}:\n{result.stderr.strip()[-2000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
