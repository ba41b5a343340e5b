"""The status of a KmsKey. Zone: no secrets, no I/O; the clock is an argument.

Two conditions: Ready tells whether the key can be used, and follows the key state whoever changes it. Synced
tells whether the spec was applied in full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from datakeys.contract.conditions import (
    CONDITION_READY,
    CONDITION_SYNCED,
    REASON_APPLIED,
    Condition,
    format_time,
    merge_condition,
)
from datakeys.contract.errors import NotFoundError
from datakeys.contract.key_types import KeyState
from datakeys.controller.keyservice_answers import KeyMetadata, KeyRotation

#: What to do about a key that can't be used.
_NEXT_STEPS: Final = {
    KeyState.DISABLED: "set spec.enabled from false to true, or call EnableKey",
    KeyState.PENDING_DELETION: (
        "call CancelKeyDeletion and EnableKey, or delete this KmsKey and apply it again, to keep it"
    ),
    KeyState.PENDING_IMPORT: "import key material with GetParametersForImport and ImportKeyMaterial",
    KeyState.UNAVAILABLE: "connect the custom key store",
}
APPLIED: Final = Condition(CONDITION_SYNCED, "True", REASON_APPLIED, "The key is as the spec says")
DESTROYED: Final = Condition(
    CONDITION_READY,
    "False",
    NotFoundError.code,
    "The key service has no such key: it was destroyed after its waiting period, or the key records were "
    "lost. If lost, restore the operator's namespace from its backup, and delete nothing. What a destroyed "
    "key encrypted can't be decrypted any more; deleting this KmsKey and applying it again makes a new key",
)


@dataclass(frozen=True, slots=True)
class ObservedKey:
    """A key as it is; ``rotation`` is None if the key can't rotate."""

    metadata: KeyMetadata
    rotation: KeyRotation | None = None


def build_key_status(
    observed: ObservedKey,
    *,
    conditions: Sequence[Mapping[str, Any]],
    synced: Condition | None,
    generation: int,
    now: datetime,
) -> dict[str, Any]:
    """Return the status after the spec was applied; None removes a field.

    Args:
        observed: The key as it is.
        conditions: The conditions of the status.
        synced: How applying ended; None leaves what is there.
        generation: The version of the spec.
        now: The time.
    """
    told = [ready_condition(observed.metadata), *([] if synced is None else [synced])]
    merged = [dict(condition) for condition in conditions]
    for condition in told:
        merged = merge_condition(merged, condition, generation=generation, now=now)
    return {**_build_fields(observed), "observedGeneration": generation, "conditions": merged}


def build_refreshed_status(
    observed: ObservedKey | None, status: Mapping[str, Any], *, generation: int, now: datetime
) -> dict[str, Any]:
    """Return what a look at the key changes in a status: nothing of what tells about the spec.

    Args:
        observed: The key as it is; None: it is gone.
        status: The status so far.
        generation: The version of the spec that the object has.
        now: The time.
    """
    ready = DESTROYED if observed is None else ready_condition(observed.metadata)
    gone = dict.fromkeys(("keyState", "currentKeyMaterialId", "rotation", "deletionDate", "validTo"))
    fields = gone if observed is None else _build_fields(observed)
    conditions = merge_condition(status.get("conditions") or [], ready, generation=generation, now=now)
    return diff_status(status, {**fields, "conditions": conditions})


def diff_status(status: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that differ, as a merge patch."""
    return {name: value for name, value in wanted.items() if status.get(name) != _prune(value)}


def ready_condition(metadata: KeyMetadata) -> Condition:
    """Return the condition for a key state; the reason is the key state."""
    state = metadata.state
    if state == KeyState.ENABLED:
        message = "The key can be used"
        if not metadata.makes_data_keys:
            message += f"; keys of spec {metadata.key_spec} and origin {metadata.origin} make no data keys"
        return Condition(CONDITION_READY, "True", state, message)
    message = f"The key state is {state}, so the key can't be used"
    step = next((text for known, text in _NEXT_STEPS.items() if known == state), None)
    return Condition(CONDITION_READY, "False", state, f"{message}: {step}" if step else message)


def _build_fields(observed: ObservedKey) -> dict[str, Any]:
    metadata, rotation = observed.metadata, observed.rotation
    pending = metadata.state == KeyState.PENDING_DELETION
    return {
        "keyId": metadata.key_id,
        "arn": metadata.arn,
        "keyState": metadata.state,
        "currentKeyMaterialId": metadata.current_key_material_id,
        "creationDate": _date(metadata.creation_date),
        "deletionDate": _date(metadata.deletion_date) if pending else None,
        "validTo": _date(metadata.valid_to),
        "rotation": None
        if rotation is None
        else {
            "enabled": rotation.enabled,
            "periodDays": rotation.period_days,
            "nextRotationDate": _date(rotation.next_date),
        },
    }


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(datetime.fromtimestamp(seconds, UTC))


def _prune(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return value
    return {name: member for name, member in value.items() if member is not None}
