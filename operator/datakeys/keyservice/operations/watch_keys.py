"""WatchKeys: which keys have changed, told to the controller as soon as it happens.

Zone: names and ids, no key material. Not an operation of AWS KMS: its target is
``DatakeysController.WatchKeys``. It waits on the event loop: a waiting reader costs a future and no thread.
"""

from typing import Any, Final

from datakeys.contract.errors import AccessDeniedError
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.key_changes import MAX_CURSOR_LENGTH, ChangedKey

NAME: Final = "WatchKeys"
MAX_WAIT_SECONDS: Final = 30


async def wait_for_changes(service: Service, call: Call) -> None:
    """Return once there is something to answer, or after ``WaitSeconds``.

    Raises:
        SerializationError: A member has the wrong JSON type.
        ValidationError: A constraint is broken.
        AccessDeniedError: Not the controller.
    """
    cursor, seconds = _parse(call)
    await service.changes.wait(cursor, seconds)


def watch_keys(service: Service, call: Call) -> dict[str, Any]:
    """Answer ``Keys``, ``Cursor`` and ``Resync``: the keys that changed since the given ``Cursor``.

    Raises:
        SerializationError: A member has the wrong JSON type.
        ValidationError: A constraint is broken.
        AccessDeniedError: Not the controller.
    """
    cursor, _ = _parse(call)
    changes = service.changes.since(cursor)
    return {
        "Keys": [_describe(key) for key in changes.keys],
        "Cursor": changes.cursor,
        "Resync": changes.resync,
    }


def _parse(call: Call) -> tuple[str, int]:
    if call.principal.kind is not PrincipalKind.CONTROLLER:
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
    members = Members(call.body)
    cursor = members.string("Cursor", maximum=MAX_CURSOR_LENGTH)
    seconds = members.integer("WaitSeconds", minimum=0, maximum=MAX_WAIT_SECONDS)
    members.finish()
    return cursor, MAX_WAIT_SECONDS if seconds is None else seconds


def _describe(key: ChangedKey) -> dict[str, str]:
    return {"Account": key.account, "ObjectName": key.object_name, "KeyId": key.key_id}
