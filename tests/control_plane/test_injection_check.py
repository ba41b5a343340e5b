"""Pods that were admitted without the webhook: a real controller, with the chart's rights, finds them.

The webhook isn't there and its failurePolicy is Ignore. Nothing runs here: the test plays the ReplicaSet.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from chart_installation import named
from controller_rig import Process, Rig, running_rig
from in_force import Asked, wait_asked, wait_in_force
from left_behind import remove_what_is_left
from waiting import eventually

VALUES = {
    "webhook.failurePolicy": "Ignore",
    "webhook.timeoutSeconds": 1,
    "controller.uninjectedPods.evict": True,
    "excludedNamespaces": ["legacy"],
}
EVICT = {
    "DATAKEYS_EVICT_UNINJECTED": "true",
    "DATAKEYS_EVICTION_MINIMUM_AGE_SECONDS": "1",
    "DATAKEYS_EVICTIONS_PER_MINUTE": "600",
}


@pytest.fixture(scope="module")
def rig(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """Install the chart for a webhook that may be missing."""
    with running_rig(control_plane, api_client, tmp_path_factory.mktemp("rig")) as rig:
        rig.installation.upgrade(VALUES)
        wait_in_force(api_client, rig.installation.namespace)
        wait_asked(api_client, Asked.AS_IT_IS)
        rig.start_keyservice()
        yield rig


class Pods:
    """The pods of one namespace, and what was told about them."""

    def __init__(self, rig: Rig, namespace: str) -> None:
        self.rig, self.namespace = rig, namespace
        self.core = client.CoreV1Api(rig.api)
        self.core.create_namespaced_service_account(namespace, named("app"))

    def own(self, name: str) -> dict[str, Any]:
        """Create a ReplicaSet; return the reference to it."""
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
        body: Any = named(name) | {"spec": {"selector": {"matchLabels": labels}, "template": template}}
        made: Any = client.AppsV1Api(self.rig.api).create_namespaced_replica_set(self.namespace, body)
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": name,
            "uid": made.metadata.uid,
            "controller": True,
        }

    def create(self, name: str, owner: dict[str, Any] | None = None, *, injected: bool = False) -> None:
        """Create a labelled pod as its owner would; ``injected``: as the webhook would have left it."""
        containers = [{"name": "app", "image": "x"}]
        annotations = {"datakeys.dev/requests": "orders"}
        if injected:
            containers.append({"name": "datakeys-sidecar", "image": "x"})
            annotations["datakeys.dev/injected"] = "x"
        labels = {"datakeys.dev/inject": "true", "app": "orders"}
        owners = [owner] if owner else []
        body: Any = named(name, labels=labels, annotations=annotations, ownerReferences=owners)
        body["spec"] = {
            "serviceAccountName": "app",
            "containers": containers,
            "securityContext": {"runAsUser": 1},
        }
        self.core.create_namespaced_pod(self.namespace, body)

    def exists(self, name: str) -> bool:
        """Return whether a pod exists."""
        try:
            self.core.read_namespaced_pod(name, self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return False
        return True

    def notes(self, name: str, reason: str) -> list[str]:
        """Return the texts of the Events about an object, warnings all of them."""
        events: Any = client.EventsV1Api(self.rig.api).list_namespaced_event(self.namespace).items
        mine = [one for one in events if one.regarding.name == name and one.reason == reason]
        assert {one.type for one in mine} <= {"Warning"}
        return [str(one.note) for one in mine]


@pytest.fixture
def pods(rig: Rig, namespace: str) -> Iterator[Pods]:
    """Give a namespace of its own to a test; no controller and no pod outlives it."""
    yield Pods(rig, namespace)
    for process in rig.processes:
        if process.name == "controller" and process.popen.poll() is None:
            process.kill()
    remove_what_is_left(rig.api)


def test_uninjected_pod_is_counted_and_told_about_once(rig: Rig, pods: Pods) -> None:
    """Without eviction the pod stays; a controller that starts again tells nothing new."""
    pods.create("orders")
    pods.create("fine", injected=True)
    for identity in ("one", "two"):
        process = rig.start_controller(identity)
        process.wait_led()
        assert eventually(partial(_is_counted_and_told, pods, process))
        assert process.stop() == 0
    (note,) = pods.notes("orders", "NotInjected")
    assert f"kubectl delete pod orders -n {pods.namespace}" in note
    assert pods.notes("fine", "NotInjected") == []
    assert pods.exists("orders")


def _is_counted_and_told(pods: Pods, process: Process) -> bool:
    counted = process.metric("datakeys_pods_not_injected", namespace=pods.namespace)
    return counted == 1 and bool(pods.notes("orders", "NotInjected"))


def test_uninjected_pods_are_evicted_one_after_the_other(rig: Rig, pods: Pods) -> None:
    """The second goes when the pod in place of the first is injected; a bare pod stays."""
    owner = pods.own("orders")
    for name in ("a", "b"):
        pods.create(name, owner)
    pods.create("bare")
    process = rig.start_controller(**EVICT)
    process.wait_led()
    assert eventually(lambda: [pods.exists(name) for name in "ab"].count(False) == 1)
    assert not eventually(lambda: not (pods.exists("a") or pods.exists("b")), 3)
    pods.create("c", owner, injected=True)
    assert eventually(lambda: not (pods.exists("a") or pods.exists("b")))
    assert pods.exists("c")
    assert pods.exists("bare")
    assert eventually(lambda: bool(pods.notes("bare", "NotInjected")))
    assert eventually(lambda: process.metric("datakeys_evictions_total", result="evicted") == 2)
    assert process.stop() == 0


def test_broken_webhook_costs_one_pod(rig: Rig, pods: Pods) -> None:
    """The pod in place of the evicted one isn't injected either: nothing else goes, and it is said why."""
    owners = [pods.own(name) for name in ("orders", "billing")]
    process = rig.start_controller(**EVICT)
    process.wait_led()
    pods.create("a", owners[0])
    assert eventually(lambda: not pods.exists("a"))
    pods.create("a-new", owners[0])
    assert eventually(lambda: bool(pods.notes("a-new", "EvictionStopped")))
    pods.create("b", owners[1])
    assert eventually(lambda: bool(pods.notes("b", "NotInjected")))
    assert not eventually(lambda: not (pods.exists("a-new") and pods.exists("b")), 4)
    assert eventually(lambda: process.metric("datakeys_eviction_stopped") == 1)
    assert process.stop() == 0


