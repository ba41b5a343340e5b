"""A real etcd and kube-apiserver for the whole session, with the project's CRDs."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config

from deployment import wait_until

ROOT = Path(__file__).parents[2]


def _testcluster(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "testcluster", *arguments],
        cwd=ROOT / "hack",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )
    return done.stdout.strip()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Path]:
    """Start a control plane of its own; gives the path of its kubeconfig."""
    name = f"cp{uuid.uuid4().hex[:4]}"
    _testcluster("up", "--control-plane-only", "--name", name)
    try:
        yield Path(_testcluster("path", "kubeconfig", "--name", name).splitlines()[-1])
    finally:
        _testcluster("down", "--name", name)


@pytest.fixture(scope="session")
def api_client(control_plane: Path) -> Iterator[client.ApiClient]:
    """Return an administrator's client; the CRDs are installed and served."""
    with config.new_client_from_config(str(control_plane)) as api:  # type: ignore[no-untyped-call]
        _install_crds(api)
        yield api


def _install_crds(api: client.ApiClient) -> None:
    extensions = client.ApiextensionsV1Api(api)
    names = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        extensions.create_custom_resource_definition(crd)
        names.append(crd["metadata"]["name"])
    for name in names:
        _wait_established(extensions, name)


def _wait_established(extensions: client.ApiextensionsV1Api, name: str) -> None:
    def established() -> bool:
        status = extensions.read_custom_resource_definition(name).status
        conditions = (status.conditions if status else None) or []
        return any(item.type == "Established" and item.status == "True" for item in conditions)

    wait_until(f"{name} is established", 30, established)


@pytest.fixture
def namespace(api_client: client.ApiClient) -> str:
    """Make a namespace for one test."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api_client).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name
