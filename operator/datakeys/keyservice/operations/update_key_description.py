"""UpdateKeyDescription: new words for what a key is for.

Zone: no secrets. Source: AWS KMS API, UpdateKeyDescription.
"""

from dataclasses import replace
from typing import Any, Final

from datakeys.keyservice.operations.access import read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.changes import change_key
from datakeys.keyservice.operations.create_key import MAX_DESCRIPTION
from datakeys.keyservice.operations.validation import Members

NAME: Final = "UpdateKeyDescription"


def update_key_description(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The key is pending deletion.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    description = members.required_string("Description", minimum=0, maximum=MAX_DESCRIPTION)
    members.finish()
    record = resolve(service, call, NAME, key_id, alias_allowed=False, state_checked=False)
    change_key(service, call, NAME, record, lambda current: replace(current, description=description))
    return {}