def test_disruption_budget_holds_an_eviction_up(rig: Rig, pods: Pods) -> None:
    """While the budget allows none the pod stays and runs; then it goes, without anybody's doing."""
    policy = client.PolicyV1Api(rig.api)
    budget: Any = named("orders") | {
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "orders"}}}
    }
    policy.create_namespaced_pod_disruption_budget(pods.namespace, budget)
    _allow(policy, pods.namespace, 0)
    pods.create("a", pods.own("orders"))
    running: Any = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    pods.core.patch_namespaced_pod_status("a", pods.namespace, running)
    process = rig.start_controller(**EVICT)
    process.wait_led()
    assert eventually(lambda: process.metric("datakeys_evictions_total", result="blocked") >= 1)
    assert pods.exists("a")
    _allow(policy, pods.namespace, 1)
    assert eventually(lambda: not pods.exists("a"))
    assert process.stop() == 0


def _allow(policy: client.PolicyV1Api, namespace: str, number: int) -> None:
    """Play the disruption controller."""
    status = {
        "observedGeneration": 1,
        "disruptionsAllowed": number,
        "currentHealthy": 1,
        "desiredHealthy": 1 - number,
        "expectedPods": 1,
    }
    body: Any = {"status": status}
    policy.patch_namespaced_pod_disruption_budget_status("orders", namespace, body)


def test_excluded_namespace_is_told_and_left(rig: Rig, pods: Pods) -> None:
    """There the pod would come back as it is."""
    pods.create("a", pods.own("orders"))
    process = rig.start_controller(**EVICT, DATAKEYS_EXCLUDED_NAMESPACES=f"kube-system,{pods.namespace}")
    process.wait_led()
    assert eventually(lambda: bool(pods.notes("a", "NotInjected")))
    assert "excluded from injection" in pods.notes("a", "NotInjected")[0]
    assert not eventually(lambda: not pods.exists("a"), 3)
    assert process.stop() == 0


def test_workload_that_was_annotated_without_the_webhook_is_told(rig: Rig, pods: Pods) -> None:
    """A Deployment by its own annotation, a CronJob by its template's; of a stamped one nothing is told."""
    asks = {"datakeys.dev/key": "alias/payments"}
    deployments = {"orders": {"annotations": asks}, "plain": {}}
    deployments["stamped"] = {"annotations": asks, "labels": {"datakeys.dev/inject": "true"}}
    for name, metadata in deployments.items():
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
        body: Any = named(name, **metadata) | {
            "spec": {"selector": {"matchLabels": labels}, "template": template}
        }
        client.AppsV1Api(rig.api).create_namespaced_deployment(pods.namespace, body)
    pod = {
        "metadata": {"annotations": asks},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "x"}]},
    }
    nightly: Any = named("nightly") | {
        "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": pod}}}
    }
    client.BatchV1Api(rig.api).create_namespaced_cron_job(pods.namespace, nightly)
    process = rig.start_controller()
    process.wait_led()
    for name in ("nightly", "orders"):
        assert eventually(lambda name=name: bool(pods.notes(name, "NotStamped")))  # type: ignore[misc]
    assert "kubectl rollout restart deployment/orders" in pods.notes("orders", "NotStamped")[0]
    assert [pods.notes(name, "NotStamped") for name in ("plain", "stamped")] == [[], []]
    assert process.stop() == 0
