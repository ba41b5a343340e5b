"""Which requests a workload gets, and what becomes of those that are there."""

import copy
from typing import Any

import pytest

from annotated_workloads import Json, build_owner, build_workload
from datakeys.contract.workload import Workload, build_request_name
from datakeys.controller.decisions.pod_view import parse_pod
from datakeys.controller.decisions.workload_request import (
    Create,
    Leave,
    Problem,
    ProblemReason,
    SetOwners,
    Step,
    WantedRequests,
    decide_former_step,
    decide_request_step,
    decide_wanted_requests,
)
from datakeys.controller.decisions.workload_view import WorkloadView, parse_pod_workload, parse_workload

DELETE = {"deletion-policy": "Delete"}


def view_of(kind: str = "Deployment", *, uid: str = "u1", **options: Any) -> WorkloadView:
    """Return the view of a workload."""
    body = build_workload(kind, **options)
    body["metadata"] |= {"namespace": "shop", "uid": uid, "resourceVersion": "1"}
    view = parse_pod_workload(parse_pod(body)) if kind == "Pod" else parse_workload(kind, body)
    assert view is not None
    return view


def wanted_of(view: WorkloadView) -> WantedRequests:
    """Return the requests that a workload should have."""
    wanted = decide_wanted_requests(view)
    assert isinstance(wanted, WantedRequests)
    return wanted


def made_for(view: WorkloadView, **metadata: Any) -> Json:
    """Return the one request of a workload as the API server stores it."""
    (body,) = wanted_of(view).bodies.values()
    stored = copy.deepcopy(body)
    stored["metadata"] |= {"uid": "r1", "resourceVersion": "5", **metadata}
    stored["spec"] |= {"version": 1, "oldestVersion": 1, "dryRun": False}
    return stored


def step_for(view: WorkloadView, found: Json | None) -> Step:
    """Return what the one request of a workload needs."""
    wanted = wanted_of(view)
    (body,) = wanted.bodies.values()
    return decide_request_step(view, wanted, body, found)


def problem_of(step: Step) -> Problem:
    """Return what a step tells."""
    assert isinstance(step, Leave)
    assert step.problem is not None
    return step.problem


def test_request_carries_what_the_annotations_say() -> None:
    """Key, length, context and ServiceAccount; nothing that isn't said."""
    view = view_of(
        annotations={"key": "alias/main", "number-of-bytes": "24", "encryption-context": "tenant=a"},
        account="billing",
    )
    (body,) = wanted_of(view).bodies.values()
    assert body["metadata"] == {
        "name": "orders.deployment",
        "namespace": "shop",
        "labels": {
            "app.kubernetes.io/managed-by": "datakeys-controller",
            "datakeys.dev/workload": "orders.deployment",
        },
    }
    assert body["spec"] == {
        "keyId": "alias/main",
        "numberOfBytes": 24,
        "encryptionContext": {"tenant": "a"},
        "serviceAccountName": "billing",
        "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"},
    }


def test_name_of_a_key_becomes_a_reference() -> None:
    """What is no key id, ARN or alias names a KmsKey of the namespace."""
    (body,) = wanted_of(view_of(annotations={"key": "main"})).bodies.values()
    assert body["spec"]["keyRef"] == {"name": "main"}
    assert "keyId" not in body["spec"]
    assert body["spec"]["keySpec"] == "AES_256"


def test_each_ordinal_gets_a_request() -> None:
    """With the scope pod; all carry the same label, by which they are found."""
    view = view_of("StatefulSet", name="db", annotations={"scope": "pod"}, replicas=2, ordinals={"start": 3})
    bodies = wanted_of(view).bodies
    assert list(bodies) == ["db-3.statefulset", "db-4.statefulset"]
    assert {body["metadata"]["labels"]["datakeys.dev/workload"] for body in bodies.values()} == {
        "db.statefulset"
    }


def test_label_of_a_long_name_is_a_valid_one() -> None:
    """A label's value has at most 63 characters."""
    view = view_of("CronJob", name="n" * 52)
    (body,) = wanted_of(view).bodies.values()
    assert body["metadata"]["labels"]["datakeys.dev/workload"] == build_request_name(
        Workload("CronJob", "n" * 52)
    )


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "Job", "CronJob", "Pod"])
def test_scope_pod_is_for_stateful_sets(kind: str) -> None:
    """Other pods have no identity that outlives them; the text names the annotation."""
    problem = decide_wanted_requests(view_of(kind, annotations={"scope": "pod"}))
    assert isinstance(problem, Problem)
    assert problem.reason == ProblemReason.ANNOTATION_REFUSED
    assert "annotation datakeys.dev/scope" in problem.message


