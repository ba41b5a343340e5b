"""Which workload a pod belongs to: one answer for who injects, who makes the data key and who explains.

Zone: no secrets, no I/O; annotations are untrusted. A wrong stamp names a data key that the key service
refuses to this pod.
"""

from collections.abc import Mapping
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_REQUESTS, ANNOTATION_WORKLOAD
from datakeys.contract.workload import Workload, is_object_name

POD: Final = "Pod"


class PodWorkloadError(ValueError):
    """No data key can be named after a pod's workload; the text names the field and the next step."""


def find_controller(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the ownerReference to the object that controls another one, or None.

    Source: Kubernetes API, OwnerReference: at most one has ``controller: true``.
    """
    return next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)


def find_pod_workload(metadata: Mapping[str, Any]) -> Workload:
    """Return the workload of a pod: the one it is stamped with, or its controller, or itself.

    Pods of one ``generateName`` are one workload, named by the prefix without the dashes and dots at its end:
    so the answer is the same before the API server has made a name of it and afterwards.

    Raises:
        PodWorkloadError: The stamp is malformed, or the controller or the prefix can't name a data key.
    """
    stamp = (metadata.get("annotations") or {}).get(ANNOTATION_WORKLOAD)
    if stamp is not None:
        return _parse_stamp(stamp)
    controller = find_controller(metadata)
    if controller is not None:
        return _check_controller(Workload(controller["kind"], controller["name"]))
    name = (metadata.get("generateName") or "").rstrip("-.") or metadata.get("name") or ""
    if not is_object_name(name):
        raise PodWorkloadError(
            f"metadata.generateName: the data key of annotation {ANNOTATION_KEY} is named after the pod; "
            "give metadata.name, or a prefix that is a name"
        )
    return Workload(POD, name)


def _parse_stamp(stamp: str) -> Workload:
    try:
        return Workload.parse(stamp)
    except ValueError as error:
        raise PodWorkloadError(f"annotation {ANNOTATION_WORKLOAD}: is {error}") from None


def _check_controller(owner: Workload) -> Workload:
    """Refuse those that give their pods no lasting data key, or can't inject them."""
    if owner.kind == "ReplicaSet":  # each rollout makes another one
        raise PodWorkloadError(
            f"annotation {ANNOTATION_KEY}: the pod's owner {owner} lives only until the next rollout; put "
            "the annotation on the Deployment and apply it again, or make a DataKeyRequest and name it in "
            f"annotation {ANNOTATION_REQUESTS}"
        )
    if owner.kind == "Node":  # the object is a mirror of what runs already
        raise PodWorkloadError(
            f"annotation {ANNOTATION_KEY}: this is a static pod of {owner}, which no webhook can inject; "
            "make it a DaemonSet"
        )
    return owner
