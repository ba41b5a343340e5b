"""Pods of unusual shape get their data key all the same, and only those of their containers that should."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deployment import Cluster, wait_until
from workload_matrix import REPORT, SHARED, wait_for_reports
from workloads import (
    APP_IMAGE,
    APP_UID,
    Manifest,
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_request,
    build_service_account,
)

LABEL = "matrix-shape"
LASTING = ["python3", "-c", REPORT, "file", SHARED, "lasting"]
#: Looks for data keys as a debug container might: its own files, and those of every process it can see.
SEARCH = """
import glob, os
print("pids", sorted(int(one) for one in os.listdir("/proc") if one.isdigit()))
roots = "", "/proc/*/root"
print("found", [path for root in roots for path in glob.glob(root + "/var/run/datakeys/keys/*")])
print("uid", os.getuid())
"""
API_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@dataclass
class Shapes:
    """A restricted and a privileged namespace, full of pods."""

    cluster: Cluster
    restricted: str
    privileged: str
    reports: dict[str, Manifest]

    def namespace(self, shape: str) -> str:
        """Return the namespace of a shape."""
        return self.privileged if shape == "host-network" else self.restricted

    def exec(self, shape: str, container: str, *command: str) -> str:
        """Run a command in a container; a failure gives its output too."""
        arguments = ("exec", "-n", self.namespace(shape), shape, "-c", container, "--", *command)
        return self.cluster.kubectl(*arguments, check=False).strip()


def build_shapes(restricted: str, privileged: str) -> list[Manifest]:
    """Return one pod of each shape; its name is that of the shape."""

    def build(name: str, namespace: str = restricted, **options: Any) -> Manifest:
        return build_pod(namespace, name, requests=SHARED, command=LASTING, restartPolicy="Always", **options)

    several = build("several-containers", annotations={"datakeys.dev/containers": "app,second"})
    [app] = several["spec"]["containers"]
    several["spec"]["containers"] = [app, {**app, "name": "second"}, _sleeping(app, "outsider")]
    helpers = build("own-init-containers")
    [app] = helpers["spec"]["containers"]
    helpers["spec"]["initContainers"] = [
        {**app, "name": "prepare", "command": ["true"]},
        {**_sleeping(app, "proxy"), "restartPolicy": "Always"},
    ]
    clashing = build(
        "clashing-volumes",
        volumes=[{"name": name, "emptyDir": {}} for name in ("datakeys-keys", "datakeys-token", "keys")],
    )
    clashing["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "datakeys-keys", "mountPath": "/mine"},
        {"name": "datakeys-token", "mountPath": "/token"},
        {"name": "keys", "mountPath": "/var/run"},
    ]
    return [
        build("plain"),
        build("shared-processes", shareProcessNamespace=True),
        build("with-api-token", automountServiceAccountToken=True),
        build("host-network", privileged, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
        build("user-namespace-off", hostUsers=True),
        several,
        helpers,
        clashing,
    ]


def _sleeping(container: Manifest, name: str) -> Manifest:
    code = "import signal; signal.sigwait([signal.SIGTERM])"
    return {**container, "name": name, "command": ["python3", "-c", code]}


SHAPES = [pod["metadata"]["name"] for pod in build_shapes("", "")]


@pytest.fixture(scope="module")
def shapes(cluster: Cluster) -> Iterator[Shapes]:
    """Apply all shapes at once and collect what their apps report."""
    suffix = uuid.uuid4().hex[:6]
    shapes = Shapes(cluster, f"shapes-{suffix}", f"shapes-privileged-{suffix}", {})
    namespaces = {shapes.restricted: "restricted", shapes.privileged: "privileged"}
    for namespace, level in namespaces.items():
        apply(
            cluster,
            build_namespace(namespace, level),
            build_service_account(namespace, "app"),
            build_key(namespace, "main"),
            build_request(namespace, SHARED),
        )
    pods = build_shapes(*namespaces)
    for pod in pods:
        pod["metadata"]["labels"][LABEL] = pod["metadata"]["name"]
    apply(cluster, *pods)
    try:
        for namespace in namespaces:
            expected = {one["metadata"]["name"] for one in pods if one["metadata"]["namespace"] == namespace}
            shapes.reports.update(wait_for_reports(cluster, namespace, LABEL, expected))
        yield shapes
    finally:
        cluster.kubectl("delete", "namespace", *namespaces, "--wait=false")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gets_its_data_key(shapes: Shapes, shape: str) -> None:
    """The app has read it from its file, and all of a namespace read the same."""
    digest = shapes.reports[shape]["keys"][SHARED]
    same = [one for one in SHAPES if shapes.namespace(one) == shapes.namespace(shape)]
    assert {shapes.reports[one]["keys"][SHARED] for one in same} == {digest}


def test_only_the_named_containers_have_the_key(shapes: Shapes) -> None:
    """Both named ones read it; the third doesn't even have the folder."""
    path = f"/var/run/datakeys/keys/{SHARED}"
    digests = [
        shapes.exec("several-containers", name, "sha256sum", path).split()[0] for name in ("app", "second")
    ]
    assert digests == [shapes.reports["several-containers"]["keys"][SHARED]] * 2
    assert "No such file" in shapes.exec("several-containers", "outsider", "ls", "/var/run/datakeys")


