"""What the controller takes from a workload, and from a pod that asks for a data key itself."""

from typing import Any

import pytest

from annotated_workloads import KINDS, Json, build_owner, build_workload
from datakeys.contract.workload import Workload
from datakeys.controller.decisions.pod_view import PodView, parse_pod
from datakeys.controller.decisions.workload_view import (
    WorkloadView,
    parse_pod_workload,
    parse_workload,
    reduce_workload,
)


def stored(body: Json) -> Json:
    """Return an object as the API server gives it."""
    metadata = {"namespace": "shop", "uid": f"uid-{body['metadata']['name']}", "resourceVersion": "7"}
    return {**body, "metadata": {**metadata, **body["metadata"]}}


def view_of(kind: str, **options: Any) -> WorkloadView | None:
    """Return the view of a workload."""
    return parse_workload(kind, stored(build_workload(kind, **options)))


def pod_view(**options: Any) -> PodView:
    """Return the view of a pod, as the watch makes it."""
    return parse_pod(stored(build_workload("Pod", **options)))


@pytest.mark.parametrize("kind", KINDS)
def test_view_of_every_kind(kind: str) -> None:
    """The object's annotations win over its template's; the ServiceAccount is the template's."""
    view = view_of(kind, annotations={"key": "main", "scope": "workload"}, account="billing")
    assert view is not None
    assert view.workload == Workload(kind, "orders")
    assert view.annotations["datakeys.dev/key"] == "main"
    assert (view.namespace, view.uid, view.service_account) == ("shop", "uid-orders", "billing")
    assert (
        view.told.api_version == view.api_version == ("batch/v1" if kind in ("Job", "CronJob") else "apps/v1")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_may_be_on_the_template_alone(kind: str) -> None:
    """A chart that only lets its user annotate pods works as well."""
    view = view_of(kind, annotations={"key-name": "db"}, on_template=True)
    assert view is not None
    assert view.annotations["datakeys.dev/key"] == "alias/main"
    assert view.annotations["datakeys.dev/key-name"] == "db"


def test_object_wins_over_its_template() -> None:
    """The template may still carry what the object said before."""
    body = stored(build_workload("Deployment", annotations={"key": "new"}))
    body["spec"]["template"]["metadata"]["annotations"]["datakeys.dev/key"] = "old"
    view = parse_workload("Deployment", body)
    assert view is not None
    assert view.annotations["datakeys.dev/key"] == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_list_is_reduced_to_what_the_view_needs(kind: str) -> None:
    """A reduced object gives the same view, and holds nothing of the containers."""
    body = stored(build_workload(kind, annotations={"scope": "pod"}))
    body["metadata"]["annotations"]["other"] = "x" * 1000
    reduced = reduce_workload(kind, body)
    assert parse_workload(kind, reduced) == parse_workload(kind, body)
    assert "containers" not in str(reduced)
    assert "x" * 1000 not in str(reduced)


def test_service_account_defaults_as_in_kubernetes() -> None:
    """A template without ServiceAccount runs as default."""
    body = stored(build_workload("Deployment"))
    del body["spec"]["template"]["spec"]["serviceAccountName"]
    view = parse_workload("Deployment", body)
    assert view is not None
    assert view.service_account == "default"


@pytest.mark.parametrize(
    ("spec", "ordinals"),
    [
        ({}, range(1)),
        ({"replicas": 3}, range(3)),
        ({"replicas": 0}, range(0)),
        ({"replicas": 2, "ordinals": {"start": 5}}, range(5, 7)),
    ],
)
def test_ordinals_of_a_stateful_set(spec: Json, ordinals: range) -> None:
    """They start at spec.ordinals.start and are as many as replicas."""
    view = view_of("StatefulSet", **spec)
    assert view is not None
    assert view.ordinals == ordinals


def test_other_kinds_have_no_ordinals() -> None:
    """A Deployment's pods have random names."""
    view = view_of("Deployment", replicas=3)
    assert view is not None
    assert view.ordinals is None


@pytest.mark.parametrize(
    "options",
    [
        {"owners": [build_owner("CronJob", "nightly", "batch/v1")]},
        {"stamp": "CronJob/nightly"},
    ],
    ids=["owned", "made-by-hand-from-it"],
)
def test_job_of_a_cron_job_is_the_cron_jobs(options: Json) -> None:
    """All Jobs of a CronJob share its data key; none gets one of its own."""
    assert view_of("Job", **options) is None


def test_workload_with_another_owner_is_handled_by_itself() -> None:
    """Somebody else's operator may own an annotated Deployment."""
    assert view_of("Deployment", owners=[build_owner("Shop", "shop", "example.org/v1")]) is not None


def test_workload_that_is_being_deleted_gets_nothing() -> None:
    """A finalizer may hold it for long."""
    body = stored(build_workload("Deployment"))
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert parse_workload("Deployment", body) is None


def test_views_differ_only_by_what_matters() -> None:
    """A new resourceVersion or status is no news."""
    first, second = (stored(build_workload("Deployment")) for _ in range(2))
    second["metadata"]["resourceVersion"] = "8"
    second["status"] = {"readyReplicas": 1}
    assert parse_workload("Deployment", first) == parse_workload("Deployment", second)


# Pods.
def test_bare_pod_is_its_own_workload() -> None:
    """Without an owner the data key is named after the pod, and can go with it."""
    view = parse_pod_workload(pod_view(name="batch"))
    assert view is not None
    assert (view.workload, view.uid, view.api_version) == (Workload("Pod", "batch"), "uid-batch", "v1")


def test_pod_of_another_kind_counts_as_its_owner() -> None:
    """All pods of a third-party workload share its data key; they are told of problems, not their owner."""
    owner = build_owner("Rollout", "orders", "example.org/v1", uid="u")
    view = parse_pod_workload(pod_view(name="orders-x1", owners=[owner]))
    assert view is not None
    assert (view.workload, view.uid, view.api_version) == (
        Workload("Rollout", "orders"),
        "u",
        "example.org/v1",
    )
    assert (view.told.kind, view.told.name) == ("Pod", "orders-x1")


def test_pod_of_an_unstamped_stateful_set_has_an_ordinal() -> None:
    """It asks for its own data key only."""
    owner = build_owner("StatefulSet", "db", "apps/v1")
    view = parse_pod_workload(pod_view(name="db-4", owners=[owner]))
    assert view is not None
    assert view.ordinals == range(4, 5)


def test_pods_of_one_prefix_share_a_workload() -> None:
    """The webhook stamps a pod of a generateName with its prefix; no single object stands for it."""
    view = parse_pod_workload(pod_view(name="batch-x1", stamp="Pod/batch"))
    assert view is not None
    assert (view.workload, view.uid) == (Workload("Pod", "batch"), None)


def test_prefix_counts_without_a_stamp_too() -> None:
    """The controller and the webhook come to the same name."""
    body = stored(build_workload("Pod", name="batch-x1"))
    body["metadata"]["generateName"] = "batch-"
    view = parse_pod_workload(parse_pod(body))
    assert view is not None
    assert view.workload == Workload("Pod", "batch")


@pytest.mark.parametrize(
    "options",
    [
        {"stamp": "Deployment/orders"},
        {"stamp": "nonsense"},
        {"stamp": "Pod/Bad Name"},
        {"owners": [build_owner("ReplicaSet", "orders-5d4f", "apps/v1")]},
        {"owners": [build_owner("Node", "node-1", "v1")]},
    ],
    ids=["stamped", "no-stamp-at-all", "bad-name", "replica-set", "static-pod"],
)
def test_pods_that_get_no_request_of_their_own(options: Json) -> None:
    """Their workload asks for them, or nothing lasting can be named."""
    assert parse_pod_workload(pod_view(name="orders-x1", **options)) is None


def test_pod_without_the_annotation_is_left_alone() -> None:
    """It may name requests that people made."""
    body = stored(build_workload("Pod"))
    body["metadata"]["annotations"] = {"datakeys.dev/requests": "orders"}
    assert parse_pod_workload(parse_pod(body)) is None


def test_pod_that_is_being_deleted_gets_nothing() -> None:
    """Its successor asks again."""
    body = stored(build_workload("Pod"))
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert parse_pod_workload(parse_pod(body)) is None
