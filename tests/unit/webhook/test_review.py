"""AdmissionReview v1: what is taken, what is malformed, what is answered."""

import base64
import json
from typing import Any

import pytest

from datakeys.webhook.patches import WORKLOAD_KINDS, Injection, Refusal
from datakeys.webhook.review import MalformedReviewError, build_answer, parse_review

from .conftest import build_pod


def build_review(**request: Any) -> dict[str, Any]:
    """Return a review of a pod's creation; None removes a member."""
    members = {
        "uid": "u-1",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "team",
        "dryRun": False,
        "object": build_pod(),
        **request,
    }
    kept = {name: value for name, value in members.items() if value is not None}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": kept}


def build_workload_review(workload_kind: str = "Deployment", **request: Any) -> dict[str, Any]:
    """Return a review of a workload's creation."""
    group = "batch" if workload_kind.endswith("Job") else "apps"
    spec: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "app"}]}}}
    if workload_kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    annotations = {"datakeys.dev/key": "alias/payments"}
    members = {
        "kind": {"group": group, "version": "v1", "kind": workload_kind},
        "resource": {"group": group, "version": "v1", "resource": f"{workload_kind.lower()}s"},
        "object": {
            "kind": workload_kind,
            "metadata": {"name": "orders", "annotations": annotations},
            "spec": spec,
        },
        **request,
    }
    return build_review(**members)


def parse(review: object) -> Any:
    """Parse a review given as an object."""
    return parse_review(json.dumps(review).encode())


def test_pod_creation_is_taken() -> None:
    """Namespace and uid come from the request, since the pod may not have them yet."""
    review = parse(build_review())
    assert (review.uid, review.namespace, review.name) == ("u-1", "team", "app-")
    assert review.pod == build_pod()


@pytest.mark.parametrize(
    "request_members",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"subResource": "ephemeralcontainers"},
        {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}},
        {"resource": None},
    ],
)
def test_anything_but_a_pod_creation_is_none_of_our_business(request_members: dict[str, Any]) -> None:
    """Updates, subresources (ephemeral containers) and other objects are let through untouched."""
    assert parse(build_review(**request_members)).pod is None


@pytest.mark.parametrize("kind", WORKLOAD_KINDS)
def test_workload_is_taken_with_what_it_was(kind: str) -> None:
    """On creation alone; on an update with the object before."""
    body = build_workload_review(kind)
    review = parse(body)
    assert (review.name, review.pod, review.old_workload) == ("orders", None, None)
    assert review.workload == body["request"]["object"]
    old = {**body["request"]["object"], "metadata": {"name": "orders"}}
    assert parse(build_workload_review(kind, operation="UPDATE", oldObject=old)).old_workload == old


@pytest.mark.parametrize(
    "request_members",
    [
        {"operation": "DELETE", "object": None},
        {"subResource": "scale"},
        {"subResource": "status"},
        {"kind": {"group": "apps", "version": "v1", "kind": "ReplicaSet"}},
        {"kind": {"group": "example.com", "version": "v1", "kind": "Deployment"}},
    ],
)
def test_other_writes_of_workloads_are_none_of_our_business(request_members: dict[str, Any]) -> None:
    """Deletions, subresources and kinds that we don't know."""
    members = {"operation": "UPDATE", "oldObject": {}, **request_members}
    assert parse(build_workload_review(**members)).workload is None


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"namespace": None}, "namespace"),
        ({"object": None}, "object"),
        ({"operation": "UPDATE"}, "oldObject"),
        ({"object": {"kind": "Deployment", "metadata": {}, "spec": {}}}, "template"),
        ({"object": {"kind": "CronJob", "metadata": {}, "spec": {}}}, "jobTemplate"),
        ({"object": {"metadata": {}, "spec": {}}}, "kind"),
        ({"object": {"kind": "Job", "metadata": {}, "spec": {"template": {"spec": {}}}}}, "containers"),
    ],
)
def test_malformed_member_of_a_workload_is_named(members: dict[str, Any], name: str) -> None:
    """The API server has checked it; anybody else's garbage is malformed."""
    with pytest.raises(MalformedReviewError, match=name):
        parse(build_workload_review(**members))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "Pod", "request": {}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
    ],
)
def test_bodies_that_are_no_reviews_are_malformed(body: bytes) -> None:
    """Whatever bytes come, the answer is one error."""
    with pytest.raises(MalformedReviewError):
        parse_review(body)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"uid": None}, "uid"),
        ({"uid": ""}, "uid"),
        ({"uid": 7}, "uid"),
        ({"namespace": None}, "namespace"),
        ({"namespace": 7}, "namespace"),
        ({"object": None}, "object"),
        ({"object": {"spec": {}}}, "metadata"),
        ({"object": {"metadata": {}}}, "spec"),
        ({"object": {"metadata": {}, "spec": {}}}, "containers"),
        ({"object": {"metadata": {}, "spec": {"containers": [7]}}}, "containers"),
        ({"object": {"metadata": {}, "spec": {"containers": [{}]}}}, "name"),
        ({"object": {"metadata": {}, "spec": {"containers": [], "volumes": {"a": 1}}}}, "volumes"),
    ],
)
def test_malformed_member_is_named(members: dict[str, Any], name: str) -> None:
    """A review without what it must have is malformed."""
    with pytest.raises(MalformedReviewError, match=name):
        parse(build_review(**members))


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"metadata": {"annotations": ["a"]}}, "metadata.annotations"),
        ({"metadata": {"annotations": {"a": 1}}}, r"metadata.annotations\[a\]"),
        ({"metadata": {"labels": 7}}, "metadata.labels"),
        ({"metadata": {"ownerReferences": [{"kind": "Job"}]}}, r"metadata.ownerReferences\[0\].name"),
        ({"spec": {"containers": [{"name": "a", "env": [{}]}]}}, r"spec.containers\[0\].env\[0\].name"),
        (
            {"spec": {"containers": [], "securityContext": {"runAsUser": True}}},
            "spec.securityContext.runAsUser",
        ),
        ({"spec": {"containers": [], "hostNetwork": "no"}}, "spec.hostNetwork"),
    ],
)
def test_wrong_type_within_a_pod_is_named_by_its_path(members: dict[str, Any], path: str) -> None:
    """What the webhook reads has the type that it counts on; null is like absent."""
    pod = {"metadata": {"labels": None}, "spec": {"containers": [{"name": "a"}], "os": None}}
    assert parse(build_review(object=pod)).pod == pod
    with pytest.raises(MalformedReviewError, match=f"object.{path} is missing or has the wrong type"):
        parse(build_review(object={**pod, **members}))


def test_patch_is_answered_in_base64() -> None:
    """The patch is a JSON patch in base64, with its warnings."""
    operations = ({"op": "add", "path": "/a", "value": "é"},)
    answer = build_answer("u-1", Injection(operations, ("careful",)))
    response = answer["response"]
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u-1", True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == list(operations)
    assert response["warnings"] == ["careful"]


def test_nothing_to_do_is_answered_without_patch() -> None:
    """An empty patch isn't sent."""
    assert build_answer("u-1", Injection())["response"] == {"uid": "u-1", "allowed": True}


def test_refusal_is_answered_with_a_status() -> None:
    """Code, reason and message reach the user."""
    refusal = Refusal("spec.x: no", 422, "Invalid")
    assert build_answer("u-1", Injection(refusal=refusal))["response"] == {
        "uid": "u-1",
        "allowed": False,
        "status": {"status": "Failure", "code": 422, "reason": "Invalid", "message": "spec.x: no"},
    }
