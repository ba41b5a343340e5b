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
        ({"volumes": [{"name": "a"}, {"name": "datakeys-keys"}]}, "spec.volumes[1].name"),
        ({"volumes": [{"name": "datakeys-token"}]}, "spec.volumes[0].name"),
        ({"containers": [{"name": "datakeys-sidecar"}]}, "spec.containers[0].name"),
        ({"initContainers": [{"name": "datakeys-sidecar"}]}, "spec.initContainers[0].name"),
    ],
)
def test_clashing_name_is_named(spec: dict[str, Any], field: str) -> None:
    """The injected names are reserved."""
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


def test_mounting_the_injected_volume_by_hand_is_refused() -> None:
    """Otherwise a container could write the keys, or read the token."""
    containers = [
        {"name": "app"},
        {"name": "x", "volumeMounts": [{"name": "datakeys-token", "mountPath": "/t"}]},
    ]
    message = refuse(build_pod({"datakeys.dev/containers": "app"}, containers=containers))
    assert message.startswith("spec.containers[1].volumeMounts[0].name: ")


def test_unknown_user_is_refused_with_advice() -> None:
    """Without a UID the key's file would belong to somebody else."""
    message = refuse(build_pod(securityContext={}))
    assert message.startswith("spec.securityContext.runAsUser: ")
    assert "container app" in message
    assert refuse(build_pod(securityContext=None)) == message


def test_different_users_are_refused_with_advice() -> None:
    """One file can't belong to two users; the annotation offers a way out."""
    containers = [{"name": "app"}, {"name": "helper", "securityContext": {"runAsUser": 7}}]
    message = refuse(build_pod(containers=containers))
    assert message.startswith("spec.securityContext.runAsUser: ")
    for word in ("app (10001)", "helper (7)", "datakeys.dev/containers"):
        assert word in message


def test_sidecar_without_annotation_is_a_clash() -> None:
    """A pod that brings its own container of that name, without the annotation, isn't taken as injected."""
    pod = build_pod(initContainers=[{"name": "datakeys-sidecar", "restartPolicy": "Always"}])
    assert refuse(pod).startswith("spec.initContainers[0].name: ")


def test_plain_init_container_with_the_annotation_is_a_clash() -> None:
    """A faked annotation with a container that ends at once isn't taken as injected either."""
    pod = build_pod({"datakeys.dev/injected": "x"}, initContainers=[{"name": "datakeys-sidecar"}])
    assert refuse(pod).startswith("spec.initContainers[0].name: ")
