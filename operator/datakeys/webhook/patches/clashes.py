"""Pods that can't be injected as they are. Zone: no secrets, no I/O.

Each rule raises a :class:`RefusedError` that names the field and what to do about it.
"""

import posixpath
from collections.abc import Sequence

from datakeys.contract.identity import ANNOTATION_CONTAINERS
from datakeys.webhook.patches.annotations import Pod, Receiver, iterate_containers
from datakeys.webhook.patches.layout import ROOT, SIDECAR_NAME, VOLUMES
from datakeys.webhook.patches.refusal import RefusedError


def check_platform(pod: Pod) -> None:
    """Refuse pods for other systems than Linux."""
    if ((pod["spec"].get("os") or {}).get("name") or "linux") != "linux":
        raise RefusedError("spec.os.name: data keys are delivered to Linux containers only")


def check_names(pod: Pod) -> None:
    """Refuse pods that use the injected names for something else."""
    for index, volume in enumerate(pod["spec"].get("volumes") or []):
        if volume["name"] in VOLUMES:
            raise RefusedError(
                f"spec.volumes[{index}].name: {volume['name']} is reserved for the injected sidecar"
            )
    for one in iterate_containers(pod):
        if one.container["name"] == SIDECAR_NAME:
            raise RefusedError(f"{one.field}.name: {SIDECAR_NAME} is reserved for the injected sidecar")
        for index, mount in enumerate(one.container.get("volumeMounts") or []):
            if mount["name"] in VOLUMES:
                raise RefusedError(
                    f"{one.field}.volumeMounts[{index}].name: {mount['name']} is mounted by the webhook; "
                    f"use the annotation {ANNOTATION_CONTAINERS} to choose the containers"
                )


def check_mount_paths(receivers: Sequence[Receiver]) -> None:
    """Refuse mounts at the place of the data keys."""
    for receiver in receivers:
        for index, mount in enumerate(receiver.container.get("volumeMounts") or []):
            if _is_reserved(mount["mountPath"]):
                raise RefusedError(
                    f"{receiver.field}.volumeMounts[{index}].mountPath: {ROOT} is reserved for data keys; "
                    "mount the volume elsewhere"
                )


def find_user(pod: Pod, receivers: Sequence[Receiver]) -> int:
    """Return the one UID that all receivers run as: the sidecar runs as it too.

    A data key's file has mode 0400, and a sidecar without capabilities can't give files away.

    Raises:
        RefusedError: A receiver's UID isn't known, or they differ.
    """
    pod_user = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users: dict[int, str] = {}
    for receiver in receivers:
        user = (receiver.container.get("securityContext") or {}).get("runAsUser")
        user = pod_user if user is None else user
        if user is None:
            raise RefusedError(
                f"spec.securityContext.runAsUser: is needed, because the data key belongs to one user; "
                f"set it to the UID of the image of container {receiver.container['name']}"
            )
        users.setdefault(user, receiver.container["name"])
    if len(users) > 1:
        (first, name), (second, other) = list(users.items())[:2]
        raise RefusedError(
            f"spec.securityContext.runAsUser: containers {name} ({first}) and {other} ({second}) get data "
            f"keys but run as different users; let them run as one, or name those of one in annotation "
            f"{ANNOTATION_CONTAINERS}"
        )
    return next(iter(users))


def _is_reserved(path: str) -> bool:
    """Return whether a path is the reserved folder or inside; /var/run is a link to /run in most images."""
    normal = posixpath.normpath("/" + path.lstrip("/"))
    inner = ROOT.removeprefix("/var")
    return any(normal == root or normal.startswith(root + "/") for root in (ROOT, inner))
