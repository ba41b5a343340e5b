"""Rotation as pods see it: running ones notice nothing, new ones get what was asked for."""

import time

from crash import kill_sidecar
from datakeys.webhook.request_lookup import REMEMBER_SECONDS
from deployment import Cluster, wait_until
from workloads import apply, build_pod, build_request, build_service_account, status_of

KEYS = "/var/run/datakeys/keys"


def _start(cluster: Cluster, namespace: str, pod: str) -> dict[str, bytes]:
    """Start a pod; return its data keys by the name they are delivered under."""
    apply(cluster, build_pod(namespace, pod, requests="orders"))
    cluster.wait(f"pod/{pod}", "condition=Ready", namespace)
    return _read(cluster, namespace, pod)


def _read(cluster: Cluster, namespace: str, pod: str) -> dict[str, bytes]:
    listing = cluster.kubectl("exec", "-n", namespace, pod, "-c", "app", "--", "ls", KEYS)
    return {name: cluster.read_file(namespace, pod, "app", f"{KEYS}/{name}") for name in listing.split()}


def _patch(cluster: Cluster, namespace: str, what: str, spec: str) -> None:
    cluster.kubectl("patch", "-n", namespace, what, "--type=merge", "-p", f'{{"spec": {spec}}}')


def _issue(cluster: Cluster, namespace: str) -> None:
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "orders"))
    cluster.wait("datakeyrequest/orders", "condition=Ready", namespace)


def _change(cluster: Cluster, namespace: str, spec: str) -> None:
    """Change the request, and wait until the webhook has forgotten what it knew of it."""
    _patch(cluster, namespace, "datakeyrequest/orders", spec)
    time.sleep(REMEMBER_SECONDS)


def test_new_pods_get_the_kept_versions_and_running_ones_keep_theirs(
    cluster: Cluster, namespace: str, key: str
) -> None:
    """The current key under the plain name, each kept version under its number."""
    assert key == "main"
    _issue(cluster, namespace)
    first = _start(cluster, namespace, "first")
    assert set(first) == {"orders"}
    _change(cluster, namespace, '{"version": 2}')
    second = _start(cluster, namespace, "second")
    assert set(second) == {"orders", "orders@1", "orders@2"}
    assert second["orders@1"] == first["orders"]
    assert second["orders"] == second["orders@2"] != first["orders"]
    assert _read(cluster, namespace, "first") == first
    _change(cluster, namespace, '{"oldestVersion": 2}')
    third = _start(cluster, namespace, "third")
    assert third == {"orders": second["orders"], "orders@2": second["orders"]}


def test_a_campaign_disturbs_no_pod(cluster: Cluster, namespace: str, key: str) -> None:
    """Before, after, and after a crash of a sidecar that has the old ciphertext: the same data key."""
    assert key == "main"
    _issue(cluster, namespace)
    before = _start(cluster, namespace, "before")
    old = status_of(cluster, "datakeyrequest", "orders", namespace)
    _patch(cluster, namespace, "kmskey/main", '{"rotateOnDemand": "now", "reEncryption": {"enabled": true}}')
    former = f"jsonpath={{.status.formerKeyMaterialId}}={old['keyMaterialId']}"
    cluster.wait("datakeyrequest/orders", former, namespace)
    cluster.wait("kmskey/main", "jsonpath={.status.reEncryption.phase}=Complete", namespace)
    status = status_of(cluster, "datakeyrequest", "orders", namespace)
    assert status["ciphertextBlob"] != old["ciphertextBlob"] == status["formerCiphertextBlob"]
    assert _read(cluster, namespace, "before") == before
    kill_sidecar(cluster, namespace, "before")
    wait_until("the sidecar is back", 180, lambda: _restarts(cluster, namespace) == 1)
    assert _read(cluster, namespace, "before") == before
    assert _start(cluster, namespace, "after") == before


def _restarts(cluster: Cluster, namespace: str) -> int:
    (sidecar,) = status_of(cluster, "pod", "before", namespace)["initContainerStatuses"]
    return int(sidecar["restartCount"]) if sidecar.get("started") else 0
