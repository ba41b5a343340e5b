"""Pods that the webhook process injects beside a real API server, in restricted namespaces.

They are created by dry run: nothing runs here.
"""

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from chart_installation import named

pytestmark = pytest.mark.usefixtures("webhook")

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def restricted(api_client: client.ApiClient, namespace: str) -> str:
    """Give a namespace that enforces Pod Security ``restricted`` and has the ServiceAccount ``app``."""
    core = client.CoreV1Api(api_client)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.patch_namespace(namespace, {"metadata": {"labels": labels}})
    core.create_namespaced_service_account(namespace, named("app"))
    return namespace


def build_pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a restricted pod that asks for a data key."""
    container = {"name": "app", "image": "app:1", "securityContext": RESTRICTED}
    labels = {"datakeys.dev/inject": "true"}
    return {
        **named("app", labels=labels, annotations={"datakeys.dev/requests": "orders", **(annotations or {})}),
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [container],
            **spec,
        },
    }


def create(api: client.ApiClient, namespace: str, pod: Any) -> Any:
    """Create a pod by dry run; return what would be stored, as JSON."""
    made = client.CoreV1Api(api).create_namespaced_pod(namespace, pod, dry_run="All")
    return api.sanitize_for_serialization(made)  # type: ignore[no-untyped-call]


def container(name: str, **fields: Any) -> dict[str, Any]:
    """Return a restricted container."""
    return {"name": name, "image": "x:1", "securityContext": RESTRICTED, **fields}


LIMITS = {"limits": {"cpu": "100m", "memory": "64Mi"}}


@pytest.mark.parametrize(
    "pod",
    [
        build_pod(),
        build_pod({"datakeys.dev/requests": "a,b.c,d-e", "datakeys.dev/delivery": "socket"}),
        build_pod(initContainers=[container("init"), container("proxy", restartPolicy="Always")]),
        build_pod({"datakeys.dev/containers": "app"}, containers=[container("app"), container("b")]),
        build_pod(
            volumes=[{"name": "data", "emptyDir": {}}],
            containers=[container("app", volumeMounts=[{"name": "data", "mountPath": "/var/run"}])],
        ),
        build_pod(hostUsers=False, automountServiceAccountToken=False, restartPolicy="Never"),
        build_pod(containers=[container("app", resources=LIMITS)]),
        build_pod({"datakeys.dev/requests": ",".join(f"{'r' * 240}-{i}" for i in range(32))}),
        build_pod({"datakeys.dev/ttl": "1h", "datakeys.dev/reads": "once"}),
        build_pod(
            {"datakeys.dev/file-mode": "0440"},
            securityContext={"fsGroup": 3000},
            containers=[container("app"), container("b")],
        ),
        build_pod({"datakeys.dev/file-owner": "1000660000"}, securityContext={}),
        build_pod(
            volumes=[{"name": "datakeys-keys", "emptyDir": {}}, {"name": "datakeys-token", "emptyDir": {}}],
            containers=[container("app", volumeMounts=[{"name": "datakeys-keys", "mountPath": "/data"}])],
        ),
        build_pod(shareProcessNamespace=True),
    ],
    ids=[
        "plain",
        "socket",
        "init",
        "chosen",
        "mounts",
        "hostusers",
        "guaranteed",
        "most",
        "lifetime",
        "group",
        "owner",
        "clashing",
        "shared",
    ],
)
def test_restricted_namespace_admits_injected_pods(
    api_client: client.ApiClient, restricted: str, pod: dict[str, Any]
) -> None:
    """The API server takes the patch, validates the pod and finds it restricted."""
    spec = create(api_client, restricted, pod)["spec"]
    assert spec["initContainers"][0]["name"] == "datakeys-sidecar"
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    names = {volume["name"] for volume in spec["volumes"]}
    assert names >= {"datakeys-keys", "datakeys-encrypted", "datakeys-token", "datakeys-trust"}


def test_guaranteed_pod_stays_guaranteed(api_client: client.ApiClient, restricted: str) -> None:
    """The API server itself gives the class."""
    made = create(api_client, restricted, build_pod(containers=[container("app", resources=LIMITS)]))
    assert made["status"]["qosClass"] == "Guaranteed"


def test_sidecar_gets_no_token_for_the_api_server(api_client: client.ApiClient, restricted: str) -> None:
    """After the patch the API server would add its token to the sidecar too; the place is taken."""
    spec = create(api_client, restricted, build_pod())["spec"]
    (token,) = [one["name"] for one in spec["volumes"] if one["name"].startswith("kube-api-access-")]
    assert token in {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    assert token not in {mount["name"] for mount in spec["initContainers"][0]["volumeMounts"]}


def test_injected_pod_is_admitted_unchanged(api_client: client.ApiClient, restricted: str) -> None:
    """A pod created from an injected one isn't injected twice."""
    first = create(api_client, restricted, build_pod())
    metadata = {key: first["metadata"][key] for key in ("name", "labels", "annotations")}
    second = create(api_client, restricted, {"metadata": metadata, "spec": first["spec"]})
    assert second["spec"]["initContainers"] == first["spec"]["initContainers"]
    assert second["spec"]["volumes"] == first["spec"]["volumes"]


