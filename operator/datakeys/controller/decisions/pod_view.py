"""A labelled pod as the decisions see it. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_INJECTED,
    ANNOTATION_KEY,
    DEFAULT_SERVICE_ACCOUNT,
    SIDECAR_NAME,
)
from datakeys.contract.pod_workload import PodWorkloadError, find_controller, find_pod_workload
from datakeys.contract.workload import Workload
from datakeys.controller.decisions.request_view import ObjectKey

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod with the label ``datakeys.dev/inject: "true"``.

    Attributes:
        created_at: When it was created.
        workload: Whose data key it asks for by ``datakeys.dev/key``; None if it doesn't, or nobody can tell.
        owner: The object that controls the pod, or None.
        owner_uid: UID of that object, or None.
        injected: The pod has the webhook's annotation and its container.
        phase: ``Pending``, ``Running``, ``Succeeded``, ``Failed`` or ``Unknown``.
    """

    key: ObjectKey
    uid: str
    resource_version: str
    deleting: bool
    created_at: datetime
    workload: Workload | None
    annotations: Mapping[str, str]
    service_account: str
    owner: Workload | None
    owner_api_version: str | None
    owner_uid: str | None
    injected: bool
    phase: str


def parse_pod(body: Mapping[str, Any]) -> PodView:
    """Return the view of a pod of the API."""
    metadata, spec = body["metadata"], body["spec"]
    annotations = metadata.get("annotations") or {}
    owner = find_controller(metadata)
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return PodView(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        created_at=_parse_time(metadata.get("creationTimestamp")),
        workload=_find_workload(metadata) if ANNOTATION_KEY in annotations else None,
        annotations=annotations,
        service_account=spec.get("serviceAccountName") or DEFAULT_SERVICE_ACCOUNT,
        owner=Workload(owner["kind"], owner["name"]) if owner else None,
        owner_api_version=owner["apiVersion"] if owner else None,
        owner_uid=owner["uid"] if owner else None,
        injected=ANNOTATION_INJECTED in annotations
        and any(one["name"] == SIDECAR_NAME for one in containers),
        phase=(body.get("status") or {}).get("phase", "Pending"),
    )


def _find_workload(metadata: Mapping[str, Any]) -> Workload | None:
    try:
        return find_pod_workload(metadata)
    except PodWorkloadError:
        return None


def _parse_time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else _EPOCH
