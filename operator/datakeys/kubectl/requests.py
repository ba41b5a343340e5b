"""A DataKeyRequest as the commands see it. Zone: no I/O; never a ciphertext."""

from collections.abc import Sequence
from typing import Any

from datakeys.contract.conditions import CONDITION_DRY_RUN, CONDITION_READY, Condition, find_condition
from datakeys.contract.data_key_versions import FIRST_VERSION, build_version_secret_name
from datakeys.kubectl.answers import Json, name_of, namespace_of


def ready_condition(body: Json) -> Condition:
    """Return the condition Ready of an object of the project; Unknown if nobody has set it yet.

    A dry run has another condition and gets no data key: it is never Ready, and that is as it should be.
    """
    conditions = (body.get("status") or {}).get("conditions") or []
    dry = find_condition(conditions, CONDITION_DRY_RUN)
    if dry is not None:
        result = "it would succeed" if dry.is_true else f"{dry.reason}: {dry.message}"
        return Condition(CONDITION_READY, "False", "", f"a dry run: {result}")
    return find_condition(conditions, CONDITION_READY) or Condition(
        CONDITION_READY, "Unknown", "", "the controller hasn't looked at it yet"
    )


def list_versions(request: Json) -> list[int]:
    """Return the versions of the data key that a request keeps, the newest first."""
    spec = request.get("spec") or {}
    newest = int(spec.get("version") or FIRST_VERSION)
    oldest = int(spec.get("oldestVersion") or FIRST_VERSION)
    return list(range(newest, oldest - 1, -1))


def list_secret_names(request: Json) -> list[str]:
    """Return the names of the Secrets of a request, the newest version first; none for a dry run."""
    spec = request.get("spec") or {}
    if spec.get("dryRun"):
        return []
    base = str(spec.get("secretName") or name_of(request))
    return [build_version_secret_name(base, one) for one in list_versions(request)]


def workload_of(request: Json) -> tuple[str, str] | None:
    """Return kind and name of the workload that a request is for, or None."""
    reference: Any = (request.get("spec") or {}).get("workloadRef")
    return (str(reference["kind"]), str(reference["name"])) if reference else None


def account_of(request: Json) -> str:
    """Return the ServiceAccount whose pods may decrypt."""
    return str((request.get("spec") or {}).get("serviceAccountName") or "")


def sort_objects(objects: Sequence[Json]) -> list[Json]:
    """Return objects by namespace and name."""
    return sorted(objects, key=lambda body: (namespace_of(body), name_of(body)))
