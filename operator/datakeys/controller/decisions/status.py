"""The status of a DataKeyRequest as a merge patch.

Zone: ciphertext only, no I/O; the clock is an argument.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from datakeys.contract.conditions import (
    CONDITION_READY,
    REASON_ISSUED,
    Condition,
    find_condition,
    merge_condition,
)
from datakeys.controller.decisions.data_key_versions import DataKeyVersion, build_version_fields
from datakeys.controller.decisions.request_view import RequestView


def build_ready_status(
    request: RequestView, versions: Sequence[DataKeyVersion], now: datetime
) -> dict[str, Any]:
    """Return the status of a request with these versions of its data key, at least one."""
    ready = Condition(
        CONDITION_READY,
        "True",
        REASON_ISSUED,
        f"The encrypted data key is in Secret {versions[-1].secret_name}",
    )
    return {**build_version_fields(versions), **build_condition_status(request, ready, now)}


def build_condition_status(request: RequestView, condition: Condition, now: datetime) -> dict[str, Any]:
    """Return a status in which one condition is set."""
    return {
        "observedGeneration": request.generation,
        "conditions": merge_condition(request.conditions, condition, generation=request.generation, now=now),
    }


def is_reported(request: RequestView, condition: Condition) -> bool:
    """Return whether the status already says so, in which case nothing is written."""
    return (
        request.observed_generation == request.generation
        and find_condition(request.conditions, condition.type) == condition
    )
