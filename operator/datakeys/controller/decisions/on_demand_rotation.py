"""Rotation on demand: once for each new text of ``spec.rotateOnDemand``. Zone: no secrets, no I/O.

RotateKeyOnDemand isn't safe to repeat. So what is to be done is written into the status first, with the key
material from before: whoever finds that there, and other material at the key, knows that it is done.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any


class RotationStep(Enum):
    """What the demand needs; ``ANNOUNCE`` is to be followed by ``ROTATE``."""

    NOTHING = auto()
    ANNOUNCE = auto()
    ROTATE = auto()
    RECORD = auto()


def decide_rotation_step(
    spec: Mapping[str, Any], status: Mapping[str, Any], material_id: str | None
) -> RotationStep:
    """Return the next step.

    Args:
        spec: What the KmsKey says.
        status: Its status.
        material_id: The key's current material.
    """
    wanted, told = spec.get("rotateOnDemand"), status.get("onDemandRotation") or {}
    if not wanted or told.get("request") == wanted:
        return RotationStep.NOTHING
    if not status.get("keyId"):
        # A key that has just been made needs no other material.
        return RotationStep.RECORD
    if told.get("pendingRequest") != wanted:
        return RotationStep.ANNOUNCE
    return RotationStep.ROTATE if told.get("formerKeyMaterialId") == material_id else RotationStep.RECORD


def build_announcement(spec: Mapping[str, Any], material_id: str | None) -> dict[str, Any]:
    """Return the status' field before the rotation."""
    return {"pendingRequest": spec["rotateOnDemand"], "formerKeyMaterialId": material_id}


def build_record(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status' field after the rotation."""
    return {"request": spec["rotateOnDemand"], "pendingRequest": None, "formerKeyMaterialId": None}
