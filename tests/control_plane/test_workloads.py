"""From an annotated workload to its data key: a real API server, a real controller and key service.

Of Kubernetes' own controllers there is the garbage collector at most, so there are no pods but bare ones. The
webhook's registration is removed; what it adds to a workload is in the builders.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from annotated_workloads import KINDS, Json, WorkloadClient, build_owner, build_workload
from controller_rig import Process, Rig
from custom_objects import ALIASES, KEYS, REQUESTS, Objects
from datakeys.contract.identity import GROUP, VERSION
from user_rights import build_alias, try_to
from waiting import eventually, read_at_rest, wait_for
from workloads import build_request

DELETE = {"deletion-policy": "Delete"}
NAME = "orders.deployment"


@pytest.fixture(scope="module")
def rig(rig: Rig) -> Rig:
    """All tests here run without the webhook."""
    rig.leave_webhook_out()
    return rig


@pytest.fixture
def shop(objects: Objects) -> Objects:
    """Return a namespace with a key, an alias and the ServiceAccount of the pods."""
    objects.create_key()
    objects.create(ALIASES, build_alias(objects.namespace, "main", targetKeyRef={"name": "main"}))
    body: Any = {"metadata": {"name": "app"}}
    client.CoreV1Api(objects.api).create_namespaced_service_account(objects.namespace, body)
    objects.wait_ready("main", plural=KEYS)
    return objects


@pytest.fixture
def workloads(shop: Objects) -> Iterator[WorkloadClient]:
    """Return the namespace's workloads; what a test leaves is removed."""
    workloads = WorkloadClient(shop.api, shop.namespace)
    yield workloads
    workloads.delete_all()


def names(shop: Objects) -> list[str]:
    """Return the names of the namespace's requests."""
    return sorted(item["metadata"]["name"] for item in shop.list(REQUESTS))


def owners(shop: Objects, name: str = NAME) -> list[str]:
    """Return the UIDs of a request's owners; none if there is no request."""
    found = [item["metadata"] for item in shop.list(REQUESTS) if item["metadata"]["name"] == name]
    return [owner["uid"] for metadata in found for owner in metadata.get("ownerReferences") or ()]


def blob(shop: Objects, name: str = NAME) -> str:
    """Return the ciphertext of a request."""
    return str(shop.get(REQUESTS, name)["status"]["ciphertextBlob"])


def wait_event(shop: Objects, name: str, reason: str) -> None:
    """Wait until an Event about an object is posted."""
    assert eventually(lambda: reason in shop.event_reasons(name)), (reason, shop.event_reasons(name))