@pytest.mark.parametrize(
    ("annotations", "named"),
    [
        ({"key": "Not A Key"}, "datakeys.dev/key"),
        ({"number-of-bytes": "0"}, "datakeys.dev/number-of-bytes"),
        ({"encryption-context": "x"}, "datakeys.dev/encryption-context"),
        ({"deletion-policy": "Keep"}, "datakeys.dev/deletion-policy"),
    ],
)
def test_malformed_annotation_is_named(annotations: Json, named: str) -> None:
    """Nothing is made of a wish that can't be read."""
    problem = decide_wanted_requests(view_of(annotations=annotations))
    assert isinstance(problem, Problem)
    assert problem.reason == ProblemReason.ANNOTATION_REFUSED
    assert f"annotation {named}:" in problem.message


def test_workload_without_the_annotation_gets_nothing() -> None:
    """The label alone says that its pods name requests."""
    view = view_of()
    assert (
        decide_wanted_requests(
            WorkloadView(
                view.namespace, view.workload, view.api_version, view.uid, {}, "app", None, view.told
            )
        )
        is None
    )


def test_missing_request_is_created() -> None:
    """The first look makes it."""
    assert step_for(view_of(), None) == Create()


@pytest.mark.parametrize("annotations", [{}, DELETE])
def test_own_request_needs_nothing(annotations: Json) -> None:
    """It is found as it was made, whatever the API server has added."""
    view = view_of(annotations=annotations)
    assert step_for(view, made_for(view)) == Leave(None)


def test_raised_version_is_no_difference() -> None:
    """A new version of the data key is an act of its own."""
    view = view_of()
    found = made_for(view)
    found["spec"] |= {"version": 3, "oldestVersion": 2}
    assert step_for(view, found) == Leave(None)


def test_new_workload_finds_the_retained_request() -> None:
    """A redeployment gets the same data key: the UID isn't part of what makes a request the workload's."""
    assert step_for(view_of(uid="u2"), made_for(view_of(uid="u1"))) == Leave(None)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {}},
        {"labels": {"app.kubernetes.io/managed-by": "somebody"}},
    ],
)
def test_request_that_people_made_is_a_conflict(change: Json) -> None:
    """Without the controller's label it is left alone, and the workload is told."""
    view = view_of()
    problem = problem_of(step_for(view, made_for(view, **change)))
    assert problem.reason == ProblemReason.REQUEST_CONFLICT
    assert "DataKeyRequest orders.deployment" in problem.message


@pytest.mark.parametrize(
    "ref",
    [
        None,
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
        {"apiVersion": "example.org/v1", "kind": "Deployment", "name": "orders"},
    ],
)
def test_request_of_another_workload_is_a_conflict(ref: Json | None) -> None:
    """The kind of another API group is another kind."""
    view = view_of()
    found = made_for(view)
    found["spec"]["workloadRef"] = ref
    assert problem_of(step_for(view, found)).reason == ProblemReason.REQUEST_CONFLICT


def test_version_of_the_api_group_does_not_matter() -> None:
    """A workload keeps its data key when its API grows up."""
    view = view_of()
    found = made_for(view)
    found["spec"]["workloadRef"]["apiVersion"] = "apps/v1beta2"
    assert step_for(view, found) == Leave(None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"annotations": {"key": "alias/other"}}, "keyId"),
        ({"annotations": {"key": "main"}}, "keyId, keyRef"),
        ({"annotations": {"key-spec": "AES_128"}}, "keySpec"),
        ({"annotations": {"number-of-bytes": "32"}}, "keySpec, numberOfBytes"),
        ({"annotations": {"encryption-context": "a=b"}}, "encryptionContext"),
    ],
)
def test_changed_annotation_leaves_the_data_key_as_it_is(options: Json, named: str) -> None:
    """The difference and the ways out are told."""
    found = {**made_for(view_of()), "status": {"ciphertextBlob": "AQID"}}
    problem = problem_of(step_for(view_of(**options), found))
    assert problem.reason == ProblemReason.REQUEST_DIFFERS
    assert f"another {named} than" in problem.message
    assert "stays as it was issued" in problem.message


