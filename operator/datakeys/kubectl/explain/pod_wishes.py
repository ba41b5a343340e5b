"""What a pod asks for, and what has been made of it. Zone: no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_AWS_ENDPOINT,
    ANNOTATION_INJECTED,
    ANNOTATION_REQUESTS,
    ANNOTATION_SCOPE,
    DEFAULT_SERVICE_ACCOUNT,
    LABEL_INJECT,
    SIDECAR_NAME,
)
from datakeys.contract.pod_workload import PodWorkloadError, find_pod_workload
from datakeys.contract.workload import (
    AnnotationError,
    Scope,
    build_request_name,
    find_ordinal,
    parse_workload_wish,
)
from datakeys.kubectl.answers import Json

#: Where the injected container finds the Secrets, as docs/architecture.md fixes it.
_PATH_ENCRYPTED: Final = "/var/run/datakeys/encrypted"


@dataclass(frozen=True, slots=True)
class PodWishes:
    """What a pod asks for.

    Attributes:
        label: The value of the label ``datakeys.dev/inject``, or None.
        requests: Names of the DataKeyRequests.
        fault: What is wrong with its annotations, or empty.
    """

    label: str | None
    requests: tuple[str, ...]
    endpoint: bool
    fault: str = ""

    @property
    def asks(self) -> bool:
        """Return whether there is an annotation that asks for something."""
        return bool(self.requests or self.endpoint or self.fault)


def read_wishes(pod: Json) -> PodWishes:
    """Read label and annotations."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    label = (metadata.get("labels") or {}).get(LABEL_INJECT)
    endpoint = annotations.get(ANNOTATION_AWS_ENDPOINT) == "true"
    try:
        own = _find_own_request(pod)
    except (AnnotationError, PodWorkloadError) as error:
        return PodWishes(label, (), endpoint, str(error))
    named = [name.strip() for name in annotations.get(ANNOTATION_REQUESTS, "").split(",") if name.strip()]
    return PodWishes(label, tuple(dict.fromkeys([*own, *named])), endpoint)


def is_injected(pod: Json) -> bool:
    """Return whether the webhook has been at a pod: its annotation and its container are there."""
    annotated = ANNOTATION_INJECTED in (pod["metadata"].get("annotations") or {})
    return annotated and any(one["name"] == SIDECAR_NAME for one in _iterate_containers(pod))


def is_init_container(pod: Json) -> bool:
    """Return whether the injected container delivers once and ends, instead of staying with the app."""
    init: list[Any] = pod["spec"].get("initContainers") or []
    return any(one["name"] == SIDECAR_NAME and one.get("restartPolicy") != "Always" for one in init)


def is_native_sidecar(pod: Json) -> bool:
    """Return whether the app starts only after the injected container's startup probe has succeeded."""
    init: list[Any] = pod["spec"].get("initContainers") or []
    return any(one["name"] == SIDECAR_NAME and one.get("restartPolicy") == "Always" for one in init)


def list_mounted_secrets(pod: Json) -> list[str]:
    """Return the names of the Secrets that the sidecar finds in its volume."""
    mounts = [
        mount["name"]
        for one in _iterate_containers(pod)
        if one["name"] == SIDECAR_NAME
        for mount in one.get("volumeMounts") or ()
        if mount["mountPath"] == _PATH_ENCRYPTED
    ]
    sources: list[Json] = [
        source
        for volume in pod["spec"].get("volumes") or ()
        if volume["name"] in mounts
        for source in (volume.get("projected") or {}).get("sources") or ()
    ]
    return list(dict.fromkeys(one["secret"]["name"] for one in sources if "secret" in one))


def account_of_pod(pod: Json) -> str:
    """Return the pod's ServiceAccount."""
    return str(pod["spec"].get("serviceAccountName") or DEFAULT_SERVICE_ACCOUNT)


def find_sidecar_status(pod: Json) -> Json | None:
    """Return the status of the injected container, None before the kubelet has written it."""
    status = pod.get("status") or {}
    listed: list[Any] = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return next((one for one in listed if one["name"] == SIDECAR_NAME), None)


def _find_own_request(pod: Json) -> list[str]:
    """Return the name of the DataKeyRequest that the operator makes for the pod's workload, if any."""
    wish = parse_workload_wish(pod["metadata"].get("annotations") or {})
    if wish is None:
        return []
    workload = find_pod_workload(pod["metadata"])
    if wish.scope is Scope.WORKLOAD:
        return [build_request_name(workload)]
    ordinal = find_ordinal(workload, pod["metadata"]["name"])
    if ordinal is None:
        raise AnnotationError(f"annotation {ANNOTATION_SCOPE}: pod is for the pods of a StatefulSet only")
    return [build_request_name(workload, ordinal)]


def _iterate_containers(pod: Json) -> Iterator[Json]:
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"].get("containers") or ()
