"""Change a key, if the state of its newest version lets the operation through.

Zone: no key material. Memory may be some milliseconds old, so the state that counts is the one the change
is made on.
"""

from datakeys.keyservice.operations.access import require_state
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.store.interface import KeyChange
from datakeys.keyservice.store.records import KeyRecord


def change_key(
    service: Service, call: Call, operation: str, record: KeyRecord, change: KeyChange
) -> KeyRecord:
    """Return the changed key.

    Raises:
        NotFoundError: The key is gone.
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids the operation.
        DependencyTimeoutError: The store can't be reached, or too many conflicts.
    """

    def checked(current: KeyRecord) -> KeyRecord:
        require_state(call, operation, current)
        return change(current)

    return service.store.update_key(record.key_id, checked)
