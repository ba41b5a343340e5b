"""``kubectl debug`` in pods with data keys: what a real API server lets in.

The pods are stored, never run: an API server alone takes ephemeral containers for them.
"""

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from chart_installation import named, refusal
from waiting import wait_for

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("webhook")


class Pods:
    """Stores pods in one namespace, and debugs them."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.core = client.CoreV1Api(api)
        self.namespace = namespace
        self.core.create_namespaced_service_account(namespace, named("default"))

    def create(self, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Store the pod ``app``; its container ``app`` gets the keys, ``other`` doesn't."""
        asked = {"datakeys.dev/requests": "orders", "datakeys.dev/containers": "app"}
        labels = {"datakeys.dev/inject": "true"}
        volume = {"name": "scratch", "emptyDir": {}}
        pod: Any = {
            **named("app", labels=labels, annotations={**asked, **(annotations or {})}),
            "spec": {
                "securityContext": {"runAsUser": 1000},
                "containers": [{"name": name, "image": "x:1"} for name in ("app", "other")],
                "volumes": [volume],
                **spec,
            },
        }
        self.core.create_namespaced_pod(self.namespace, pod)

    def debug(self, **container: Any) -> None:
        """Add an ephemeral container by a dry run, as ``kubectl debug`` does."""
        body: Any = {"spec": {"ephemeralContainers": [{"name": "debugger", "image": "tool:1", **container}]}}
        self.core.patch_namespaced_pod_ephemeralcontainers("app", self.namespace, body, dry_run="All")

    def is_refused(self, **container: Any) -> bool:
        """Return whether an ephemeral container is refused."""
        try:
            self.debug(**container)
        except ApiException as error:
            return int(error.status or 0) == 403
        return False


@pytest.fixture
def pods(api_client: client.ApiClient, namespace: str) -> Pods:
    return Pods(api_client, namespace)


def mount(name: str) -> list[Json]:
    return [{"name": name, "mountPath": "/x"}]


@pytest.fixture
def injected(pods: Pods) -> Pods:
    """A pod with data keys, once the policy is at work."""
    pods.create()
    wait_for(lambda: pods.is_refused(targetContainerName="app"), "the policy refuses")
    return pods


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"volumeMounts": mount("scratch")},
        {"targetContainerName": "other"},
        {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
        {"securityContext": {"privileged": False, "runAsUser": 1000}},
    ],
    ids=["plain", "own-volume", "other-target", "general-profile", "same-user"],
)
def test_debugging_without_the_keys_is_allowed(injected: Pods, container: Json) -> None:
    """Such containers have their own processes and files, whoever they run as."""
    injected.debug(**container)


@pytest.mark.parametrize(
    ("container", "word"),
    [
        ({"volumeMounts": mount("datakeys-keys")}, "must not mount"),
        (
            {"volumeMounts": [*mount("scratch"), {"name": "datakeys-token", "mountPath": "/y"}]},
            "must not mount",
        ),
        ({"targetContainerName": "app"}, "targetContainerName"),
        ({"targetContainerName": "datakeys-sidecar"}, "targetContainerName"),
        ({"securityContext": {"privileged": True}}, "privileged"),
    ],
)
def test_every_way_to_the_keys_is_refused(injected: Pods, container: Json, word: str) -> None:
    """The volume, the app's processes, the sidecar's, the node; the message names the field."""
    text = refusal(injected.debug, **container)
    assert "datakeys-ephemeral-containers" in text
    assert word in text


@pytest.mark.parametrize("field", ["shareProcessNamespace", "hostPID"])
def test_pod_that_shares_its_processes_takes_none(pods: Pods, field: str) -> None:
    spec: dict[str, Any] = {field: True}
    pods.create(**spec)
    wait_for(pods.is_refused, "the policy refuses")
    assert field in refusal(pods.debug)


def test_pod_with_the_endpoint_takes_none(pods: Pods) -> None:
    """Loopback belongs to every container of the pod, ephemeral ones too."""
    pods.create({"datakeys.dev/aws-endpoint": "true"})
    wait_for(pods.is_refused, "the policy refuses")
    assert "KMS endpoint" in refusal(pods.debug)


def test_init_delivery_is_protected_alike(pods: Pods) -> None:
    """Its sidecar is gone, the keys are still there."""
    pods.create({"datakeys.dev/delivery": "init"})
    wait_for(lambda: pods.is_refused(targetContainerName="app"), "the policy refuses")
    pods.debug()
    assert "must not mount" in refusal(pods.debug, volumeMounts=mount("datakeys-keys"))


def test_taking_the_annotations_away_does_not_help(injected: Pods) -> None:
    """Who may change the pod's metadata still can't debug his way to the keys."""
    gone: Any = {
        "metadata": {"annotations": {"datakeys.dev/injected": None}, "labels": {"datakeys.dev/inject": None}}
    }
    injected.core.patch_namespaced_pod("app", injected.namespace, gone)
    assert "targetContainerName" in refusal(injected.debug, targetContainerName="app")


def test_other_pods_are_not_judged(pods: Pods) -> None:
    """A pod without data keys may be debugged as ever."""
    pod: Any = {
        **named("app"),
        "spec": {"containers": [{"name": "app", "image": "x:1"}], "shareProcessNamespace": True},
    }
    pods.core.create_namespaced_pod(pods.namespace, pod)
    pods.debug(targetContainerName="app", securityContext={"privileged": True})
