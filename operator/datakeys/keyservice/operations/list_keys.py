"""ListKeys: the keys of the caller's account.

Zone: no secrets. Source: AWS KMS API, ListKeys.
"""

from typing import Any, Final

from datakeys.keyservice.operations.access import authorize
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members

NAME: Final = "ListKeys"
_OWNERS: Final = ("SELF", "AWS")


def list_keys(service: Service, call: Call) -> dict[str, Any]:
    """Answer Keys, sorted by key id, in every state. Keys that AWS owns don't exist here.

    Raises:
        ValidationError: A constraint is broken.
        InvalidMarkerError: The marker isn't valid.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    page = read_page(members)
    owners = members.enum_list("ResourceOwners", _OWNERS)
    members.finish()
    authorize(call, NAME, service, None)
    now = service.clock()
    keys = [] if owners == ["AWS"] else service.store.list_keys(call.account)
    return build_page(
        sorted((key for key in keys if not key.is_due(now)), key=lambda key: key.key_id),
        page,
        member="Keys",
        sort_key=lambda key: key.key_id,
        entry=lambda key: {"KeyId": key.key_id, "KeyArn": service.key_arn(key.account, key.key_id)},
    )