def test_request_names_its_secret(api_client: client.ApiClient, restricted: str) -> None:
    """``spec.secretName`` is looked up with the webhook's own rights; missing requests make a warning."""
    body = {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "DataKeyRequest",
        **named("orders"),
        "spec": {
            "keyRef": {"name": "main"},
            "keySpec": "AES_256",
            "serviceAccountName": "app",
            "secretName": "another-name",
        },
    }
    client.CustomObjectsApi(api_client).create_namespaced_custom_object(
        "datakeys.dev", "v1alpha1", restricted, "datakeyrequests", body
    )
    pod: Any = build_pod({"datakeys.dev/requests": "orders,later"})
    answer: Any = client.CoreV1Api(api_client).create_namespaced_pod_with_http_info(
        restricted, pod, dry_run="All"
    )
    made, _, headers = answer
    (encrypted,) = [one for one in made.spec.volumes if one.name == "datakeys-encrypted"]
    assert [source.secret.name for source in encrypted.projected.sources] == ["another-name", "later"]
    assert "DataKeyRequest later not found" in headers["Warning"]
    assert "orders" not in headers["Warning"]


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (build_pod(securityContext={}), "spec.securityContext.runAsUser"),
        (build_pod({"datakeys.dev/delivery": "pigeon"}), "annotation datakeys.dev/delivery"),
    ],
)
def test_refusal_is_shown_to_the_user(
    api_client: client.ApiClient, restricted: str, pod: dict[str, Any], word: str
) -> None:
    """The API server passes code and message on."""
    with pytest.raises(ApiException) as caught:
        create(api_client, restricted, pod)
    assert caught.value.status == 422
    assert word in str(caught.value.body)


@pytest.mark.parametrize("annotation", ["requests", "key", "aws-endpoint"])
def test_pod_with_a_forgotten_label_is_injected(
    api_client: client.ApiClient, restricted: str, annotation: str
) -> None:
    """The annotation alone is enough; the label is put right, by which others find the pod."""
    pod = build_pod()
    del pod["metadata"]["labels"]
    value = "true" if annotation == "aws-endpoint" else "main"
    pod["metadata"]["annotations"] = {f"datakeys.dev/{annotation}": value}
    made = create(api_client, restricted, pod)
    assert made["spec"]["initContainers"][0]["name"] == "datakeys-sidecar"
    assert made["metadata"]["labels"]["datakeys.dev/inject"] == "true"


@pytest.mark.parametrize("labels", [{"datakeys.dev/inject": "false"}, {}])
def test_pod_that_does_not_ask_is_not_sent(
    api_client: client.ApiClient, restricted: str, labels: dict[str, str]
) -> None:
    """A no in the label counts; annotations of other things don't ask."""
    pod = build_pod()
    pod["metadata"]["labels"] = labels
    if not labels:
        pod["metadata"]["annotations"] = {"datakeys.dev/aws-endpoint": "false", "team": "x"}
    assert "initContainers" not in create(api_client, restricted, pod)["spec"]