@pytest.mark.parametrize("on_template", [False, True], ids=["on-object", "on-template"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gets_its_request_and_secret(
    shop: Objects, workloads: WorkloadClient, kind: str, on_template: bool
) -> None:
    """The annotations are all that a person writes; the Secret has the name that the webhook mounts."""
    annotations = {"number-of-bytes": "24", "encryption-context": "tenant=a"}
    workloads.create(build_workload(kind, annotations=annotations, on_template=on_template))
    name = f"orders.{kind.lower()}"
    assert eventually(lambda: shop.exists(REQUESTS, name))
    shop.wait_ready(name)
    spec = shop.get(REQUESTS, name)["spec"]
    assert (spec["keyId"], spec["numberOfBytes"], spec["serviceAccountName"]) == ("alias/main", 24, "app")
    assert spec["encryptionContext"] == {"tenant": "a"}
    assert spec["workloadRef"]["kind"] == kind
    assert shop.secret(name).type == "datakeys.dev/encrypted-data-key"
    wait_event(shop, "orders", "RequestCreated")


def test_bare_pods_get_a_request_too(shop: Objects, workloads: WorkloadClient) -> None:
    """By their own name, or by the prefix that the webhook stamps; pods of a stamped workload don't."""
    workloads.create(build_workload("Pod", "batch", annotations={"key": "main"}))
    workloads.create(build_workload("Pod", "load-x1", stamp="Pod/load"))
    workloads.create(build_workload("Pod", "orders-x1", stamp="Deployment/orders"))
    owner = build_owner("Rollout", "canary", "example.org/v1")
    workloads.create(build_workload("Pod", "canary-x1", owners=[owner]))
    expected = ["batch.pod", "canary.rollout", "load.pod"]
    assert eventually(lambda: names(shop) == expected), names(shop)
    shop.wait_ready(*expected)
    workloads.delete("Pod", "batch")
    wait_event(shop, "batch.pod", "Retained")
    assert names(shop) == expected


def test_job_of_a_cron_job_gets_none_of_its_own(shop: Objects, workloads: WorkloadClient) -> None:
    """All runs share the CronJob's data key."""
    workloads.create(build_workload("CronJob", "nightly"))
    owned = build_workload(
        "Job", "nightly-1", stamp="CronJob/nightly", owners=[build_owner("CronJob", "nightly", "batch/v1")]
    )
    workloads.create(owned)
    workloads.create(build_workload("Job", "by-hand", stamp="CronJob/nightly"))
    workloads.create(build_workload("Job", "last"))
    assert eventually(lambda: "last.job" in names(shop))
    assert eventually(lambda: names(shop) == ["last.job", "nightly.cronjob"]), names(shop)


def test_each_ordinal_keeps_its_data_key(shop: Objects, workloads: WorkloadClient) -> None:
    """Scaling up makes requests, scaling down removes none, and a pod that comes back finds its own."""
    workloads.create(build_workload("StatefulSet", "db", annotations={"scope": "pod"}, replicas=2))
    first = ["db-0.statefulset", "db-1.statefulset"]
    assert eventually(lambda: names(shop) == first)
    shop.wait_ready(*first)
    blobs = {name: blob(shop, name) for name in first}
    assert len(set(blobs.values())) == 2
    workloads.patch("StatefulSet", "db", {"spec": {"replicas": 3}})
    assert eventually(lambda: names(shop) == [*first, "db-2.statefulset"])
    workloads.patch("StatefulSet", "db", {"spec": {"replicas": 0}})
    workloads.patch("StatefulSet", "db", {"spec": {"replicas": 1, "ordinals": {"start": 5}}})
    assert eventually(lambda: "db-5.statefulset" in names(shop))
    workloads.patch("StatefulSet", "db", {"spec": {"replicas": 2, "ordinals": {"start": 0}}})
    time.sleep(1)
    assert {name: blob(shop, name) for name in first} == blobs
    listed = shop.list(REQUESTS, "datakeys.dev/workload=db.statefulset")
    assert len(listed) == 4


def test_redeployed_workload_gets_the_old_data_key(
    shop: Objects, workloads: WorkloadClient, controller: Process
) -> None:
    """Retain, the default: the request outlives the workload; deploying it again changes nothing."""
    workloads.create(build_workload("Deployment"))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    assert owners(shop) == []
    before, writes = read_at_rest(lambda: (shop.get(REQUESTS, NAME), controller.writes()))
    workloads.delete("Deployment", "orders")
    wait_event(shop, NAME, "Retained")
    workloads.create(build_workload("Deployment"))
    assert read_at_rest(lambda: (shop.get(REQUESTS, NAME), controller.writes())) == (before, writes)


@pytest.mark.usefixtures("garbage_collector")
def test_policy_delete_lets_the_request_go_with_the_workload(
    shop: Objects, workloads: WorkloadClient
) -> None:
    """The garbage collector of Kubernetes takes request and Secret, once the workload is gone."""
    uid = workloads.create(build_workload("Deployment", annotations=DELETE)).metadata.uid
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    assert owners(shop) == [uid]
    workloads.delete("Deployment", "orders")
    assert eventually(lambda: not shop.exists(REQUESTS, NAME) and shop.secret(NAME) is None)


def test_policy_delete_hands_nothing_on(
    shop: Objects, workloads: WorkloadClient, garbage_collector: subprocess.Popen[bytes]
) -> None:
    """A new workload of the name waits for the old request's end, however late, and gets a new data key."""
    workloads.create(build_workload("Deployment", annotations=DELETE))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    old = blob(shop)
    garbage_collector.send_signal(signal.SIGSTOP)
    try:
        workloads.delete("Deployment", "orders")
        fresh = workloads.create(build_workload("Deployment", annotations=DELETE)).metadata.uid
        wait_event(shop, "orders", "RequestLeaving")
        assert blob(shop) == old
    finally:
        garbage_collector.send_signal(signal.SIGCONT)
    assert eventually(lambda: owners(shop) == [fresh])
    shop.wait_ready(NAME)
    assert blob(shop) != old


@pytest.mark.usefixtures("garbage_collector")
def test_retained_request_survives_the_garbage_collector(shop: Objects, workloads: WorkloadClient) -> None:
    """Nothing that Kubernetes does by itself deletes it, and the redeployed workload finds it."""
    workloads.create(build_workload("Deployment"))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    old = blob(shop)
    workloads.delete("Deployment", "orders")
    # The collector has been at work when this one, deleted later, is gone.
    witness = build_workload("Deployment", "witness", annotations=DELETE)
    workloads.create(witness)
    assert eventually(lambda: shop.exists(REQUESTS, "witness.deployment"))
    workloads.delete("Deployment", "witness")
    assert eventually(lambda: not shop.exists(REQUESTS, "witness.deployment"))
    workloads.create(build_workload("Deployment"))
    assert blob(shop) == old


@pytest.mark.usefixtures("garbage_collector")
def test_workload_deleted_without_its_dependents_leaves_the_data_key(
    shop: Objects, workloads: WorkloadClient
) -> None:
    """``kubectl delete --cascade=orphan`` keeps the request; the next workload of the name takes it over."""
    workloads.create(build_workload("Deployment", annotations=DELETE))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    old = blob(shop)
    workloads.delete("Deployment", "orders", propagation="Orphan")
    assert eventually(lambda: not workloads.exists("Deployment", "orders"))
    assert (owners(shop), blob(shop)) == ([], old)
    fresh = workloads.create(build_workload("Deployment", annotations=DELETE)).metadata.uid
    assert eventually(lambda: owners(shop) == [fresh])
    assert blob(shop) == old


def test_policy_can_be_changed_at_any_time(shop: Objects, workloads: WorkloadClient) -> None:
    """The ownerReference comes and goes; the data key stays the same."""
    uid = workloads.create(
        build_workload("StatefulSet", "db", annotations={"scope": "pod"}, replicas=2)
    ).metadata.uid
    both = ("db-0.statefulset", "db-1.statefulset")
    assert eventually(lambda: names(shop) == [*both])
    shop.wait_ready(*both)
    blobs = [blob(shop, name) for name in both]
    workloads.patch("StatefulSet", "db", {"spec": {"replicas": 1}})
    for policy, expected in (("Delete", [uid]), ("Retain", []), (None, [])):
        workloads.annotate("StatefulSet", "db", deletion_policy=policy)
        assert eventually(lambda: [owners(shop, name) for name in both] == [expected] * 2)  # noqa: B023
    assert [blob(shop, name) for name in both] == blobs


def test_request_that_people_made_is_never_touched(shop: Objects, workloads: WorkloadClient) -> None:
    """The workload is told of the conflict, and gets its request once the other is gone."""
    shop.create_request(NAME)
    shop.wait_ready(NAME)
    before = shop.get(REQUESTS, NAME)
    workloads.create(build_workload("Deployment", annotations=DELETE))
    wait_event(shop, "orders", "RequestConflict")
    assert shop.get(REQUESTS, NAME) == before
    shop.delete(REQUESTS, NAME)
    assert eventually(lambda: len(owners(shop)) == 1)


def test_changed_annotation_leaves_the_data_key(shop: Objects, workloads: WorkloadClient) -> None:
    """Another length or ServiceAccount is told as an Event; the request is as it was."""
    workloads.create(build_workload("Deployment"))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    before = shop.get(REQUESTS, NAME)
    workloads.annotate("Deployment", "orders", key_spec="AES_128")
    wait_event(shop, "orders", "RequestDiffers")
    workloads.patch("Deployment", "orders", {"spec": {"template": {"spec": {"serviceAccountName": "other"}}}})
    assert eventually(lambda: shop.event_reasons("orders").count("RequestDiffers") == 2)
    assert any("ServiceAccount other can't decrypt" in note for note in shop.event_notes("orders"))
    assert shop.get(REQUESTS, NAME) == before


def test_annotation_that_is_older_than_the_webhook_is_told(shop: Objects, workloads: WorkloadClient) -> None:
    """What the webhook would have refused gives a Warning with the annotation's name, and no request."""
    workloads.create(build_workload("Deployment", annotations={"scope": "pod"}))
    wait_event(shop, "orders", "AnnotationRefused")
    workloads.annotate("Deployment", "orders", scope="Pod", key_spec="AES_1")
    assert eventually(lambda: any("datakeys.dev/key-spec" in note for note in shop.event_notes("orders")))
    assert names(shop) == []
    workloads.annotate("Deployment", "orders", scope=None, key_spec=None)
    assert eventually(lambda: names(shop) == [NAME])


def test_refusal_by_the_cluster_is_told_and_overcome(shop: Objects, workloads: WorkloadClient) -> None:
    """A quota stops the controller like anybody; what it says is shown, and the request follows by itself."""
    core = client.CoreV1Api(shop.api)
    quota: Any = {"metadata": {"name": "none"}, "spec": {"hard": {"count/datakeyrequests.datakeys.dev": "0"}}}
    core.create_namespaced_resource_quota(shop.namespace, quota)
    status: Any = {"status": {**quota["spec"], "used": {"count/datakeyrequests.datakeys.dev": "0"}}}
    core.patch_namespaced_resource_quota_status("none", shop.namespace, status)
    create = client.CustomObjectsApi(shop.api).create_namespaced_custom_object
    probe = (GROUP, VERSION, shop.namespace, REQUESTS, build_request(shop.namespace, "probe"))
    wait_for(lambda: "exceeded quota" in try_to(create, *probe, dry_run="All"), "the quota is in force")
    workloads.create(build_workload("Deployment"))
    wait_event(shop, "orders", "Failed")
    assert any("exceeded quota" in note for note in shop.event_notes("orders"))
    core.delete_namespaced_resource_quota("none", shop.namespace)
    assert eventually(lambda: names(shop) == [NAME])


def test_removed_label_ends_the_watch_and_nothing_else(shop: Objects, workloads: WorkloadClient) -> None:
    """Who takes the annotations back keeps the data key."""
    workloads.create(build_workload("Deployment"))
    assert eventually(lambda: shop.exists(REQUESTS, NAME))
    shop.wait_ready(NAME)
    workloads.patch("Deployment", "orders", {"metadata": {"labels": {"datakeys.dev/inject": None}}})
    wait_event(shop, NAME, "Retained")
    assert names(shop) == [NAME]


# The controller's own life.
def _fill(workloads: WorkloadClient) -> list[str]:
    """Create a workload of every kind; return the names of their requests."""
    for kind in KINDS:
        annotations: Json = DELETE if kind == "DaemonSet" else {}
        workloads.create(build_workload(kind, annotations=annotations))
    workloads.create(build_workload("StatefulSet", "db", annotations={"scope": "pod"}, replicas=3))
    workloads.create(build_workload("Pod", "batch"))
    ordinals = [f"db-{number}.statefulset" for number in range(3)]
    return sorted([*(f"orders.{kind.lower()}" for kind in KINDS), *ordinals, "batch.pod"])


def test_restart_writes_nothing(rig: Rig, shop: Objects, workloads: WorkloadClient) -> None:
    """A controller that finds everything as it should be leaves it alone, and tells nothing."""
    expected = _fill(workloads)
    assert eventually(lambda: names(shop) == expected), names(shop)
    shop.wait_ready(*expected)
    versions, events = read_at_rest(lambda: (shop.versions(), shop.event_notes("orders")))
    second = rig.start_controller("restarted", DATAKEYS_LEADER_ELECTION="false")
    assert eventually(lambda: second.metric("datakeys_workloads", state="settled") == len(KINDS) + 2)
    assert read_at_rest(lambda: (shop.versions(), shop.event_notes("orders"))) == (versions, events)
    assert second.writes() == {}
    assert second.stop() == 0


def test_two_controllers_at_once_make_one_request_each(
    rig: Rig, shop: Objects, workloads: WorkloadClient
) -> None:
    """Whoever is later finds what the other has made."""
    second = rig.start_controller("second", DATAKEYS_LEADER_ELECTION="false")
    assert eventually(lambda: second.answers("/readyz") == 200)
    expected = _fill(workloads)
    assert eventually(lambda: names(shop) == expected), names(shop)
    shop.wait_ready(*expected)
    read_at_rest(shop.versions)
    for name in expected:
        assert shop.secret(name).data["ciphertextBlob"] == blob(shop, name)
    assert second.stop() == 0
