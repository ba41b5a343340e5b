"""The KMS endpoint in a pod: what is injected for it, and which pods are refused."""

from typing import Any

import pytest

from datakeys.webhook.patches import build_injection, find_requests

from .conftest import SETTINGS, Pod, apply, build_pod
from .test_refusals import refuse

ENDPOINT = {"datakeys.dev/aws-endpoint": "true"}


def inject(pod: Pod) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spec of the injected pod, and its sidecar."""
    spec = apply(pod, build_injection(pod, {}, SETTINGS))["spec"]
    sidecar = spec["initContainers"][0]
    assert sidecar["name"] == "datakeys-sidecar"
    return spec, sidecar


def build_endpoint_pod(annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    """Return a pod that wants the endpoint and no data key."""
    pod = build_pod({**ENDPOINT, **(annotations or {})}, **spec)
    del pod["metadata"]["annotations"]["datakeys.dev/requests"]
    return pod


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    names = [variable["name"] for variable in container.get("env", [])]
    assert len(set(names)) == len(names)
    return {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}


def test_sdk_finds_endpoint_region_and_something_to_sign_with() -> None:
    spec, sidecar = inject(build_pod(ENDPOINT))
    assert variables_of(spec["containers"][0]) == {
        "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:4599",
        "AWS_REGION": "cluster-1",
        "AWS_DEFAULT_REGION": "cluster-1",
        "AWS_ACCESS_KEY_ID": "datakeys-endpoint",
        "AWS_SECRET_ACCESS_KEY": "unused",
    }
    assert variables_of(sidecar)["DATAKEYS_AWS_ENDPOINT_PORT"] == "4599"


def test_without_the_annotation_nothing_of_it_is_there() -> None:
    for annotations in ({}, {"datakeys.dev/aws-endpoint": "false"}):
        spec, sidecar = inject(build_pod(annotations))
        assert "env" not in spec["containers"][0]
        assert "DATAKEYS_AWS_ENDPOINT_PORT" not in variables_of(sidecar)


def test_port_can_be_chosen() -> None:
    spec, sidecar = inject(build_pod({**ENDPOINT, "datakeys.dev/aws-endpoint-port": "8001"}))
    assert variables_of(spec["containers"][0])["AWS_ENDPOINT_URL_KMS"] == "http://127.0.0.1:8001"
    assert variables_of(sidecar)["DATAKEYS_AWS_ENDPOINT_PORT"] == "8001"


def test_pod_with_the_endpoint_alone_needs_no_data_key_and_no_user() -> None:
    pod = build_endpoint_pod(securityContext={})
    assert find_requests(pod) == ()
    spec, sidecar = inject(pod)
    assert {volume["name"] for volume in spec["volumes"]} == {"datakeys-token", "datakeys-trust"}
    assert "volumeMounts" not in spec["containers"][0]
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == {"datakeys-token", "datakeys-trust"}
    assert sidecar["securityContext"]["runAsUser"] == 65532
    assert sidecar["securityContext"]["runAsNonRoot"] is True
    assert variables_of(sidecar)["DATAKEYS_REQUESTS"] == ""


def test_only_the_named_containers_are_led_to_the_endpoint() -> None:
    containers = [{"name": name, "image": "i"} for name in ("app", "other")]
    spec, _ = inject(build_endpoint_pod({"datakeys.dev/containers": "app"}, containers=containers))
    app, other = spec["containers"]
    assert "AWS_ENDPOINT_URL_KMS" in variables_of(app)
    assert "env" not in other


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_of_the_app_stays(name: str) -> None:
    container = {"name": "app", "image": "i", "env": [{"name": name, "value": "eu-west-1"}]}
    found = variables_of(inject(build_endpoint_pod(containers=[container]))[0]["containers"][0])
    assert [found.get(variable) for variable in ("AWS_REGION", "AWS_DEFAULT_REGION")].count("eu-west-1") == 1
    assert "cluster-1" not in found.values()


@pytest.mark.parametrize(
    "name",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ],
)
def test_credentials_of_the_app_are_never_shadowed(name: str) -> None:
    container = {"name": "app", "image": "i", "env": [{"name": name, "value": "own"}]}
    found = variables_of(inject(build_endpoint_pod(containers=[container]))[0]["containers"][0])
    assert found[name] == "own"
    assert "datakeys-endpoint" not in found.values()


def test_what_env_from_brings_is_not_overridden() -> None:
    container = {"name": "app", "image": "i", "envFrom": [{"secretRef": {"name": "aws"}}]}
    found = variables_of(inject(build_endpoint_pod(containers=[container]))[0]["containers"][0])
    assert set(found) == {"AWS_ENDPOINT_URL_KMS"}


def test_sidecar_gets_memory_for_its_second_process() -> None:
    _, plain = inject(build_pod())
    _, endpoint = inject(build_pod(ENDPOINT))
    assert plain["resources"]["limits"]["memory"] == "64Mi"
    assert endpoint["resources"]["limits"]["memory"] == "128Mi"
    limits = {"cpu": "1", "memory": "1Gi"}
    guaranteed = [{"name": "app", "image": "i", "resources": {"limits": limits, "requests": limits}}]
    _, equal = inject(build_pod(ENDPOINT, containers=guaranteed))
    assert equal["resources"]["limits"] == equal["resources"]["requests"]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("aws-endpoint", ""),
        ("aws-endpoint", "yes"),
        ("aws-endpoint", "True"),
        ("aws-endpoint-port", ""),
        ("aws-endpoint-port", "80"),
        ("aws-endpoint-port", "65536"),
        ("aws-endpoint-port", "-4599"),
        ("aws-endpoint-port", "4599.0"),
        ("aws-endpoint-port", "\u0664\u0665\u0669\u0669"),
        ("aws-endpoint-port", "9" * 5000),
    ],
)
def test_bad_annotation_is_named(annotation: str, value: str) -> None:
    message = refuse(build_pod({**ENDPOINT, f"datakeys.dev/{annotation}": value}))
    assert message.startswith(f"annotation datakeys.dev/{annotation}: ")


def app(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "app", "image": "i", **fields}]


def variable(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


@pytest.mark.parametrize(
    ("spec", "field", "advice"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork", "identity"),
        (
            {"containers": app(ports=[{"containerPort": 1}, {"containerPort": 4599}])},
            "spec.containers[0].ports[1].containerPort",
            "datakeys.dev/aws-endpoint-port",
        ),
        (
            {"containers": app(env=[variable("A", ""), variable("AWS_ENDPOINT_URL_KMS", "http://other")])},
            "spec.containers[0].env[1].name",
            "remove one",
        ),
        (
            {"containers": app(env=[variable("HTTP_PROXY", "http://proxy"), variable("NO_PROXY", "a,b")])},
            "spec.containers[0].env[0].name",
            "NO_PROXY",
        ),
    ],
)
def test_unfit_pod_is_refused_by_field(spec: dict[str, Any], field: str, advice: str) -> None:
    message = refuse(build_endpoint_pod(**spec))
    assert message.startswith(f"{field}: ")
    assert advice in message


def test_proxy_that_leaves_loopback_alone_is_no_hindrance() -> None:
    env = [variable("http_proxy", "http://proxy"), variable("no_proxy", "localhost, 127.0.0.1")]
    spec, _ = inject(build_endpoint_pod(containers=app(env=env)))
    assert "AWS_ENDPOINT_URL_KMS" in variables_of(spec["containers"][0])


def test_host_network_without_the_endpoint_is_still_fine() -> None:
    inject(build_pod(hostNetwork=True))