def test_request_that_never_got_a_data_key_may_be_deleted() -> None:
    """A misspelt key is corrected in the annotation; nothing was lost yet, and the next step says so."""
    problem = problem_of(step_for(view_of(annotations={"key": "alias/right"}), made_for(view_of())))
    assert problem.reason == ProblemReason.REQUEST_DIFFERS
    assert "It has no data key yet" in problem.message
    assert "nothing is lost by deleting it" in problem.message
    assert "can't be read" not in problem.message


def test_changed_service_account_is_told_that_it_can_not_decrypt() -> None:
    """The binding to the former ServiceAccount can't be lifted."""
    found = {**made_for(view_of(account="app")), "status": {"ciphertextBlob": "AQID"}}
    problem = problem_of(step_for(view_of(account="billing"), found))
    assert problem.reason == ProblemReason.REQUEST_DIFFERS
    assert "ServiceAccount billing can't decrypt" in problem.message
    assert "bound to app" in problem.message


# Who owns it.
def test_request_to_be_deleted_with_its_workload_is_owned_by_it() -> None:
    """The owner neither controls the request nor waits for its deletion."""
    view = view_of(annotations=DELETE)
    assert made_for(view)["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "orders",
            "uid": "u1",
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]


def test_retained_request_has_no_owner() -> None:
    """So nothing deletes it: neither the garbage collector nor a restore under new UIDs."""
    assert "ownerReferences" not in made_for(view_of())["metadata"]


def test_policy_may_be_changed_later() -> None:
    """From Retain to Delete adds the owner, back again removes it; owners of other people stay."""
    retain, delete = view_of(), view_of(annotations=DELETE)
    (own,) = made_for(delete)["metadata"]["ownerReferences"]
    other = build_owner("Shop", "shop", "example.org/v1")
    assert step_for(delete, made_for(retain, ownerReferences=[other])) == SetOwners([other, own])
    assert step_for(retain, made_for(delete, ownerReferences=[other, own])) == SetOwners([other])


@pytest.mark.parametrize("annotations", [{}, DELETE], ids=["now-retain", "now-delete"])
def test_request_that_goes_with_a_former_workload_is_not_saved(annotations: Json) -> None:
    """It was to be deleted, and will be; whether the new workload got it must not depend on who is faster."""
    found = made_for(view_of(uid="u1", annotations=DELETE))
    problem = problem_of(step_for(view_of(uid="u2", annotations=annotations), found))
    assert problem.reason == ProblemReason.REQUEST_LEAVING


def test_request_that_is_being_deleted_is_waited_for() -> None:
    """A finalizer of somebody may hold it."""
    view = view_of()
    found = made_for(view, deletionTimestamp="2026-01-01T00:00:00Z")
    assert problem_of(step_for(view, found)).reason == ProblemReason.REQUEST_LEAVING


def test_present_owner_beside_a_former_one_counts() -> None:
    """The garbage collector leaves what has an owner that lives; the other entry is taken off."""
    old, new = view_of(uid="u1", annotations=DELETE), view_of(uid="u2", annotations=DELETE)
    owners = [made_for(view)["metadata"]["ownerReferences"][0] for view in (old, new)]
    assert step_for(new, made_for(new, ownerReferences=owners)) == SetOwners([owners[1]])


def test_pods_of_a_prefix_can_not_take_their_data_key_along() -> None:
    """There is no object whose end could be seen: retained, and told."""
    view = view_of("Pod", name="batch-x1", stamp="Pod/batch", annotations=DELETE)
    wanted = wanted_of(view)
    assert wanted.owner is None
    assert wanted.problem is not None
    assert "datakeys.dev/deletion-policy" in wanted.problem.message


# Requests of pods that were scaled away.
def test_request_of_a_pod_scaled_away_follows_the_policy() -> None:
    """Else the change to Retain would come too late for it."""
    scoped = {"scope": "pod"}
    view = view_of("StatefulSet", annotations={**scoped, **DELETE}, replicas=1)
    former = made_for(view)
    former["metadata"]["name"] = "orders-7.statefulset"
    retained = view_of("StatefulSet", annotations=scoped, replicas=0)
    assert decide_former_step(view, wanted_of(view), former) == Leave(None)
    assert decide_former_step(retained, wanted_of(retained), former) == SetOwners([])


def test_request_that_only_carries_the_label_is_not_touched() -> None:
    """Anybody can write a label."""
    view = view_of("StatefulSet", annotations={"scope": "pod", **DELETE}, replicas=1)
    foreign = made_for(view, ownerReferences=[])
    foreign["spec"]["workloadRef"]["name"] = "other"
    assert decide_former_step(view, wanted_of(view), foreign) == Leave(None)
