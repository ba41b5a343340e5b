"""What a pod's annotations ask for. Zone: no secrets, no I/O; annotations are untrusted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_AWS_ENDPOINT,
    ANNOTATION_AWS_ENDPOINT_PORT,
    ANNOTATION_CONTAINERS,
    ANNOTATION_DELIVERY,
    ANNOTATION_KEY,
    ANNOTATION_KEY_NAME,
    ANNOTATION_REQUESTS,
)
from datakeys.contract.workload import is_object_name
from datakeys.webhook.patches.delivery import INIT, Delivery, parse_delivery
from datakeys.webhook.patches.refusal import RefusedError
from datakeys.webhook.patches.workload_key import WorkloadKey, parse_workload_key

Pod = Mapping[str, Any]

DEFAULT_ENDPOINT_PORT: Final = 4599
_LOWEST_PORT: Final = 1024
_HIGHEST_PORT: Final = 65535
MAX_REQUESTS: Final = 32


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a pod gets.

    Attributes:
        keys: The name under which a data key is delivered -> its DataKeyRequest.
        delivery: How they are delivered.
        containers: Who gets them; empty: all of ``spec.containers``.
        endpoint_port: The KMS endpoint's port on loopback; 0: there is none. With it a pod needs no data key.
        workload_key: The one of ``keys`` that the operator makes, or None.
    """

    keys: Mapping[str, str]
    delivery: Delivery
    containers: tuple[str, ...]
    endpoint_port: int = 0
    workload_key: WorkloadKey | None = None


@dataclass(frozen=True, slots=True)
class Receiver:
    """A container that gets the data keys, and where it stands in the pod."""

    container: Mapping[str, Any]
    #: ``containers`` or ``initContainers``.
    kind: str
    index: int

    @property
    def field(self) -> str:
        """Return the container's field path, for messages."""
        return f"spec.{self.kind}[{self.index}]"


def parse_wishes(pod: Pod) -> Wishes:
    """Parse the annotations.

    Raises:
        RefusedError: An annotation is missing or malformed; the message names it.
    """
    annotations = pod["metadata"].get("annotations") or {}
    delivery = parse_delivery(annotations)
    containers: tuple[str, ...] = ()
    if ANNOTATION_CONTAINERS in annotations:
        containers = _parse_names(annotations[ANNOTATION_CONTAINERS], ANNOTATION_CONTAINERS)
    port = _parse_endpoint(annotations)
    if port and delivery.mode == INIT:
        raise RefusedError(
            f"annotation {ANNOTATION_AWS_ENDPOINT}: can't be combined with {ANNOTATION_DELIVERY} init, "
            "because nothing of the sidecar is left to serve it; use file or socket"
        )
    workload_key = parse_workload_key(pod)
    keys = _parse_requests(annotations)
    if workload_key:
        keys = _add_workload_key(keys, workload_key)
    if not keys and not port:
        raise RefusedError(
            f"annotation {ANNOTATION_REQUESTS}: is missing; name the DataKeyRequests that the pod needs, or "
            f"give {ANNOTATION_KEY} and let the operator make one"
        )
    return Wishes(keys, delivery, containers, port, workload_key)


def iterate_containers(pod: Pod) -> Iterator[Receiver]:
    """Give every container and init container; ephemeral ones don't exist when a pod is created."""
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(pod["spec"].get(kind) or []):
            yield Receiver(container, kind, index)


def select_receivers(pod: Pod, wishes: Wishes) -> list[Receiver]:
    """Return the containers that get the data keys; init containers only if they are named.

    Raises:
        RefusedError: The annotation names a container that the pod doesn't have, or it has none at all.
    """
    everything = list(iterate_containers(pod))
    if not pod["spec"]["containers"]:
        # The API server refuses such a pod too, but only after its webhooks.
        raise RefusedError("spec.containers: is empty; a pod needs a container that gets the data keys")
    if not wishes.containers:
        return [one for one in everything if one.kind == "containers"]
    unknown = set(wishes.containers) - {one.container["name"] for one in everything}
    if unknown:
        raise RefusedError(f"annotation {ANNOTATION_CONTAINERS}: the pod has no container {min(unknown)}")
    return [one for one in everything if one.container["name"] in wishes.containers]


def _parse_requests(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the requests that the pod names itself, each delivered under its own name."""
    if ANNOTATION_REQUESTS not in annotations:
        return {}
    names = _parse_names(annotations[ANNOTATION_REQUESTS], ANNOTATION_REQUESTS)
    if len(names) > MAX_REQUESTS:
        raise RefusedError(
            f"annotation {ANNOTATION_REQUESTS}: names more than {MAX_REQUESTS} DataKeyRequests"
        )
    return {name: name for name in names}


def _add_workload_key(keys: Mapping[str, str], key: WorkloadKey) -> dict[str, str]:
    if key.name in keys:
        raise RefusedError(
            f"annotation {ANNOTATION_KEY_NAME}: {key.name} is also in {ANNOTATION_REQUESTS}; choose another "
            f"name for the data key of {ANNOTATION_KEY}"
        )
    return {key.name: key.request, **keys}


def _parse_endpoint(annotations: Mapping[str, str]) -> int:
    """Return the KMS endpoint's port, 0 if none is asked for."""
    asked = annotations.get(ANNOTATION_AWS_ENDPOINT, "false")
    if asked not in ("true", "false"):
        raise RefusedError(f"annotation {ANNOTATION_AWS_ENDPOINT}: must be true or false")
    text = annotations.get(ANNOTATION_AWS_ENDPOINT_PORT, str(DEFAULT_ENDPOINT_PORT))
    fits = text.isascii() and text.isdecimal() and len(text) <= len(str(_HIGHEST_PORT))
    if not fits or not _LOWEST_PORT <= int(text) <= _HIGHEST_PORT:
        raise RefusedError(
            f"annotation {ANNOTATION_AWS_ENDPOINT_PORT}: must be a port "
            f"from {_LOWEST_PORT} to {_HIGHEST_PORT}"
        )
    return int(text) if asked == "true" else 0


def _parse_names(text: str, annotation: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not is_object_name(name):
            raise RefusedError(
                f"annotation {annotation}: {name[:64]!r} is not a name; give names separated by commas"
            )
    if len(set(names)) < len(names):
        raise RefusedError(f"annotation {annotation}: a name is given twice")
    return names
