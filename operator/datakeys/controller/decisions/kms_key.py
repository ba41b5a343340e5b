"""What a KmsKey needs and what its status says. Zone: no secrets, no I/O; the clock is an argument."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from datakeys.contract.conditions import CONDITION_READY, Condition, format_time, merge_condition
from datakeys.contract.errors import UnsupportedOperationError
from datakeys.contract.key_types import DEFAULT_PENDING_WINDOW_DAYS, KeyState

#: A key that is older than its object by more than this was made for a former object of the same name.
_CLOCK_TOLERANCE_SECONDS: Final = 5.0
#: Whether the key material is rotated automatically, as ``spec.rotation`` asks.
CONDITION_ROTATION: Final = "Rotation"


class KeyCall(StrEnum):
    """The call that brings a key into the wanted state."""

    ENABLE = "EnableKey"
    DISABLE = "DisableKey"


class Metadata(Protocol):
    """A key as the key service describes it."""

    @property
    def key_id(self) -> str:
        """The key id."""

    @property
    def arn(self) -> str:
        """The key ARN."""

    @property
    def creation_date(self) -> float:
        """Seconds since the epoch."""

    @property
    def deletion_date(self) -> float | None:
        """Seconds since the epoch."""

    @property
    def current_key_material_id(self) -> str | None:
        """The material that encrypts."""


def build_create_key_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of CreateKey."""
    names = {"description": "Description", "keySpec": "KeySpec", "keyUsage": "KeyUsage", "origin": "Origin"}
    parameters: dict[str, Any] = {there: spec[here] for here, there in names.items() if spec.get(here)}
    if spec.get("policy"):
        parameters["Policy"] = spec["policy"]
    if spec.get("tags"):
        parameters["Tags"] = [
            {"TagKey": key, "TagValue": value} for key, value in sorted(spec["tags"].items())
        ]
    return parameters


def decide_key_call(state: str, *, enabled: bool) -> KeyCall | None:
    """Return the call that is needed; only an enabled or disabled key can be switched."""
    if state == KeyState.DISABLED and enabled:
        return KeyCall.ENABLE
    if state == KeyState.ENABLED and not enabled:
        return KeyCall.DISABLE
    return None


def state_after(state: str, call: KeyCall | None) -> str:
    """Return the key state after a call has succeeded."""
    if call is None:
        return state
    return KeyState.ENABLED if call is KeyCall.ENABLE else KeyState.DISABLED


def is_revived(status: Mapping[str, Any], created_at: datetime, key_creation_date: float) -> bool:
    """Return whether a new object got the key of a former object of the same name back."""
    if status.get("keyId"):
        return False
    return created_at.timestamp() - key_creation_date > _CLOCK_TOLERANCE_SECONDS


def pending_window_days(spec: Mapping[str, Any]) -> int:
    """Return the days between the deletion of the object and the destruction of the key material."""
    return int((spec.get("deletion") or {}).get("pendingWindowDays") or DEFAULT_PENDING_WINDOW_DAYS)


def build_key_status(
    metadata: Metadata,
    state: str,
    *,
    spec: Mapping[str, Any],
    conditions: Sequence[Mapping[str, Any]],
    generation: int,
    now: datetime,
) -> dict[str, Any]:
    """Return the status of a key that exists; None removes a field."""
    deletion = metadata.deletion_date
    wanted = [ready_condition(state), *rotation_conditions(spec)]
    types = {condition.type for condition in wanted}
    merged = [dict(item) for item in conditions if item.get("type") in types]
    for condition in wanted:
        merged = merge_condition(merged, condition, generation=generation, now=now)
    return {
        "keyId": metadata.key_id,
        "arn": metadata.arn,
        "keyState": state,
        "currentKeyMaterialId": metadata.current_key_material_id,
        "creationDate": _date(metadata.creation_date),
        "deletionDate": _date(deletion)
        if deletion is not None and state == KeyState.PENDING_DELETION
        else None,
        "observedGeneration": generation,
        "conditions": merged,
    }


def ready_condition(state: str) -> Condition:
    """Return the condition for a key state; the reason is the key state."""
    if state == KeyState.ENABLED:
        return Condition(CONDITION_READY, "True", state, "The key can be used")
    return Condition(CONDITION_READY, "False", state, f"The key state is {state}, so the key can't be used")


def rotation_conditions(spec: Mapping[str, Any]) -> list[Condition]:
    """Return a condition for a rotation that is asked for: this version serves none and must not hide it."""
    if not (spec.get("rotation") or {}).get("enabled"):
        return []
    message = "Automatic rotation isn't served by this version: the key keeps its key material"
    return [Condition(CONDITION_ROTATION, "False", UnsupportedOperationError.code, message)]


def _date(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))
