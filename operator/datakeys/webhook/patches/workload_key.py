"""Which DataKeyRequest the operator makes for a pod's workload. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datakeys.contract.identity import ANNOTATION_SCOPE, ANNOTATION_WORKLOAD
from datakeys.contract.pod_workload import POD, PodWorkloadError, find_pod_workload
from datakeys.contract.workload import (
    AnnotationError,
    Scope,
    Workload,
    build_request_name,
    find_ordinal,
    parse_workload_wish,
)
from datakeys.webhook.patches.refusal import RefusedError


@dataclass(frozen=True, slots=True)
class WorkloadKey:
    """The data key that the operator makes for the pod's workload.

    Attributes:
        name: Under which name it is delivered.
        request: Name of the DataKeyRequest.
        workload: The pod's workload.
        stamp: Whether the pod itself must be stamped with it: its own name isn't known yet.
    """

    name: str
    request: str
    workload: Workload
    stamp: bool = False


def parse_workload_key(pod: Mapping[str, Any]) -> WorkloadKey | None:
    """Return the data key that a pod gets by ``datakeys.dev/key``; None if it doesn't ask for one.

    Raises:
        RefusedError: An annotation is malformed, or the pod has no name to bind a data key to.
    """
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    try:
        wish = parse_workload_wish(annotations)
        if wish is None:
            return None
        workload = find_pod_workload(metadata)
    except (AnnotationError, PodWorkloadError) as error:
        raise RefusedError(str(error)) from None
    stamp = workload.kind == POD and not metadata.get("name") and ANNOTATION_WORKLOAD not in annotations
    ordinal = _find_ordinal(workload, metadata.get("name") or "") if wish.scope is Scope.POD else None
    return WorkloadKey(wish.key_name, build_request_name(workload, ordinal), workload, stamp)


def _find_ordinal(workload: Workload, pod_name: str) -> int:
    ordinal = find_ordinal(workload, pod_name)
    if ordinal is None:
        raise RefusedError(
            f"annotation {ANNOTATION_SCOPE}: pod is for the pods of a StatefulSet; {pod_name or 'this pod'} "
            f"of {workload} has no ordinal"
        )
    return ordinal
