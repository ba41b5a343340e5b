"""One row per DataKeyRequest. Zone: no I/O; the clock is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from datakeys.kubectl.answers import Gap, Items, Json, list_items, name_of, namespace_of
from datakeys.kubectl.key_names import find_request_key, status_of, wanted_key
from datakeys.kubectl.output import format_age
from datakeys.kubectl.requests import (
    account_of,
    list_secret_names,
    list_versions,
    ready_condition,
    sort_objects,
    workload_of,
)

HEADERS = ("NAME", "WORKLOAD", "ACCOUNT", "READY", "KEY", "KEY STATE", "VERSIONS", "NOTE", "AGE")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is looked up beside the requests.

    Attributes:
        secrets: Names of the Secrets with data keys, by namespace; None if they can't be seen.
        workloads: The objects of each kind that a request names.
    """

    keys: Items
    aliases: Items
    secrets: Mapping[str, frozenset[str]] | None
    workloads: Mapping[str, Items]


def list_workload_kinds(requests: Sequence[Json]) -> list[str]:
    """Return the kinds of the workloads that requests name, sorted."""
    found = (workload_of(request) for request in requests)
    return sorted({workload[0] for workload in found if workload})


def build_request_items(requests: Sequence[Json], around: Surroundings) -> list[Json]:
    """Return what machines read; null stands for what can't be seen."""
    return [_build_item(request, around) for request in sort_objects(requests)]


def build_request_row(item: Json, now: datetime) -> list[str]:
    """Return the cells of a row."""
    versions = item["versions"]
    return [
        item["name"],
        item["workload"] or "",
        item["serviceAccountName"],
        item["ready"],
        item["key"],
        item["keyState"] or "?",
        str(versions[0]) if len(versions) == 1 else f"{versions[0]} (from {versions[-1]})",
        item["note"],
        format_age(item["creationTimestamp"], now),
    ]


def _build_item(request: Json, around: Surroundings) -> Json:
    ready = ready_condition(request)
    key = find_request_key(request, list_items(around.keys), list_items(around.aliases))
    workload = workload_of(request)
    item: Json = {
        "namespace": namespace_of(request),
        "name": name_of(request),
        "workload": "/".join(workload) if workload else None,
        "workloadGone": _is_gone(request, workload, around),
        "serviceAccountName": account_of(request),
        "ready": ready.status,
        "reason": ready.reason,
        "message": ready.message,
        "key": name_of(key) if key else wanted_key(request),
        "keyArn": status_of(request).get("keyId"),
        "keyState": status_of(key).get("keyState") if key else None,
        "versions": list_versions(request),
        "secrets": list_secret_names(request),
        "missingSecrets": _find_missing(request, around),
        "creationTimestamp": request["metadata"].get("creationTimestamp"),
    }
    return {**item, "note": _note(item, _find_lost_key(request, around))}


def _is_gone(request: Json, workload: tuple[str, str] | None, around: Surroundings) -> bool | None:
    """Return whether the workload doesn't exist any more; None without one, or if it can't be seen."""
    present = around.workloads.get(workload[0]) if workload else None
    if workload is None or present is None or isinstance(present, Gap):
        return None
    names = {name_of(one) for one in present if namespace_of(one) == namespace_of(request)}
    kind, name = workload
    # Pods of one generateName are one workload, named by it.
    return name not in names and not (kind == "Pod" and any(one.startswith(f"{name}-") for one in names))


def _find_missing(request: Json, around: Surroundings) -> list[str] | None:
    if around.secrets is None:
        return None
    present = around.secrets.get(namespace_of(request), frozenset())
    return [name for name in list_secret_names(request) if name not in present]


def _find_lost_key(request: Json, around: Surroundings) -> str:
    """Return the name of the KmsKey that the request names, if that was there once and isn't now; else ""."""
    name = str(((request.get("spec") or {}).get("keyRef") or {}).get("name") or "")
    if not name or isinstance(around.keys, Gap) or not status_of(request).get("keyId"):
        return ""
    return "" if find_request_key(request, around.keys, list_items(around.aliases)) else name


def _note(item: Json, lost_key: str) -> str:
    if item["ready"] != "True":
        return str(item["reason"] or item["message"])
    if lost_key:
        return f"KmsKey {lost_key} is gone: apply it again, before its key is destroyed"
    if item["missingSecrets"]:
        return f"Secret {item['missingSecrets'][0]} is missing"
    return "retained: its workload is gone" if item["workloadGone"] else ""
