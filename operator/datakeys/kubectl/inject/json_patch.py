"""Applies a JSON patch, as the API server does with the webhook's answer. Zone: no I/O. Source: RFC 6902."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

_APPEND: Final = "-"


def apply_patch(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:  # noqa: ANN401 - JSON
    """Return a patched copy; only ``add``, ``replace`` and ``remove`` are known, the webhook uses no others.

    Raises:
        ValueError: Another operation.
        LookupError: A path leads nowhere.
    """
    patched = copy.deepcopy(document)
    for operation in operations:
        _apply(patched, operation)
    return patched


def parse_pointer(pointer: str) -> list[str]:
    """Return the parts of a JSON pointer. Source: RFC 6901, section 4."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _apply(document: Any, operation: Mapping[str, Any]) -> None:  # noqa: ANN401 - JSON
    name = operation["op"]
    *parents, last = parse_pointer(operation["path"])
    target = document
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if name not in ("add", "replace", "remove"):
        raise ValueError(f"the operation {name} isn't known")
    if isinstance(target, list):
        _apply_to_list(target, last, name, operation)
    elif name == "remove":
        del target[last]
    else:
        target[last] = copy.deepcopy(operation["value"])


def _apply_to_list(target: list[Any], last: str, name: str, operation: Mapping[str, Any]) -> None:
    index = len(target) if last == _APPEND else int(last)
    if name == "remove":
        del target[index]
    elif name == "replace":
        target[index] = copy.deepcopy(operation["value"])
    elif index > len(target):
        raise IndexError(f"the list has no place {index}")
    else:
        target.insert(index, copy.deepcopy(operation["value"]))
