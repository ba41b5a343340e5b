"""What kind of container the sidecar is in a pod. Zone: no secrets, no I/O."""

from collections.abc import Sequence
from enum import StrEnum

from datakeys.contract.identity import (
    ANNOTATION_AWS_ENDPOINT,
    ANNOTATION_CONTAINERS,
    ANNOTATION_DELIVERY,
    ANNOTATION_READS,
    ANNOTATION_TTL,
)
from datakeys.webhook.patches.annotations import Pod, Receiver, Wishes
from datakeys.webhook.patches.delivery import FILE, INIT
from datakeys.webhook.patches.refusal import RefusedError


class SidecarKind(StrEnum):
    """What a sidecar that stays is made of, by the administrator's choice."""

    #: An init container that keeps running. Source: Kubernetes "Sidecar Containers"; on since 1.29.
    NATIVE = "native"
    #: For clusters with the feature gate SidecarContainers off.
    ORDINARY = "ordinary"


class Placement(StrEnum):
    """What the injected container is."""

    NATIVE = "native"
    #: A container beside the app's, after an init container that has shown that it can deliver.
    ORDINARY = "ordinary"
    #: An init container that delivers and ends.
    INIT = "init"


def decide_placement(pod: Pod, wishes: Wishes, receivers: Sequence[Receiver], kind: SidecarKind) -> Placement:
    """Return what the container is.

    Raises:
        RefusedError: The pod needs a native sidecar, and the administrator has chosen ordinary ones.
    """
    delivery = wishes.delivery
    if delivery.mode == INIT:
        return Placement.INIT
    if kind is SidecarKind.NATIVE:
        return Placement.NATIVE
    if delivery.mode == FILE and not delivery.is_limited and not wishes.endpoint_port:
        return Placement.INIT
    reason = _find_reason(wishes)
    if (pod["spec"].get("restartPolicy") or "Always") != "Always":
        raise RefusedError(
            f"spec.restartPolicy: must be Always with {reason}, because this cluster has no native sidecars, "
            f"and an ordinary one would keep the pod from completing; use {ANNOTATION_DELIVERY} file or init"
        )
    for receiver in receivers:
        if receiver.kind == "initContainers":
            raise RefusedError(
                f"annotation {ANNOTATION_CONTAINERS}: init container {receiver.container['name']} can't be "
                f"served with {reason}, because this cluster has no native sidecars; use "
                f"{ANNOTATION_DELIVERY} file or init"
            )
    return Placement.ORDINARY


def _find_reason(wishes: Wishes) -> str:
    """Return the annotation that needs a sidecar that stays."""
    if wishes.endpoint_port:
        return f"annotation {ANNOTATION_AWS_ENDPOINT}"
    if wishes.delivery.ttl_seconds:
        return f"annotation {ANNOTATION_TTL}"
    if wishes.delivery.reads_once:
        return f"annotation {ANNOTATION_READS}"
    return f"annotation {ANNOTATION_DELIVERY} {wishes.delivery.mode}"
