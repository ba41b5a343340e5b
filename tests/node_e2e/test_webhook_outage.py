"""While the webhook is down nothing starts without its data key, and nobody else is held up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deployment import (
    SYSTEM_NAMESPACE,
    Cluster,
    install_chart,
    wait_for_rollout,
    wait_for_webhook,
    wait_until,
)
from system_pods import ready_pod, system_pods
from workloads import Manifest, apply, build_pod, build_request, build_service_account

WEBHOOK = "deployment/datakeys-webhook"
READ = "assert len(open('/var/run/datakeys/keys/disk', 'rb').read()) == 32"
STAY = f"import signal; {READ}; signal.sigwait([signal.SIGTERM])"


@contextmanager
def webhook_down(cluster: Cluster) -> Iterator[None]:
    """Take all replicas of the webhook away, and give them back."""
    cluster.kubectl("scale", WEBHOOK, "-n", SYSTEM_NAMESPACE, "--replicas=0")
    try:
        wait_until("no webhook runs", 300, lambda: not system_pods(cluster, "webhook"))
        yield
    finally:
        cluster.kubectl("scale", WEBHOOK, "-n", SYSTEM_NAMESPACE, "--replicas=2")
        wait_for_rollout(cluster, WEBHOOK, SYSTEM_NAMESPACE)
        wait_for_webhook(cluster)


def build_owner(kind: str, pod: Manifest) -> Manifest:
    """Return a Deployment or a Job of a pod."""
    metadata, spec = pod["metadata"], pod["spec"]
    labels = {**metadata.get("labels", {}), "app": metadata["name"]}
    template = {"metadata": {"labels": labels, "annotations": metadata["annotations"]}, "spec": spec}
    own = {"name": metadata["name"], "namespace": metadata["namespace"]}
    if kind == "Job":
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": own, "spec": {"template": template}}
    spec["restartPolicy"] = "Always"
    selector = {"matchLabels": {"app": metadata["name"]}}
    body = {"replicas": 2, "selector": selector, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": own, "spec": body}


def find_pods(cluster: Cluster, namespace: str, app: str) -> list[Manifest]:
    """Return the pods of an owner."""
    items = cluster.get("pods", "-n", namespace, "-l", f"app={app}")["items"]
    assert isinstance(items, list)
    return items


def refusals(cluster: Cluster, namespace: str) -> str:
    """Return why owners couldn't make pods."""
    events = cluster.get("events", "-n", namespace, "--field-selector", "reason=FailedCreate")["items"]
    return "\n".join(event["message"] for event in events)


def is_injected(pod: Manifest) -> bool:
    """Return whether a pod has the sidecar."""
    return any(one["name"] == "datakeys-sidecar" for one in pod["spec"].get("initContainers", []))


@pytest.fixture
def request_made(cluster: Cluster, namespace: str, key: str) -> None:
    """Make the data key that the pods ask for."""
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk", key=key))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)


@pytest.mark.usefixtures("request_made")
def test_nothing_starts_uninjected_while_the_webhook_is_down(cluster: Cluster, namespace: str) -> None:
    """Pods and workloads that ask are refused, and the webhook is named; whoever doesn't ask starts."""
    with webhook_down(cluster):
        forgotten = build_pod(namespace, "forgotten", annotations={"datakeys.dev/requests": "disk"})
        for pod in (build_pod(namespace, "labelled", requests="disk"), forgotten):
            answer = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod), check=False)
            assert "failed calling webhook" in answer
            assert "datakeys-webhook" in answer
        apply(
            cluster,
            build_pod(namespace, "plain", command=["true"]),
            build_owner("Deployment", build_pod(namespace, "bystander")),
        )
        for kind, command in (("Deployment", STAY), ("Job", READ)):
            name = f"late-{kind.lower()}"
            owner = build_owner(
                kind, build_pod(namespace, name, requests="disk", command=["python3", "-c", command])
            )
            answer = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(owner), check=False)
            assert "failed calling webhook" in answer
        cluster.wait("pod/plain", "jsonpath={.status.phase}=Succeeded", namespace)
        wait_for_rollout(cluster, "deployment/bystander", namespace)
        names = {item["metadata"]["name"] for item in cluster.get("pods", "-n", namespace)["items"]}
        assert {name for name in names if not name.startswith("bystander")} == {"plain"}


