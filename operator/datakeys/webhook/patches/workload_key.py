"""Which workload a pod belongs to, and which DataKeyRequest the operator makes for it.

Zone: no secrets, no I/O. The stamp is untrusted like every annotation: a wrong one names a data key that the
key service refuses to this pod.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_KEY,
    ANNOTATION_REQUESTS,
    ANNOTATION_SCOPE,
    ANNOTATION_WORKLOAD,
)
from datakeys.contract.workload import (
    AnnotationError,
    Scope,
    Workload,
    build_request_name,
    find_ordinal,
    is_object_name,
    parse_workload_wish,
)
from datakeys.webhook.patches.refusal import RefusedError

STATEFUL_SET: Final = "StatefulSet"
_POD: Final = "Pod"


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
    except AnnotationError as error:
        raise RefusedError(str(error)) from None
    if wish is None:
        return None
    workload, stamp = _find_workload(metadata, annotations)
    ordinal = _find_ordinal(workload, metadata.get("name") or "") if wish.scope is Scope.POD else None
    return WorkloadKey(wish.key_name, build_request_name(workload, ordinal), workload, stamp)


def _find_workload(metadata: Mapping[str, Any], annotations: Mapping[str, str]) -> tuple[Workload, bool]:
    """Return the workload, and whether only a stamp can tell it later."""
    stamp = annotations.get(ANNOTATION_WORKLOAD)
    if stamp is not None:
        try:
            return Workload.parse(stamp), False
        except ValueError as error:
            raise RefusedError(f"annotation {ANNOTATION_WORKLOAD}: is {error}") from None
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner:
        return _check_owner(Workload(owner["kind"], owner["name"])), False
    if metadata.get("name"):
        return Workload(_POD, metadata["name"]), False
    prefix = (metadata.get("generateName") or "").rstrip("-.")
    if not is_object_name(prefix):
        raise RefusedError(
            f"metadata.generateName: the data key of annotation {ANNOTATION_KEY} is named after the pod; "
            "give metadata.name, or a prefix that is a name"
        )
    return Workload(_POD, prefix), True


def _check_owner(owner: Workload) -> Workload:
    """Refuse ReplicaSets: each rollout makes another one, which would get another data key."""
    if owner.kind != "ReplicaSet":
        return owner
    raise RefusedError(
        f"annotation {ANNOTATION_KEY}: the pod's owner {owner} lives only until the next rollout; put the "
        "annotation on the Deployment and apply it again, or make a DataKeyRequest and name it in annotation "
        f"{ANNOTATION_REQUESTS}"
    )


def _find_ordinal(workload: Workload, pod_name: str) -> int:
    ordinal = find_ordinal(workload, pod_name) if workload.kind == STATEFUL_SET else None
    if ordinal is None:
        raise RefusedError(
            f"annotation {ANNOTATION_SCOPE}: pod is for the pods of a StatefulSet; {pod_name or 'this pod'} "
            f"of {workload} has no ordinal"
        )
    return ordinal
