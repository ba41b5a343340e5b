"""Pods that can't be injected as they are. Zone: no secrets, no I/O.

Each rule raises a :class:`RefusedError` that names the field and what to do about it.
"""

import posixpath
from collections.abc import Sequence
from typing import Final

from datakeys.contract.identity import SIDECAR_NAME
from datakeys.webhook.patches.annotations import Pod, Receiver, iterate_containers
from datakeys.webhook.patches.layout import GATE_NAME, ROOT
from datakeys.webhook.patches.refusal import RefusedError

_LINUX: Final = "linux"
#: Source: Kubernetes "Well-Known Labels, Annotations and Taints".
_OS_LABEL: Final = "kubernetes.io/os"


def check_platform(pod: Pod) -> None:
    """Refuse pods for other systems than Linux."""
    spec = pod["spec"]
    system = (spec.get("os") or {}).get("name")
    if (system or _LINUX) != _LINUX:
        raise RefusedError("spec.os.name: data keys are delivered to Linux containers only")
    if (spec.get("nodeSelector") or {}).get(_OS_LABEL, _LINUX) != _LINUX:
        raise RefusedError(
            f"spec.nodeSelector: {_OS_LABEL}: data keys are delivered to Linux containers only"
        )


def check_names(pod: Pod) -> None:
    """Refuse pods with a container of the sidecar's name, by which people and tools find it."""
    for one in iterate_containers(pod):
        name = one.container["name"]
        if name in (SIDECAR_NAME, GATE_NAME):
            raise RefusedError(f"{one.field}.name: {name} is reserved for the injected sidecar")


def check_mount_paths(receivers: Sequence[Receiver]) -> None:
    """Refuse mounts at the place of the data keys."""
    for receiver in receivers:
        for index, mount in enumerate(receiver.container.get("volumeMounts") or []):
            if _is_reserved(mount["mountPath"]):
                raise RefusedError(
                    f"{receiver.field}.volumeMounts[{index}].mountPath: {ROOT} is reserved for data keys; "
                    "mount the volume elsewhere"
                )


def _is_reserved(path: str) -> bool:
    """Return whether a path is the reserved folder or inside; /var/run is a link to /run in most images."""
    normal = posixpath.normpath("/" + path.lstrip("/"))
    inner = ROOT.removeprefix("/var")
    return any(normal == root or normal.startswith(root + "/") for root in (ROOT, inner))
