"""ScheduleKeyDeletion and CancelKeyDeletion: a deletion is explicit, waits 7..30 days, and can be taken back.

Zone: no key material. Source: AWS KMS API, ScheduleKeyDeletion and CancelKeyDeletion; kms-semantics section
2.2.
"""

from dataclasses import replace
from typing import Any, Final

from datakeys.contract.errors import NotFoundError
from datakeys.contract.key_types import (
    DEFAULT_PENDING_WINDOW_DAYS,
    MAX_PENDING_WINDOW_DAYS,
    MIN_PENDING_WINDOW_DAYS,
    KeyState,
)
from datakeys.keyservice.operations.access import read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.expiry import drop_expired
from datakeys.keyservice.store.records import KeyRecord

SECONDS_PER_DAY: Final = 86_400


def schedule_key_deletion(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId (the key ARN), DeletionDate, KeyState and PendingWindowInDays.

    Raises:
        ValidationError: PendingWindowInDays isn't 7..30.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The key is already pending deletion.
    """
    operation = "ScheduleKeyDeletion"
    members = Members(call.body)
    key_id = read_key_id(members)
    given = members.integer(
        "PendingWindowInDays", minimum=MIN_PENDING_WINDOW_DAYS, maximum=MAX_PENDING_WINDOW_DAYS
    )
    members.finish()
    days = DEFAULT_PENDING_WINDOW_DAYS if given is None else given
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    deletion_at = service.clock() + days * SECONDS_PER_DAY

    def change(current: KeyRecord) -> KeyRecord:
        require_state(call, operation, current)
        return replace(current, state=KeyState.PENDING_DELETION, deletion_at=deletion_at)

    service.store.update_key(record.key_id, change)
    return {
        "KeyId": call.audit.key_arn,
        "DeletionDate": deletion_at,
        "KeyState": KeyState.PENDING_DELETION,
        "PendingWindowInDays": days,
    }


def cancel_key_deletion(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId (the key ARN). The key is Disabled then, or PendingImport if it has no material.

    Raises:
        NotFoundError: No such key, or its waiting period is over; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The key isn't pending deletion.
    """
    operation = "CancelKeyDeletion"
    members = Members(call.body)
    key_id = read_key_id(members)
    members.finish()
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)

    def change(current: KeyRecord) -> KeyRecord:
        if current.is_due(service.clock()):
            raise NotFoundError(f"Key '{call.audit.key_arn}' does not exist")
        require_state(call, operation, current)
        current = drop_expired(current, service.clock())
        state = KeyState.PENDING_IMPORT if current.lacks_material() else KeyState.DISABLED
        return replace(current, state=state, deletion_at=None)

    service.store.update_key(record.key_id, change)
    return {"KeyId": call.audit.key_arn}
