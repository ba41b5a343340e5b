"""A real etcd and kube-apiserver for the whole session, with the project's CRDs."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from chart_installation import Installation, named
from controller_rig import Process, Rig, running_rig
from custom_objects import Objects, fresh_objects
from datakeys.contract.identity import VERSION
from kubernetes_controllers import running_controllers
from left_behind import remove_what_is_left
from user_rights import Users
from waiting import wait_for
from webhook_rig import running_webhook

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
        wait_for(lambda name=name: _is_served(api, name), f"{name} is served")  # type: ignore[misc]


def _is_served(api: client.ApiClient, name: str) -> bool:
    plural, _, group = name.partition(".")
    try:
        client.CustomObjectsApi(api).list_cluster_custom_object(group, VERSION, plural)
    except ApiException:
        return False
    return True


@pytest.fixture(scope="module", autouse=True)
def nothing_left(api_client: client.ApiClient) -> Iterator[None]:
    """Let the controllers of each module's tests begin with a cluster that has no work for them."""
    yield
    remove_what_is_left(api_client)


@pytest.fixture
def namespace(api_client: client.ApiClient) -> str:
    """Make a namespace for one test."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api_client).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name


@pytest.fixture(scope="module")
def rig(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """Run one key service for all tests here."""
    with running_rig(control_plane, api_client, tmp_path_factory.mktemp("rig")) as rig:
        rig.start_keyservice()
        yield rig


@pytest.fixture(scope="module")
def controller(rig: Rig) -> Iterator[Process]:
    """Run one controller for all tests here."""
    process = rig.start_controller()
    yield process
    assert process.stop() == 0, process.log.read_text()[-2000:]


@pytest.fixture
def objects(api_client: client.ApiClient, controller: Process) -> Iterator[Objects]:
    """Give a namespace of its own to a test."""
    assert controller.popen.poll() is None
    with fresh_objects(api_client) as objects:
        yield objects


@pytest.fixture(scope="module")
def webhook(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Run the webhook for all tests here."""
    with running_webhook(control_plane, api_client, tmp_path_factory.mktemp("webhook")) as installation:
        yield installation


@pytest.fixture(scope="module")
def garbage_collector(
    control_plane: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the garbage collector of Kubernetes, and none of its other controllers."""
    folder = tmp_path_factory.mktemp("collector")
    with running_controllers(control_plane, folder, "garbage-collector-controller") as process:
        yield process


@pytest.fixture
def users(installation: Installation, api_client: client.ApiClient, namespace: str) -> Users:
    """Return users of a namespace, whom the module's chart installation judges."""
    return Users(api_client, installation.kubeconfig, namespace)


@pytest.fixture
def other(users: Users) -> Users:
    """Another namespace."""
    name = f"{users.namespace}-b"
    client.CoreV1Api(users.administrator).create_namespace(named(name))
    return Users(users.administrator, users.kubeconfig, name)
