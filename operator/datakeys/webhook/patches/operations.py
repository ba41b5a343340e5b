"""Operations of a JSON patch. Zone: no secrets, no I/O. Source: RFC 6902."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Operation = dict[str, Any]


def add(path: str, value: object) -> Operation:
    """Return the operation that adds or replaces a member."""
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Operation:
    """Return the operation that removes a member."""
    return {"op": "remove", "path": path}


def append(path: str, present: Sequence[Any] | None, items: Iterable[Any]) -> list[Operation]:
    """Return the operations that append to a list, which may be absent."""
    if present:
        return [add(f"{path}/-", item) for item in items]
    return [add(path, [*items])]


def set_members(
    path: str, present: Mapping[str, str] | None, wanted: Mapping[str, str | None]
) -> list[Operation]:
    """Return the operations that give a map these members; None removes one. What is so already is left."""
    if present is None:
        members = {name: value for name, value in wanted.items() if value is not None}
        return [add(path, members)] if members else []
    operations = []
    for name, value in wanted.items():
        if value is not None and present.get(name) != value:
            operations.append(add(f"{path}/{escape(name)}", value))
        if value is None and name in present:
            operations.append(remove(f"{path}/{escape(name)}"))
    return operations


def escape(key: str) -> str:
    """Return a key as a part of a JSON pointer. Source: RFC 6901, section 3."""
    return key.replace("~", "~0").replace("/", "~1")
