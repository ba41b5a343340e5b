"""The decision about one pod: leave it, refuse it, or patch it. Zone: no secrets, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_AWS_ENDPOINT,
    ANNOTATION_INJECTED,
    ANNOTATION_KEY,
    ANNOTATION_REQUESTS,
    ANNOTATION_WORKLOAD,
    LABEL_INJECT,
)
from datakeys.webhook.patches.annotations import (
    Pod,
    Receiver,
    Wishes,
    iterate_containers,
    parse_wishes,
    select_receivers,
)
from datakeys.webhook.patches.aws_endpoint import build_variables, check_endpoint
from datakeys.webhook.patches.clashes import check_mount_paths, check_names, check_platform
from datakeys.webhook.patches.data_keys import Facts, build_request_warnings, build_secret_names
from datakeys.webhook.patches.layout import choose_volume_names
from datakeys.webhook.patches.operations import Operation, add, append, set_members
from datakeys.webhook.patches.placement import decide_placement
from datakeys.webhook.patches.refusal import Refusal, RefusedError
from datakeys.webhook.patches.sidecar import SidecarSettings, build_containers, is_sidecar
from datakeys.webhook.patches.users import SIDECAR_USER, choose_user
from datakeys.webhook.patches.volumes import build_keys_mount, build_volumes

INJECT: Final = "true"
_CLUSTER_FIRST: Final = "ClusterFirst"


@dataclass(frozen=True, slots=True)
class Injection:
    """The decision: a JSON patch (RFC 6902, may be empty) with warnings, or a refusal."""

    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: Refusal | None = None


def find_requests(pod: Pod) -> tuple[str, ...]:
    """Return the DataKeyRequests to look up for a pod; none if it is left as it is, or refused anyway."""
    if not _wants_injection(pod):
        return ()
    try:
        return tuple(dict.fromkeys(parse_wishes(pod).keys.values()))
    except RefusedError:
        return ()


def build_injection(pod: Pod, requests: Facts, settings: SidecarSettings) -> Injection:
    """Decide about a pod.

    Args:
        pod: The pod as the API server sends it.
        requests: The facts of each DataKeyRequest that :func:`find_requests` names; None if it doesn't exist
            (yet). Then its Secret is taken to have its name: a wrong guess is safe, since the pod waits for
            the Secret and never starts without it.
        settings: What to inject.
    """
    if not _wants_injection(pod):
        return Injection()
    try:
        wishes = parse_wishes(pod)
        return Injection(
            tuple(_build_patch(pod, wishes, requests, settings)),
            tuple(_build_warnings(pod, wishes, requests)),
        )
    except RefusedError as error:
        return Injection(refusal=Refusal(error.message))


def is_asking(annotations: Mapping[str, str]) -> bool:
    """Return whether annotations ask for data keys or for the KMS endpoint."""
    return (
        ANNOTATION_KEY in annotations
        or ANNOTATION_REQUESTS in annotations
        or annotations.get(ANNOTATION_AWS_ENDPOINT) == "true"
    )


def _wants_injection(pod: Pod) -> bool:
    """Return whether the pod asks, by its label or by annotations alone, and isn't injected yet.

    Another value of the label than "true" is the user's no. The annotation that the webhook leaves proves
    nothing: only together with the sidecar the pod is taken as injected.
    """
    annotations = pod["metadata"].get("annotations") or {}
    label = (pod["metadata"].get("labels") or {}).get(LABEL_INJECT)
    asked = label == INJECT or (label is None and is_asking(annotations))
    injected = ANNOTATION_INJECTED in annotations and any(
        is_sidecar(one.container) for one in iterate_containers(pod)
    )
    return asked and not injected


def _build_patch(pod: Pod, wishes: Wishes, facts: Facts, settings: SidecarSettings) -> list[Operation]:
    """Return the operations; our containers come last, since they move the others."""
    check_platform(pod)
    check_names(pod)
    receivers = select_receivers(pod, wishes)
    check_mount_paths(receivers)
    if wishes.endpoint_port:
        check_endpoint(pod, receivers, wishes.endpoint_port)
    placement = decide_placement(pod, wishes, receivers, settings.kind)
    secret_names = build_secret_names(wishes, facts)
    volume_names = choose_volume_names(pod["spec"])
    containers = build_containers(
        pod,
        wishes,
        secret_names,
        settings,
        user=choose_user(pod, receivers, wishes.delivery) if wishes.keys else SIDECAR_USER,
        placement=placement,
        volume_names=volume_names,
    )
    return [
        *_build_metadata_patch(pod, wishes, settings.image),
        *_build_receiver_patch(receivers, wishes, settings.region, build_keys_mount(volume_names)),
        *append("/spec/volumes", pod["spec"].get("volumes"), build_volumes(secret_names, volume_names)),
        *(_insert_first(pod, kind, container) for kind, container in containers.items()),
    ]


def _build_metadata_patch(pod: Pod, wishes: Wishes, image: str) -> list[Operation]:
    """Return the operations that mark the pod as injected, and name its workload where only this can."""
    metadata, key = pod["metadata"], wishes.workload_key
    stamp = {ANNOTATION_WORKLOAD: str(key.workload)} if key and key.stamp else {}
    annotations = {ANNOTATION_INJECTED: image, **stamp}
    return [
        *set_members("/metadata/labels", metadata.get("labels"), {LABEL_INJECT: INJECT}),
        *set_members("/metadata/annotations", metadata.get("annotations"), annotations),
    ]


def _build_receiver_patch(
    receivers: Sequence[Receiver], wishes: Wishes, region: str, keys_mount: Operation
) -> list[Operation]:
    """Return the operations on the containers that get the data keys or the KMS endpoint."""
    operations = []
    for receiver in receivers:
        path = f"/spec/{receiver.kind}/{receiver.index}"
        container = receiver.container
        if wishes.keys:
            operations += append(f"{path}/volumeMounts", container.get("volumeMounts"), [keys_mount])
        if wishes.endpoint_port:
            variables = build_variables(container, wishes.endpoint_port, region)
            operations += append(f"{path}/env", container.get("env"), variables)
    return operations


def _insert_first(pod: Pod, kind: str, container: dict[str, Any]) -> Operation:
    if pod["spec"].get(kind):
        return add(f"/spec/{kind}/0", container)
    return add(f"/spec/{kind}", [container])


def _build_warnings(pod: Pod, wishes: Wishes, facts: Facts) -> list[str]:
    warnings = build_request_warnings(pod, wishes, facts)
    shared = next((name for name in ("shareProcessNamespace", "hostPID") if pod["spec"].get(name)), None)
    receivers = {one.container["name"] for one in select_receivers(pod, wishes)}
    others = [one for one in pod["spec"]["containers"] if one["name"] not in receivers]
    if shared and others:
        warnings.append(f"spec.{shared}: container {others[0]['name']} can reach the data keys through /proc")
    if pod["spec"].get("hostNetwork") and pod["spec"].get("dnsPolicy", _CLUSTER_FIRST) == _CLUSTER_FIRST:
        # Source: Kubernetes "DNS for Services and Pods", section "Pod's DNS Policy".
        warnings.append(
            "spec.dnsPolicy: with hostNetwork the pod asks the node's DNS, which doesn't know the key "
            "service; set ClusterFirstWithHostNet"
        )
    return warnings
