"""AdmissionReview v1: untrusted bytes to a typed request, and a decision to the answer; pure.

Zone: no secrets. Source: Kubernetes "Dynamic Admission Control", sections "Request" and "Response".
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from datakeys.webhook.patches import WORKLOAD_KINDS, Injection
from datakeys.webhook.shapes import ShapeError, check_pod, check_workload

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

#: JSON of few bytes can take thirty times as many in memory. An object with half as many members as this
#: wouldn't fit into etcd.
MAX_VALUES: Final = 200_000

JsonObject = dict[str, Any]

_WORKLOAD_GROUPS: Final = ("apps", "batch")


class MalformedReviewError(Exception):
    """The body isn't an AdmissionReview v1 of what this webhook is for; the message names the member."""


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """The request: its uid, the object's namespace and name, and the object.

    Attributes:
        pod: The pod, if it is a pod's creation.
        workload: The workload, if one is created or changed.
        old_workload: What it was before the change.
    """

    uid: str
    namespace: str
    name: str
    pod: JsonObject | None = None
    workload: JsonObject | None = None
    old_workload: JsonObject | None = None


def parse_review(body: bytes) -> ReviewRequest:
    """Parse a request body.

    Raises:
        MalformedReviewError: The body is anything else than an AdmissionReview v1.
    """
    if sum(map(body.count, (b"{", b"[", b","))) > MAX_VALUES:
        raise MalformedReviewError(f"the body has more than {MAX_VALUES:,} values")
    try:
        review = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedReviewError("the body isn't JSON") from None
    if not isinstance(review, dict) or review.get("apiVersion") != API_VERSION or review.get("kind") != KIND:
        raise MalformedReviewError(f"the body must be an {KIND} of {API_VERSION}")
    request = _take(review, "request", dict)
    uid = _take(request, "uid", str)
    if not uid:
        raise MalformedReviewError("uid is empty")
    namespace = request.get("namespace") or ""
    is_pod, is_workload = _is_pod_creation(request), _is_workload_write(request)
    if not is_pod and not is_workload:
        return ReviewRequest(uid, str(namespace), "")
    if not isinstance(namespace, str) or not namespace:
        raise MalformedReviewError("namespace is missing")
    found = _take(request, "object", dict)
    old = _take(request, "oldObject", dict) if is_workload and request["operation"] == "UPDATE" else None
    try:
        for one in (found, old) if old else (found,):
            check_pod(one) if is_pod else check_workload(one)
    except ShapeError as error:
        raise MalformedReviewError(str(error)) from None
    name = found["metadata"].get("name") or found["metadata"].get("generateName") or ""
    if is_pod:
        return ReviewRequest(uid, namespace, name, pod=found)
    return ReviewRequest(uid, namespace, name, workload=found, old_workload=old)


def build_answer(uid: str, injection: Injection) -> JsonObject:
    """Return the AdmissionReview that answers a request."""
    response: JsonObject = {"uid": uid, "allowed": injection.refusal is None}
    if injection.refusal:
        response["status"] = {
            "status": "Failure",
            "code": injection.refusal.code,
            "reason": injection.refusal.reason,
            "message": injection.refusal.message,
        }
    elif injection.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(injection.patch).encode()).decode()
    if injection.warnings:
        response["warnings"] = list(injection.warnings)
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def _is_pod_creation(request: JsonObject) -> bool:
    resource = request.get("resource")
    return (
        isinstance(resource, dict)
        and (resource.get("group"), resource.get("resource")) == ("", "pods")
        and not request.get("subResource")
        and request.get("operation") == "CREATE"
    )


def _is_workload_write(request: JsonObject) -> bool:
    kind = request.get("kind")
    return (
        isinstance(kind, dict)
        and kind.get("group") in _WORKLOAD_GROUPS
        and kind.get("kind") in WORKLOAD_KINDS
        and not request.get("subResource")
        and request.get("operation") in ("CREATE", "UPDATE")
    )


def _take(parent: JsonObject, member: str, kind: type) -> Any:  # noqa: ANN401 - the caller names the type
    value = parent.get(member)
    if not isinstance(value, kind):
        raise MalformedReviewError(f"{member} is missing or has the wrong type")
    return value