@pytest.mark.usefixtures("request_made")
def test_pods_of_an_owner_appear_by_themselves_after_the_outage(cluster: Cluster, namespace: str) -> None:
    """A Deployment that is scaled up meanwhile: its pods are refused, tried again, injected; a Job too."""
    deployment = build_owner(
        "Deployment", build_pod(namespace, "late", requests="disk", command=["python3", "-c", STAY])
    )
    deployment["spec"]["replicas"] = 0
    job = build_owner("Job", build_pod(namespace, "once", requests="disk", command=["python3", "-c", READ]))
    job["spec"]["suspend"] = True
    apply(cluster, deployment, job)
    with webhook_down(cluster):
        cluster.kubectl("scale", "deployment/late", "-n", namespace, "--replicas=2")
        wait_until(
            "the ReplicaSet is refused",
            300,
            lambda: "failed calling webhook" in refusals(cluster, namespace),
        )
        assert find_pods(cluster, namespace, "late") == []
    cluster.kubectl(
        "patch", "job/once", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    wait_for_rollout(cluster, "deployment/late", namespace)
    cluster.wait("job/once", "condition=Complete", namespace)
    pods = find_pods(cluster, namespace, "late") + find_pods(cluster, namespace, "once")
    assert len(pods) == 3
    assert all(is_injected(pod) for pod in pods)


def test_webhook_comes_back_when_all_its_pods_are_lost_at_once(cluster: Cluster) -> None:
    """Nothing of the release namespace is sent to the webhook, so nothing holds up its own restart."""
    before = {pod["metadata"]["uid"] for pod in system_pods(cluster, "webhook")}
    cluster.kubectl(
        "delete", "pods", "-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/component=webhook",
        "--force", "--grace-period=0",
    )  # fmt: skip
    wait_for_rollout(cluster, WEBHOOK, SYSTEM_NAMESPACE)
    assert ready_pod(cluster, "webhook")
    wait_for_webhook(cluster)
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in system_pods(cluster, "webhook"))


@contextmanager
def chart_values(cluster: Cluster, *values: str) -> Iterator[None]:
    """Install the chart with other values, and with the usual ones again."""
    install_chart(cluster, *values)
    try:
        yield
    finally:
        install_chart(cluster)


@pytest.mark.usefixtures("request_made")
def test_pods_that_slipped_in_are_replaced_one_by_one(cluster: Cluster, namespace: str) -> None:
    """With failurePolicy Ignore the outage lets them in; eviction brings them back through the webhook."""
    deployment = build_owner("Deployment", build_pod(namespace, "slipped", requests="disk"))
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "slipped", "namespace": namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "slipped"}}},
    }
    evict = {"evict": "true", "minimumAgeSeconds": "75", "evictionsPerMinute": "600"}
    values = [f"controller.uninjectedPods.{name}={value}" for name, value in evict.items()]
    with chart_values(cluster, "webhook.failurePolicy=Ignore", "webhook.timeoutSeconds=2", *values):
        with webhook_down(cluster):
            apply(cluster, deployment, budget)
            wait_for_rollout(cluster, "deployment/slipped", namespace)
            before = find_pods(cluster, namespace, "slipped")
            assert len(before) == 2
            assert not any(is_injected(pod) for pod in before)

        def is_healed() -> bool:
            pods = find_pods(cluster, namespace, "slipped")
            ready = cluster.get("deployment", "slipped", "-n", namespace)["status"].get("readyReplicas", 0)
            assert ready >= 1
            return ready == 2 and len(pods) == 2 and all(is_injected(pod) for pod in pods)

        wait_until("all pods are injected", 600, is_healed)
