"""Pods that are refused: the message names the field or annotation to change."""

from http import HTTPStatus
from typing import Any

import pytest

from datakeys.webhook.patches import build_injection, find_requests

from .conftest import SETTINGS, Pod, build_pod


def refuse(pod: Pod) -> str:
    """Return the message of the refusal."""
    injection = build_injection(pod, {}, SETTINGS)
    assert injection.refusal is not None
    assert injection.patch == ()
    assert (injection.refusal.code, injection.refusal.reason) == (HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid")
    return injection.refusal.message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("requests", ""),
        ("requests", ","),
        ("requests", "orders,"),
        ("requests", "Orders"),
        ("requests", "../orders"),
        ("requests", "a/b"),
        ("requests", "-a"),
        ("requests", "a..b"),
        ("requests", "a\nb"),
        ("requests", "a" * 254),
        ("requests", "orders,orders"),
        ("requests", ",".join(f"r{index}" for index in range(33))),
        ("delivery", "pigeon"),
        ("delivery", ""),
        ("containers", ""),
        ("containers", "nobody"),
        ("containers", "app,app"),
        ("containers", "app,*"),
    ],
)
def test_bad_annotation_is_named(annotation: str, value: str) -> None:
    """Empty, malformed, doubled and unknown names, and an unknown delivery."""
    message = refuse(build_pod({f"datakeys.dev/{annotation}": value}))
    assert message.startswith(f"annotation datakeys.dev/{annotation}: ")
    assert len(message) < 300


def test_pod_without_containers_is_refused() -> None:
    """The API server would refuse it too, but asks the webhook first."""
    assert refuse(build_pod(containers=[])).startswith("spec.containers: ")


@pytest.mark.parametrize("annotations", [None, {}])
def test_missing_annotation_is_named(annotations: dict[str, str] | None) -> None:
    """The label without requests is a mistake; the pod must not start without its keys."""
    pod = build_pod()
    pod["metadata"]["annotations"] = annotations
    assert refuse(pod).startswith("annotation datakeys.dev/requests: ")
    assert find_requests(pod) == ()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"os": {"name": "windows"}}, "spec.os.name"),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, "spec.nodeSelector"),
        ({"containers": [{"name": "datakeys-sidecar"}]}, "spec.containers[0].name"),
        ({"initContainers": [{"name": "datakeys-sidecar"}]}, "spec.initContainers[0].name"),
        ({"containers": [{"name": "datakeys-sidecar-start"}]}, "spec.containers[0].name"),
    ],
)
def test_windows_and_the_sidecar_s_name_are_refused(spec: dict[str, Any], field: str) -> None:
    """Pods for another system, and pods with a container of the name by which the sidecar is found."""
    assert refuse(build_pod(**spec)).startswith(f"{field}: ")


@pytest.mark.parametrize(
    "path",
    [
        "/var/run/datakeys",
        "/var/run/datakeys/",
        "/var/run/datakeys/keys",
        "/var/run/datakeys/keys/orders",
        "/run/datakeys/keys",
        "//var/run/./x/../datakeys",
        "var/run/datakeys",
    ],
)
def test_clashing_mount_path_is_named(path: str) -> None:
    """Nothing else may be mounted where the keys are, however the path is written."""
    container = {
        "name": "app",
        "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": path}],
    }
    assert refuse(build_pod(containers=[container])).startswith(
        "spec.containers[0].volumeMounts[1].mountPath: "
    )


@pytest.mark.parametrize("path", ["/var/run", "/var/run/datakeys2", "/", "/data/var/run/datakeys"])
def test_other_mount_paths_are_fine(path: str) -> None:
    """Parents and namesakes elsewhere are no clash."""
    container = {"name": "app", "volumeMounts": [{"name": "a", "mountPath": path}]}
    assert build_injection(build_pod(containers=[container]), {}, SETTINGS).refusal is None


def test_sidecar_without_annotation_is_a_clash() -> None:
    """A pod that brings its own container of that name, without the annotation, isn't taken as injected."""
    pod = build_pod(initContainers=[{"name": "datakeys-sidecar", "restartPolicy": "Always"}])
    assert refuse(pod).startswith("spec.initContainers[0].name: ")


def test_plain_init_container_with_the_annotation_is_a_clash() -> None:
    """A faked annotation with a container that ends at once isn't taken as injected either."""
    pod = build_pod({"datakeys.dev/injected": "x"}, initContainers=[{"name": "datakeys-sidecar"}])
    assert refuse(pod).startswith("spec.initContainers[0].name: ")
