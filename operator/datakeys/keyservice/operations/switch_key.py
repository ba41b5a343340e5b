"""EnableKey and DisableKey: both may be repeated.

Zone: no key material. Source: AWS KMS API, EnableKey and DisableKey; kms-semantics sections 2.1 and 2.2.
"""

from dataclasses import replace
from typing import Any

from datakeys.contract.key_types import KeyState
from datakeys.keyservice.operations.access import read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.expiry import drop_expired
from datakeys.keyservice.store.records import KeyRecord


def enable_key(service: Service, call: Call) -> dict[str, Any]:
    """Set the key state to Enabled; answers an empty object.

    Raises:
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The state doesn't allow it.
    """
    return _switch(service, call, "EnableKey", KeyState.ENABLED)


def disable_key(service: Service, call: Call) -> dict[str, Any]:
    """Set the key state to Disabled; answers an empty object.

    Raises:
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The state doesn't allow it.
    """
    return _switch(service, call, "DisableKey", KeyState.DISABLED)


def _switch(service: Service, call: Call, operation: str, state: KeyState) -> dict[str, Any]:
    members = Members(call.body)
    key_id = read_key_id(members)
    members.finish()
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)

    def change(current: KeyRecord) -> KeyRecord:
        current = drop_expired(current, service.clock())
        require_state(call, operation, current)
        if current.state in (state, KeyState.UNAVAILABLE):
            return current
        return replace(current, state=state)

    service.store.update_key(record.key_id, change)
    return {}
