"""TagResource, UntagResource, ListResourceTags, and how tags are read and checked.

Zone: no secrets. Source: AWS KMS API, TagResource, shape Tag; the rules about keys are those of the AWS KMS
Developer Guide, "Tagging keys".
"""

from dataclasses import replace
from typing import Any, Final

from datakeys.contract.errors import LimitExceededError, TagError
from datakeys.keyservice.operations.access import read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.changes import change_key
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.interface import KeyChange
from datakeys.keyservice.store.records import KeyRecord

MAX_TAGS: Final = 50
MAX_TAG_KEY: Final = 128
MAX_TAG_VALUE: Final = 256
#: ListResourceTags gives at most as many as a key can have.
_DEFAULT_LIMIT: Final = 50
_RESERVED_PREFIX: Final = "aws:"

Tags = tuple[tuple[str, str], ...]


def tag_resource(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; a tag whose key exists gets the new value.

    Raises:
        ValidationError: A constraint is broken.
        TagError: A tag key is given twice or reserved.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The key is pending deletion.
        LimitExceededError: The key would have more than 50 tags.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    tags = read_tags(members, required=True)
    members.finish()
    check_tags(tags)

    def change(current: KeyRecord) -> KeyRecord:
        merged = {**dict(current.tags), **dict(tags)}
        if len(merged) > MAX_TAGS:
            raise LimitExceededError(f"A KMS key can have at most {MAX_TAGS} tags.")
        return replace(current, tags=tuple(sorted(merged.items())))

    return _change(service, call, "TagResource", key_id, change)


def untag_resource(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; a tag key that the KMS key doesn't have is no error.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        KeyStateError: The key is pending deletion.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    if not members.has("TagKeys"):
        members.fail_null("TagKeys")
    names = set(members.string_list("TagKeys", maximum_items=10_000, maximum_length=MAX_TAG_KEY))
    members.finish()
    return _change(
        service,
        call,
        "UntagResource",
        key_id,
        lambda current: replace(current, tags=tuple(tag for tag in current.tags if tag[0] not in names)),
    )


def list_resource_tags(service: Service, call: Call) -> dict[str, Any]:
    """Answer Tags, sorted by their keys.

    Raises:
        ValidationError: A constraint is broken.
        InvalidMarkerError: The marker isn't valid.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    page = read_page(members, default_limit=_DEFAULT_LIMIT)
    members.finish()
    record = resolve(service, call, "ListResourceTags", key_id, alias_allowed=False)
    return build_page(
        sorted(record.tags),
        page,
        member="Tags",
        sort_key=lambda tag: tag[0],
        entry=lambda tag: {"TagKey": tag[0], "TagValue": tag[1]},
    )


def read_tags(members: Members, *, required: bool = False) -> Tags:
    """Return the member Tags.

    Raises:
        SerializationError: It isn't a list of structures with two strings.
    """
    if required and not members.has("Tags"):
        members.fail_null("Tags")
    return tuple(
        (
            tag.required_string("TagKey", maximum=MAX_TAG_KEY),
            tag.required_string("TagValue", minimum=0, maximum=MAX_TAG_VALUE),
        )
        for tag in members.structures("Tags")
    )


def check_tags(tags: Tags) -> None:
    """Check what holds for several tags at once.

    Raises:
        TagError: A tag key is given twice, or has the reserved prefix.
        LimitExceededError: More than 50 tags.
    """
    if len(dict(tags)) != len(tags):
        raise TagError("Duplicate tag keys")
    if any(key.lower().startswith(_RESERVED_PREFIX) for key, _ in tags):
        raise TagError(f"Tag keys must not start with {_RESERVED_PREFIX}")
    if len(tags) > MAX_TAGS:
        raise LimitExceededError(f"A KMS key can have at most {MAX_TAGS} tags.")


def _change(service: Service, call: Call, operation: str, key_id: str, change: KeyChange) -> dict[str, Any]:
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    change_key(service, call, operation, record, change)
    return {}
