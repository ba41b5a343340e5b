"""Status conditions, as the Kubernetes API conventions define them.

Zone: no secrets, no I/O; the clock is an argument. Source: Kubernetes API conventions, "Typical status
properties".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

CONDITION_READY: Final = "Ready"
CONDITION_DRY_RUN: Final = "DryRun"
#: Of a KmsKey: whether its spec was applied in full.
CONDITION_SYNCED: Final = "Synced"

REASON_ISSUED: Final = "Issued"
REASON_CONFLICT: Final = "Conflict"
REASON_RETRYING: Final = "Retrying"
REASON_PENDING: Final = "Pending"
REASON_APPLIED: Final = "Applied"

MAX_MESSAGE_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str = ""

    @property
    def is_true(self) -> bool:
        """Return whether the condition holds."""
        return self.status == "True"


def format_time(now: datetime) -> str:
    """Return a time in RFC 3339 with seconds, in UTC."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_condition(conditions: Sequence[Mapping[str, Any]], type_: str) -> Condition | None:
    """Return the condition of a type from a status, or None."""
    for item in conditions:
        if item.get("type") == type_:
            return Condition(
                type_,
                str(item.get("status", "Unknown")),
                str(item.get("reason", "")),
                str(item.get("message", "")),
            )
    return None


def merge_condition(
    conditions: Sequence[Mapping[str, Any]], new: Condition, *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the list with ``new`` in place of its type.

    ``lastTransitionTime`` moves only if the status changes, so that an unchanged condition is an unchanged
    object and makes no write.
    """
    old = next((dict(item) for item in conditions if item.get("type") == new.type), None)
    unchanged = old is not None and old.get("status") == new.status
    merged = {
        "type": new.type,
        "status": new.status,
        "reason": new.reason,
        "message": new.message[:MAX_MESSAGE_CHARACTERS],
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if old and unchanged else format_time(now),
    }
    if old is None:
        return [*map(dict, conditions), merged]
    return [merged if item.get("type") == new.type else dict(item) for item in conditions]