def test_own_volumes_of_the_same_names_stay_what_they_were(shapes: Shapes) -> None:
    """The pod's own volume of a name is the pod's: empty, and writable for the app."""
    assert shapes.exec("clashing-volumes", "app", "ls", "-A", "/mine", "/token").split() == [
        "/mine:",
        "/token:",
    ]
    assert shapes.exec("clashing-volumes", "app", "touch", "/mine/x", "/token/x") == ""
    assert "Read-only" in shapes.exec("clashing-volumes", "app", "touch", "/var/run/datakeys/keys/x")


def test_the_api_token_is_the_apps_and_not_the_sidecars(shapes: Shapes) -> None:
    """Where the app mounts a token for the API server, the sidecar has none."""
    assert shapes.exec("with-api-token", "app", "head", "-c", "2", API_TOKEN) == "ey"
    assert "No such file" in shapes.exec("with-api-token", "datakeys-sidecar", "cat", API_TOKEN)


def _debug(shapes: Shapes, shape: str, container: str, *options: str) -> str:
    """Add an ephemeral container, of the app's image and user, that searches for keys; return the refusal."""
    done = subprocess.run(
        [
            shapes.cluster.bin / "kubectl", f"--kubeconfig={shapes.cluster.kubeconfig}",
            "debug", "-n", shapes.namespace(shape), shape, f"--image={APP_IMAGE}",
            "--image-pull-policy=IfNotPresent", "--profile=restricted", "-c", container, *options,
            "--", "python3", "-c", SEARCH,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stderr if done.returncode else ""


def test_a_debug_container_of_the_same_user_finds_no_key(shapes: Shapes) -> None:
    """Neither in its own files nor through /proc; the same search within the app finds it."""
    assert _debug(shapes, "plain", "search") == ""
    namespace = shapes.namespace("plain")
    found = wait_until(
        "the search has ended",
        180,
        lambda: _log_with(shapes.cluster, namespace, "plain", "search", "uid"),
    )
    lines = dict(line.split(" ", 1) for line in found.splitlines())
    assert lines == {"pids": "[1]", "found": "[]", "uid": str(APP_UID)}
    own = shapes.exec("plain", "app", "python3", "-c", SEARCH)
    assert f"/var/run/datakeys/keys/{SHARED}" in own


def _log_with(cluster: Cluster, namespace: str, pod: str, container: str, word: str) -> str:
    log = cluster.kubectl("logs", "-n", namespace, pod, "-c", container, check=False)
    return log if word in log else ""


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ("plain", ["--target=app"]),
        ("plain", ["--target=datakeys-sidecar"]),
        ("shared-processes", []),
        ("several-containers", ["--target=second"]),
    ],
)
def test_a_debug_container_beside_the_apps_processes_is_refused(
    shapes: Shapes, shape: str, options: list[str]
) -> None:
    """The API server says why, and no container is added."""
    assert "data keys" in _debug(shapes, shape, "near", *options)
    pod = shapes.cluster.get("pod", shape, "-n", shapes.namespace(shape))
    assert "near" not in [one["name"] for one in pod["spec"].get("ephemeralContainers", [])]


def test_a_container_without_keys_may_be_debugged(shapes: Shapes) -> None:
    """The refusal is about the keys, not about debugging."""
    assert _debug(shapes, "several-containers", "far", "--target=outsider") == ""
