"""Rotation: new key material under the same key, by schedule and on demand.

Zone: new key material, sealed before it leaves this file. Old material stays for ever: what was encrypted
under it decrypts under it. Source: AWS KMS API, EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus,
RotateKeyOnDemand; kms-semantics section 4.5.
"""

from dataclasses import replace
from typing import Any, Final

from datakeys.contract.errors import (
    ConflictError,
    KeyStateError,
    LimitExceededError,
    UnsupportedOperationError,
)
from datakeys.contract.key_types import (
    DEFAULT_ROTATION_PERIOD_DAYS,
    MAX_ROTATION_PERIOD_DAYS,
    MIN_ROTATION_PERIOD_DAYS,
    KeyOrigin,
    KeySpec,
    KeyState,
)
from datakeys.keyservice.material.backing_key import BackingKey
from datakeys.keyservice.material.identifiers import new_material_id
from datakeys.keyservice.operations.access import read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.changes import change_key
from datakeys.keyservice.operations.keyring import build_binding
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.expiry import drop_expired
from datakeys.keyservice.store.interface import KeyChange
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord
from datakeys.keyservice.store.schedule import Chore

SECONDS_PER_DAY: Final = 86_400
MAX_ON_DEMAND_ROTATIONS: Final = 25
CONFLICT_SECONDS: Final = 20 * 60
AUTOMATIC: Final = "AUTOMATIC"
ON_DEMAND: Final = "ON_DEMAND"

_ROTATING_ORIGINS: Final = frozenset({KeyOrigin.AWS_KMS, KeyOrigin.EXTERNAL})


def enable_key_rotation(service: Service, call: Call) -> dict[str, Any]:
    """Rotate every RotationPeriodInDays from now on; answers an empty object.

    The first rotation comes one period after the call. A call that changes nothing leaves the date alone, so
    it may be repeated.

    Raises:
        ValidationError: RotationPeriodInDays isn't 90..2560.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: This kind of key doesn't rotate by schedule.
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids it.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    given = members.integer(
        "RotationPeriodInDays", minimum=MIN_ROTATION_PERIOD_DAYS, maximum=MAX_ROTATION_PERIOD_DAYS
    )
    members.finish()
    days = DEFAULT_ROTATION_PERIOD_DAYS if given is None else given
    now = service.clock()

    def change(current: KeyRecord) -> KeyRecord:
        if current.rotation_period_days == days:
            return current
        return replace(current, rotation_period_days=days, next_rotation_at=now + days * SECONDS_PER_DAY)

    _change(service, call, "EnableKeyRotation", key_id, change)
    return {}


def disable_key_rotation(service: Service, call: Call) -> dict[str, Any]:
    """Rotate no more by schedule; answers an empty object. It may be repeated.

    Raises:
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: This kind of key doesn't rotate by schedule.
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids it.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    members.finish()

    def change(current: KeyRecord) -> KeyRecord:
        return replace(current, rotation_period_days=None, next_rotation_at=None)

    _change(service, call, "DisableKeyRotation", key_id, change)
    return {}


