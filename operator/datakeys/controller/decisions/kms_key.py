"""What a KmsKey asks for. Zone: no secrets, no I/O; the clock is an argument."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from datakeys.contract.conditions import CONDITION_SYNCED
from datakeys.contract.key_types import DEFAULT_PENDING_WINDOW_DAYS

#: A key that is older than its object by more than this was made for a former object of the same name.
_CLOCK_TOLERANCE_SECONDS: Final = 5.0


def build_create_key_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of CreateKey."""
    names = {
        "description": "Description",
        "keySpec": "KeySpec",
        "keyUsage": "KeyUsage",
        "origin": "Origin",
        "policy": "Policy",
    }
    parameters: dict[str, Any] = {there: spec[here] for here, there in names.items() if spec.get(here)}
    if spec.get("tags"):
        parameters["Tags"] = [
            {"TagKey": key, "TagValue": value} for key, value in sorted(spec["tags"].items())
        ]
    return parameters


def is_applied(body: Mapping[str, Any]) -> bool:
    """Return whether this version of the spec has been applied in full, so that only the status can differ.

    A controller that starts anew must not undo what was done by calls of the key service's API since.
    """
    status, generation = body.get("status") or {}, body["metadata"].get("generation", 1)
    return bool(status.get("keyId")) and any(
        (item.get("type"), item.get("status"), item.get("observedGeneration"))
        == (CONDITION_SYNCED, "True", generation)
        for item in status.get("conditions") or ()
    )


def is_revived(status: Mapping[str, Any], created_at: datetime, key_creation_date: float) -> bool:
    """Return whether a new object got the key of a former object of the same name back."""
    if status.get("keyId"):
        return False
    return created_at.timestamp() - key_creation_date > _CLOCK_TOLERANCE_SECONDS


def pending_window_days(spec: Mapping[str, Any]) -> int:
    """Return the days between the deletion of the object and the destruction of the key material."""
    return int((spec.get("deletion") or {}).get("pendingWindowDays") or DEFAULT_PENDING_WINDOW_DAYS)
