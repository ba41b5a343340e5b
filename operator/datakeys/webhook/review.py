"""AdmissionReview v1: untrusted bytes to a typed request, and a decision to the answer; pure.

Zone: no secrets. Source: Kubernetes "Dynamic Admission Control", sections "Request" and "Response".
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from datakeys.webhook.patches import Injection

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

JsonObject = dict[str, Any]


class MalformedReviewError(Exception):
    """The body isn't an AdmissionReview v1 of a pod's creation; the message names the member."""


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """The request: its uid, the pod's namespace and name, and the pod; None if it isn't a pod's creation."""

    uid: str
    namespace: str
    name: str
    pod: JsonObject | None


def parse_review(body: bytes) -> ReviewRequest:
    """Parse a request body.

    Raises:
        MalformedReviewError: The body is anything else than an AdmissionReview v1.
    """
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
    if not _is_pod_creation(request):
        return ReviewRequest(uid, str(namespace), "", None)
    pod = _take(request, "object", dict)
    metadata = _take(pod, "metadata", dict)
    if not isinstance(namespace, str) or not namespace:
        raise MalformedReviewError("namespace is missing")
    _check_containers(_take(pod, "spec", dict))
    name = metadata.get("name") or metadata.get("generateName") or ""
    return ReviewRequest(uid, namespace, str(name), pod)


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


def _check_containers(spec: JsonObject) -> None:
    """The API server has checked the pod's types; this keeps anybody else's garbage out."""
    _take(spec, "containers", list)
    for kind in ("containers", "initContainers", "volumes"):
        items = spec.get(kind) or []
        if not isinstance(items, list):
            raise MalformedReviewError(f"{kind} must be a list")
        for item in items:
            if not isinstance(item, dict):
                raise MalformedReviewError(f"{kind} must hold objects")
            _take(item, "name", str)


def _take(parent: JsonObject, member: str, kind: type) -> Any:  # noqa: ANN401 - the caller names the type
    value = parent.get(member)
    if not isinstance(value, kind):
        raise MalformedReviewError(f"{member} is missing or has the wrong type")
    return value
