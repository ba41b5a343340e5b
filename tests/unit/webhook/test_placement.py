"""Ordinary sidecars, for clusters without native ones."""

from dataclasses import replace
from typing import Any

import pytest

from datakeys.webhook.patches import SidecarKind, build_injection

from .conftest import SETTINGS, Pod, apply, build_pod

ORDINARY = replace(SETTINGS, kind=SidecarKind.ORDINARY)
RESIDENT = [
    {"datakeys.dev/delivery": "socket"},
    {"datakeys.dev/ttl": "1h"},
    {"datakeys.dev/reads": "once"},
    {"datakeys.dev/aws-endpoint": "true"},
]


def inject(pod: Pod) -> dict[str, Any]:
    patched = apply(pod, build_injection(pod, {}, ORDINARY))
    assert build_injection(patched, {}, ORDINARY).patch == ()
    spec: dict[str, Any] = patched["spec"]
    return spec


@pytest.mark.parametrize("restart_policy", ["Always", "Never"])
def test_plain_files_need_no_sidecar_that_stays(restart_policy: str) -> None:
    """An init container delivers and ends, so that Jobs complete."""
    spec = inject(build_pod(restartPolicy=restart_policy))
    (first,) = spec["initContainers"]
    assert first["name"] == "datakeys-sidecar"
    assert {"name": "DATAKEYS_DELIVERY", "value": "init"} in first["env"]
    assert not {"restartPolicy", "startupProbe", "lifecycle"} & set(first)
    assert [one["name"] for one in spec["containers"]] == ["app"]


@pytest.mark.parametrize("annotations", RESIDENT)
def test_what_must_stay_is_the_first_container_and_holds_the_others_back(annotations: dict[str, str]) -> None:
    """The same runs before as an init container, which fails where the sidecar couldn't start."""
    spec = inject(build_pod(annotations, initContainers=[{"name": "migrate"}]))
    gate, migrate = spec["initContainers"]
    first, app = spec["containers"]
    assert (gate["name"], migrate["name"]) == ("datakeys-sidecar-start", "migrate")
    assert {**gate, "name": "", "command": ""} == {
        name: value for name, value in first.items() if name != "lifecycle"
    } | {"name": "", "command": ""}
    assert (first["name"], app["name"]) == ("datakeys-sidecar", "app")
    assert "probe" in first["lifecycle"]["postStart"]["exec"]["command"][-1]
    assert not {"restartPolicy", "startupProbe"} & set(first)
    assert {"name": "datakeys-keys", "mountPath": "/var/run/datakeys/keys", "readOnly": True} in app[
        "volumeMounts"
    ]


@pytest.mark.parametrize("annotations", RESIDENT)
@pytest.mark.parametrize("restart_policy", ["Never", "OnFailure"])
def test_job_that_would_never_complete_is_refused(annotations: dict[str, str], restart_policy: str) -> None:
    refusal = build_injection(build_pod(annotations, restartPolicy=restart_policy), {}, ORDINARY).refusal
    assert refusal is not None
    assert refusal.message.startswith("spec.restartPolicy: ")
    assert next(iter(annotations)) in refusal.message


def test_init_container_can_not_be_served_by_a_later_sidecar() -> None:
    annotations = {"datakeys.dev/delivery": "socket", "datakeys.dev/containers": "app,first"}
    refusal = build_injection(
        build_pod(annotations, initContainers=[{"name": "first"}]), {}, ORDINARY
    ).refusal
    assert refusal is not None
    assert refusal.message.startswith("annotation datakeys.dev/containers: init container first")


def test_native_is_the_default() -> None:
    spec = apply(build_pod(), build_injection(build_pod(), {}, SETTINGS))["spec"]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