def get_key_rotation_status(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId and KeyRotationEnabled; RotationPeriodInDays and NextRotationDate if it is enabled.

    A key that is pending deletion says false; its schedule comes back with it. OnDemandRotationStartDate
    never appears: a rotation on demand is complete when its call returns.

    Raises:
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: This kind of key doesn't rotate by schedule.
    """
    operation = "GetKeyRotationStatus"
    members = Members(call.body)
    key_id = read_key_id(members)
    members.finish()
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    require_scheduled_rotation(call, record)
    require_state(call, operation, record)
    enabled = record.next_rotation_at is not None and record.state is not KeyState.PENDING_DELETION
    answer: dict[str, Any] = {"KeyId": record.key_id, "KeyRotationEnabled": enabled}
    if enabled:
        answer["RotationPeriodInDays"] = record.rotation_period_days
        answer["NextRotationDate"] = record.next_rotation_at
    return answer


def rotate_key_on_demand(service: Service, call: Call) -> dict[str, Any]:
    """Rotate now, whatever the schedule says, and leave the schedule alone; answers KeyId.

    Raises:
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: This kind of key doesn't rotate.
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids it, or no imported material waits for its rotation.
        LimitExceededError: The key was rotated 25 times on demand.
        ConflictError: An automatic rotation is due within 20 minutes.
    """
    operation = "RotateKeyOnDemand"
    members = Members(call.body)
    key_id = read_key_id(members)
    members.finish()
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    require_rotation(call, record)
    require_state(call, operation, record)
    now = service.clock()
    new = None if record.origin is KeyOrigin.EXTERNAL else build_material(service, record, now, ON_DEMAND)

    def change(current: KeyRecord) -> KeyRecord:
        current = drop_expired(current, now)
        require_state(call, operation, current)
        _check_on_demand(current, now)
        return add_rotation(current, _take_pending(call, current, now) if new is None else new)

    service.store.update_key(record.key_id, change)
    return {"KeyId": record.key_id}


def require_rotation(call: Call, record: KeyRecord) -> None:
    """Check that a key can have several versions of its material.

    Raises:
        UnsupportedOperationError: It can't.
    """
    if record.key_spec is not KeySpec.SYMMETRIC_DEFAULT or record.origin not in _ROTATING_ORIGINS:
        raise UnsupportedOperationError(
            f"{call.audit.key_arn} with key spec {record.key_spec} and origin {record.origin} "
            "does not support key rotation."
        )


def require_scheduled_rotation(call: Call, record: KeyRecord) -> None:
    """Check that a key can rotate by schedule: the service makes its material itself.

    Raises:
        UnsupportedOperationError: It can't.
    """
    require_rotation(call, record)
    if record.origin is not KeyOrigin.AWS_KMS:
        raise UnsupportedOperationError(
            f"{call.audit.key_arn} origin is {record.origin} which does not support automatic key rotation."
        )


def build_material(service: Service, record: KeyRecord, now: float, rotation_type: str) -> MaterialRecord:
    """Return new sealed material for a rotation."""
    material_id = new_material_id(service.random)
    binding = build_binding(record, material_id)
    sealed = service.root_key.seal(BackingKey.generate(service.random), binding, service.random)
    return MaterialRecord(material_id, sealed.to_bytes(), now, rotated_at=now, rotation_type=rotation_type)


def add_rotation(record: KeyRecord, material: MaterialRecord) -> KeyRecord:
    """Return the key with a material as its current and last one."""
    kept = tuple(it for it in record.materials if it.material_id != material.material_id)
    return replace(record, materials=(*kept, material), current_material_id=material.material_id)


def decide_automatic(record: KeyRecord, material: MaterialRecord, now: float) -> KeyRecord:
    """Return the key rotated by schedule, or the same object if nothing is due (any more).

    The next rotation comes one period after this one: a key that was disabled over its date rotates as soon
    as it is enabled, and one period later again.
    """
    rotates_at, days = record.rotates_at(), record.rotation_period_days
    if rotates_at is None or days is None or rotates_at > now:
        return record
    return replace(add_rotation(record, material), next_rotation_at=now + days * SECONDS_PER_DAY)


def build_automatic_rotation(service: Service) -> Chore:
    """Return the chore that rotates keys at their date."""

    def rotate(record: KeyRecord) -> bool:
        now = service.clock()
        material = build_material(service, record, now, AUTOMATIC)
        changed = service.store.update_key(
            record.key_id, lambda current: decide_automatic(current, material, now)
        )
        return changed.current_material_id == material.material_id

    return Chore("rotation", "key rotated", KeyRecord.rotates_at, rotate)


def _change(service: Service, call: Call, operation: str, key_id: str, change: KeyChange) -> None:
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    require_scheduled_rotation(call, record)
    change_key(service, call, operation, record, change)


def _check_on_demand(record: KeyRecord, now: float) -> None:
    if sum(material.rotation_type == ON_DEMAND for material in record.materials) >= MAX_ON_DEMAND_ROTATIONS:
        raise LimitExceededError(
            f"A KMS key can be rotated on demand at most {MAX_ON_DEMAND_ROTATIONS} times."
        )
    if record.next_rotation_at is not None and record.next_rotation_at - now <= CONFLICT_SECONDS:
        raise ConflictError("An automatic rotation of the key is due within the next 20 minutes.")


def _take_pending(call: Call, record: KeyRecord, now: float) -> MaterialRecord:
    pending = next((material for material in record.materials if material.pending), None)
    if pending is None:
        raise KeyStateError(
            f"{call.audit.key_arn} has no key material in state PENDING_ROTATION: import it first."
        )
    return replace(pending, pending=False, rotated_at=now, rotation_type=ON_DEMAND)
