"""Renders the chart with the real helm.

Zone: tests. Nothing here is a model of Helm: what a test sees is what an installation gets.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from testcluster.binaries import path_of
from testcluster.recipes import HELM

CHART: Final = Path(__file__).parents[2] / "charts" / "datakey-operator"
RELEASE: Final = "datakeys"
SYSTEM_NAMESPACE: Final = "datakey-system"
CLUSTER_NAME: Final = "cluster-1"
PROCESSES: Final = ("controller", "webhook", "keyservice")

Manifest = dict[str, Any]


def find_helm() -> str:
    """Return the path of helm: the one of the test cluster's cache, else the one on PATH.

    Without any the test is skipped, or fails if DATAKEYS_REQUIRE_TOOLS is set.
    """
    cached = path_of(HELM)
    found = str(cached) if cached.exists() else shutil.which("helm")
    if found:
        return found
    message = "helm is missing: PYTHONPATH=hack python -m testcluster build"
    if os.environ.get("DATAKEYS_REQUIRE_TOOLS"):
        pytest.fail(message)
    pytest.skip(message)


def run_helm(*arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm and return what it said, whether it succeeded or not.

    Without ``kubeconfig`` it sees no cluster.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))
    }
    environment["KUBECONFIG"] = str(kubeconfig) if kubeconfig else os.devnull
    return subprocess.run(
        [find_helm(), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def template(
    values: Mapping[str, Any] | None = None, *options: str, namespace: str = SYSTEM_NAMESPACE
) -> subprocess.CompletedProcess[str]:
    """Run ``helm template``; ``values`` maps dotted names to JSON-like values."""
    return run_helm(
        "template", RELEASE, str(CHART), "--namespace", namespace, *set_options(values or {}), *options
    )


def set_options(values: Mapping[str, Any]) -> list[str]:
    """Return the options that set these values; the cluster's name is set unless ``values`` does."""
    return [
        option
        for name, value in {"clusterName": CLUSTER_NAME, **values}.items()
        for option in ("--set-json", f"{name}={json.dumps(value)}")
    ]


def render(values: Mapping[str, Any] | None = None, *options: str) -> list[Manifest]:
    """Return the objects that an installation with these values makes."""
    done = template(values, *options)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> Iterator[Manifest]:
    """Yield the objects of these kinds."""
    return (manifest for manifest in manifests if manifest["kind"] in kinds)


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object with this kind and name."""
    (found,) = [item for item in of_kind(manifests, kind) if item["metadata"]["name"] == name]
    return found


def deployment_of(manifests: list[Manifest], process: str) -> dict[str, Any]:
    """Return the Deployment of a process."""
    return find(manifests, "Deployment", f"datakeys-{process}")


def container_of(manifests: list[Manifest], process: str) -> dict[str, Any]:
    """Return the one container of a process' pods."""
    (container,) = deployment_of(manifests, process)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(manifests: list[Manifest], process: str) -> dict[str, Any]:
    """Return the environment of a process: values, or sources of values, by name."""
    return {
        item["name"]: item.get("value", item.get("valueFrom"))
        for item in container_of(manifests, process)["env"]
    }


def volume_of(manifests: list[Manifest], process: str, path: str) -> dict[str, Any]:
    """Return the volume that a process mounts at this path."""
    (mount,) = [
        item for item in container_of(manifests, process)["volumeMounts"] if item["mountPath"] == path
    ]
    pod = deployment_of(manifests, process)["spec"]["template"]["spec"]
    (volume,) = [item for item in pod["volumes"] if item["name"] == mount["name"]]
    assert isinstance(volume, dict)
    return volume


def selected_by(selector: dict[str, str], manifests: list[Manifest]) -> Iterator[str]:
    """Yield the names of the Deployments whose pods a selector matches."""
    for deployment in of_kind(manifests, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        if selector.items() <= labels.items():
            yield deployment["metadata"]["name"]
