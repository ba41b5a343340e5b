"""The chart without any webhook process: who asks is refused, everybody else doesn't notice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, dynamic
from kubernetes.client.exceptions import ApiException

from chart_installation import Installation, installed_chart, named
from in_force import Asked, wait_asked

KEY = {"datakeys.dev/key": "alias/payments"}
VERSIONS = {
    "Pod": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def installation(control_plane: Path, api_client: client.ApiClient) -> Iterator[Installation]:
    """The chart; its Service has no endpoints, and the API server gives up after a second."""
    with installed_chart(control_plane, {"webhook.timeoutSeconds": 1}) as installation:
        wait_asked(api_client, Asked.REFUSED)
        yield installation


@pytest.fixture
def team(installation: Installation, api_client: client.ApiClient, namespace: str) -> str:
    assert installation.namespace != namespace
    client.CoreV1Api(api_client).create_namespaced_service_account(namespace, named("default"))
    return namespace


def build(kind: str, metadata: Json, template: Json | None = None) -> Json:
    """Return an object; ``template`` is the metadata of its pods."""
    spec: Json = {"containers": [{"name": "app", "image": "x:1"}], "securityContext": {"runAsUser": 1}}
    if kind != "Pod":
        labels = {"app": "x"}
        pods: Json = {"metadata": {"labels": labels, **(template or {})}, "spec": spec}
        if kind in ("Job", "CronJob"):
            spec["restartPolicy"] = "Never"
            pods["metadata"] = template or {}
            spec = {"template": pods}
        else:
            spec = {"template": pods, "selector": {"matchLabels": labels}}
        if kind == "CronJob":
            spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    return {
        "apiVersion": VERSIONS[kind],
        "kind": kind,
        "metadata": {"name": "x", **metadata},
        "spec": spec,
    }


def create(api: client.ApiClient, namespace: str, body: Json) -> None:
    """Create an object by dry run."""
    resources = dynamic.DynamicClient(api).resources  # type: ignore[no-untyped-call]
    found = resources.get(api_version=body["apiVersion"], kind=body["kind"])
    found.create(body=body, namespace=namespace, dry_run="All")


@pytest.mark.parametrize("kind", VERSIONS)
@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"annotations": {}, "labels": {}},
        {"annotations": {"datakeys.dev/delivery": "socket", "datakeys.dev/aws-endpoint": "false"}},
        # As many as the API server takes: the conditions must not run out of their budget.
        {"annotations": {f"a{number}": "" for number in range(42_000)}},
    ],
    ids=["bare", "empty", "no-wish", "many"],
)
def test_who_asks_for_nothing_does_not_notice(
    api_client: client.ApiClient, team: str, kind: str, metadata: Json
) -> None:
    """Without annotations, with some that alone ask for nothing, and with a great many."""
    create(api_client, team, build(kind, metadata))


@pytest.mark.parametrize("kind", [kind for kind in VERSIONS if kind != "Pod"])
@pytest.mark.parametrize("where", ["object", "template"])
def test_workload_that_asks_is_refused(
    api_client: client.ApiClient, team: str, kind: str, where: str
) -> None:
    """Its pods would never get what it asks for, and nobody would know."""
    asking = {"annotations": KEY}
    labels = {} if kind in ("Job", "CronJob") else {"labels": {"app": "x"}}
    body = build(kind, asking) if where == "object" else build(kind, {}, {**asking, **labels})
    with pytest.raises(ApiException) as caught:
        create(api_client, team, body)
    assert caught.value.status == 500
    assert "workloads.datakeys.dev" in str(caught.value.body)


@pytest.mark.parametrize(
    ("metadata", "webhook"),
    [
        ({"labels": {"datakeys.dev/inject": "true"}}, "inject.datakeys.dev"),
        ({"annotations": KEY}, "annotated.datakeys.dev"),
        ({"annotations": {"datakeys.dev/requests": "orders"}}, "annotated.datakeys.dev"),
        ({"annotations": {"datakeys.dev/aws-endpoint": "true"}}, "annotated.datakeys.dev"),
    ],
)
def test_pod_that_asks_is_refused(
    api_client: client.ApiClient, team: str, metadata: Json, webhook: str
) -> None:
    """With or without the label."""
    with pytest.raises(ApiException) as caught:
        create(api_client, team, build("Pod", metadata))
    assert caught.value.status == 500
    assert webhook in str(caught.value.body)


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_the_webhook_s_own_namespace_is_never_held_up(
    installation: Installation, api_client: client.ApiClient, kind: str
) -> None:
    """Whatever is written there, the webhook can come back."""
    asking = {"annotations": KEY, "labels": {"datakeys.dev/inject": "true"}}
    body = build(kind, asking)
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = body["spec"] if kind == "Pod" else body["spec"]["template"]["spec"]
    spec["containers"][0]["securityContext"] = restricted
    spec["serviceAccountName"] = "datakeys-webhook"
    create(api_client, installation.namespace, body)
