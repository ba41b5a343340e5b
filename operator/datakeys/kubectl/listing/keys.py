"""One row per KmsKey. Zone: no I/O; the clock is an argument."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from datakeys.kubectl.answers import Items, Json, list_items, name_of, namespace_of
from datakeys.kubectl.key_names import find_request_key, list_alias_names, status_of
from datakeys.kubectl.output import format_age
from datakeys.kubectl.requests import ready_condition, sort_objects

HEADERS = ("NAME", "STATE", "SPEC", "READY", "ALIASES", "REQUESTS", "NEXT ROTATION", "NOTE", "AGE")


def build_key_items(keys: Sequence[Json], aliases: Items, requests: Items) -> list[Json]:
    """Return what machines read; ``requests`` is null where they can't be seen."""
    counts = _count_requests(keys, list_items(aliases), list_items(requests))
    items = []
    for key in sort_objects(keys):
        status, ready = status_of(key), ready_condition(key)
        items.append(
            {
                "namespace": namespace_of(key),
                "name": name_of(key),
                "keyId": status.get("keyId"),
                "arn": status.get("arn"),
                "keyState": status.get("keyState"),
                "keySpec": (key.get("spec") or {}).get("keySpec"),
                "keyUsage": (key.get("spec") or {}).get("keyUsage"),
                "ready": ready.status,
                "reason": ready.reason,
                "message": ready.message,
                "aliases": list_alias_names(key, list_items(aliases)),
                "requests": counts[_identity(key)] if isinstance(requests, list) else None,
                "nextRotationDate": (status.get("rotation") or {}).get("nextRotationDate"),
                "deletionDate": status.get("deletionDate"),
                "creationTimestamp": key["metadata"].get("creationTimestamp"),
            }
        )
    return items


def build_key_row(item: Json, now: datetime) -> list[str]:
    """Return the cells of a row."""
    return [
        item["name"],
        item["keyState"] or "",
        item["keySpec"] or "",
        item["ready"],
        ",".join(item["aliases"]),
        "?" if item["requests"] is None else str(item["requests"]),
        (item["nextRotationDate"] or "")[:10],
        _note(item),
        format_age(item["creationTimestamp"], now),
    ]


def _note(item: Json) -> str:
    if item["deletionDate"]:
        return f"its material is destroyed on {item['deletionDate'][:10]}"
    return "" if item["ready"] == "True" else item["reason"] or item["message"]


def _count_requests(
    keys: Sequence[Json], aliases: Sequence[Json], requests: Sequence[Json]
) -> Counter[tuple[str, str]]:
    found = (find_request_key(request, keys, aliases) for request in requests)
    return Counter(_identity(key) for key in found if key is not None)


def _identity(body: Json) -> tuple[str, str]:
    return namespace_of(body), name_of(body)
