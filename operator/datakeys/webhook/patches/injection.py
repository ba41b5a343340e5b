"""The decision about one pod: leave it, refuse it, or patch it. Zone: no secrets, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_INJECTED, LABEL_INJECT
from datakeys.webhook.patches.annotations import Pod, Receiver, Wishes, parse_wishes, select_receivers
from datakeys.webhook.patches.aws_endpoint import build_variables, check_endpoint
from datakeys.webhook.patches.clashes import check_mount_paths, check_names, check_platform, find_user
from datakeys.webhook.patches.layout import SIDECAR_NAME
from datakeys.webhook.patches.refusal import Refusal, RefusedError
from datakeys.webhook.patches.request_facts import RequestFacts
from datakeys.webhook.patches.sidecar import (
    SIDECAR_USER,
    SidecarSettings,
    build_keys_mount,
    build_sidecar,
    build_volumes,
)

Operation = dict[str, Any]

_DEFAULT_SERVICE_ACCOUNT: Final = "default"


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
        return parse_wishes(pod).requests
    except RefusedError:
        return ()


def build_injection(
    pod: Pod, requests: Mapping[str, RequestFacts | None], settings: SidecarSettings
) -> Injection:
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
        check_platform(pod)
        check_names(pod)
        receivers = select_receivers(pod, wishes)
        check_mount_paths(receivers)
        if wishes.endpoint_port:
            check_endpoint(pod, receivers, wishes.endpoint_port)
        user = find_user(pod, receivers) if wishes.requests else SIDECAR_USER
    except RefusedError as error:
        return Injection(refusal=Refusal(error.message))
    facts = {name: requests.get(name) for name in wishes.requests}
    sidecar = build_sidecar(pod, wishes, settings, user=user)
    secret_names = {name: found.secret_name if found else name for name, found in facts.items()}
    return Injection(
        (
            *_build_receiver_patch(receivers, wishes, settings.region),
            *_build_patch(pod, sidecar, build_volumes(secret_names)),
        ),
        tuple(_build_warnings(pod, facts)),
    )


def _wants_injection(pod: Pod) -> bool:
    """Return whether the pod has the label and isn't injected yet.

    The annotation alone proves nothing: only together with the sidecar the pod is taken as injected.
    """
    metadata = pod["metadata"]
    labelled = (metadata.get("labels") or {}).get(LABEL_INJECT) == "true"
    annotated = ANNOTATION_INJECTED in (metadata.get("annotations") or {})
    has_sidecar = any(
        container["name"] == SIDECAR_NAME and container.get("restartPolicy") == "Always"
        for container in pod["spec"].get("initContainers") or []
    )
    return labelled and not (annotated and has_sidecar)


def _build_receiver_patch(receivers: Sequence[Receiver], wishes: Wishes, region: str) -> list[Operation]:
    """Return the operations on the containers that get the data keys or the KMS endpoint."""
    operations = []
    for receiver in receivers:
        path = f"/spec/{receiver.kind}/{receiver.index}"
        container = receiver.container
        if wishes.requests:
            mounts = container.get("volumeMounts")
            operations += _append(f"{path}/volumeMounts", mounts, [build_keys_mount()])
        if wishes.endpoint_port:
            variables: list[Operation] = [*build_variables(container, wishes.endpoint_port, region)]
            operations += _append(f"{path}/env", container.get("env"), variables)
    return operations


def _build_patch(pod: Pod, sidecar: Operation, volumes: list[Operation]) -> list[Operation]:
    """Return the operations; the sidecar comes last, since it moves the other init containers."""
    spec = pod["spec"]
    operations = [_add(f"/metadata/annotations/{_escape(ANNOTATION_INJECTED)}", sidecar["image"])]
    operations += _append("/spec/volumes", spec.get("volumes"), volumes)
    if spec.get("initContainers"):
        operations.append(_add("/spec/initContainers/0", sidecar))
    else:
        operations.append(_add("/spec/initContainers", [sidecar]))
    return operations


def _build_warnings(pod: Pod, facts: Mapping[str, RequestFacts | None]) -> list[str]:
    """Return warnings for the user: short, since the API server cuts them."""
    account = pod["spec"].get("serviceAccountName") or _DEFAULT_SERVICE_ACCOUNT
    warnings = []
    for name, found in facts.items():
        if found is None:
            warnings.append(f"DataKeyRequest {name} not found: the pod waits for Secret {name}")
        elif found.dry_run:
            warnings.append(f"DataKeyRequest {name} is a dry run, it gets no Secret: the pod waits")
        elif found.service_account_name != account:
            warnings.append(
                f"DataKeyRequest {name} is for ServiceAccount {found.service_account_name}: "
                f"{account} needs a KmsGrant, or will be refused"
            )
    return warnings


def _append(path: str, present: Sequence[Any] | None, items: list[Operation]) -> list[Operation]:
    if present:
        return [_add(f"{path}/-", item) for item in items]
    return [_add(path, items)]


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escape(key: str) -> str:
    """Source: RFC 6901, section 3."""
    return key.replace("~", "~0").replace("/", "~1")
