"""As which user the sidecar runs. Zone: no secrets, no I/O.

Its user owns the delivered files, and is the one whom the socket answers.
A sidecar without capabilities can't give files away. So with mode 0400 it runs as the one user that reads
them; with 0440 the volume's group (``fsGroup``) reads too, with 0444 every user of the receiving containers.
"""

from collections.abc import Sequence
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_CONTAINERS,
    ANNOTATION_DELIVERY,
    ANNOTATION_FILE_MODE,
    ANNOTATION_FILE_OWNER,
)
from datakeys.webhook.patches.annotations import Pod, Receiver
from datakeys.webhook.patches.delivery import EVERYBODY, GROUP_TOO, SOCKET, Delivery
from datakeys.webhook.patches.refusal import RefusedError

#: The sidecar's user where nobody else's is needed: in the image it is the default too.
SIDECAR_USER: Final = 65532


def choose_user(pod: Pod, receivers: Sequence[Receiver], delivery: Delivery) -> int:
    """Return the UID that the sidecar runs as.

    Raises:
        RefusedError: A receiver's UID isn't known, or they differ, and the files' mode doesn't help.
    """
    users = [(receiver, _find_user(pod, receiver)) for receiver in receivers]
    if is_readable_by_others(pod, delivery):
        known = [user for _, user in users if user]
        return delivery.file_owner if delivery.file_owner is not None else next(iter(known), SIDECAR_USER)
    found: dict[int, str] = {}
    for receiver, user in users:
        name = receiver.container["name"]
        owner = delivery.file_owner if user is None else user
        if owner is None:
            raise RefusedError(
                "spec.securityContext.runAsUser: is needed, because the data key belongs to one user; set it "
                f"to the UID of the image of container {name}, or give that UID in annotation "
                f"{ANNOTATION_FILE_OWNER}"
            )
        if delivery.file_owner not in (None, owner):
            raise RefusedError(
                f"annotation {ANNOTATION_FILE_OWNER}: is {delivery.file_owner}, but container {name} runs as "
                f"{owner} and couldn't read its data key; remove the annotation"
            )
        found.setdefault(owner, name)
    if len(found) > 1:
        raise RefusedError(_describe_difference(found, delivery))
    return next(iter(found))


def is_readable_by_others(pod: Pod, delivery: Delivery) -> bool:
    """Return whether receivers can read the files, whatever their UIDs are."""
    if delivery.mode == SOCKET:
        return False
    has_group = (pod["spec"].get("securityContext") or {}).get("fsGroup") is not None
    return delivery.file_mode == EVERYBODY or (delivery.file_mode == GROUP_TOO and has_group)


def _find_user(pod: Pod, receiver: Receiver) -> int | None:
    """Return the UID that the spec gives a container; None: its image decides."""
    contexts: list[dict[str, Any]] = [
        receiver.container.get("securityContext") or {},
        pod["spec"].get("securityContext") or {},
    ]
    return next((one["runAsUser"] for one in contexts if one.get("runAsUser") is not None), None)


def _describe_difference(found: dict[int, str], delivery: Delivery) -> str:
    (first, name), (second, other) = list(found.items())[:2]
    if delivery.mode == SOCKET:
        way_out = f"use {ANNOTATION_DELIVERY} file with {ANNOTATION_FILE_MODE} 0440"
    elif delivery.file_mode == GROUP_TOO:
        way_out = "set spec.securityContext.fsGroup, the group of the files"
    else:
        way_out = f"set spec.securityContext.fsGroup and annotation {ANNOTATION_FILE_MODE} 0440"
    return (
        f"spec.securityContext.runAsUser: containers {name} ({first}) and {other} ({second}) get data keys "
        f"but run as different users; {way_out}, or name those of one user in annotation "
        f"{ANNOTATION_CONTAINERS}"
    )
