"""How errors of the key service end a kopf handler: retry with growing pauses, or a condition.

Zone: no secrets.
"""

import random
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import kopf

from datakeys.contract.conditions import CONDITION_READY, Condition, find_condition, merge_condition
from datakeys.contract.errors import KmsError
from datakeys.controller.decisions.failure import FailedAttempt, decide_follow_up, describe_kms_error

#: Attempts after which an object that is being deleted is let go, so that no namespace hangs for ever.
DELETION_ATTEMPTS: Final = 12
#: How soon at the latest an object goes on after the obstacle that it has told is gone.
HEALING_SECONDS: Final = 60.0


def report(body: Mapping[str, Any], patch_status: MutableMapping[str, Any], condition: Condition) -> None:
    """Put a condition into a patch, unless the status already says so."""
    status, generation = body.get("status") or {}, body["metadata"].get("generation", 1)
    conditions = status.get("conditions") or []
    told = find_condition(conditions, condition.type) == condition
    if told and status.get("observedGeneration") == generation:
        return
    patch_status["observedGeneration"] = generation
    patch_status["conditions"] = merge_condition(
        conditions, condition, generation=generation, now=datetime.now(UTC)
    )


def end_with_failure(
    body: Mapping[str, Any], patch_status: MutableMapping[str, Any], failed: FailedAttempt, *, retry: int
) -> bool:
    """Report a failed attempt and let kopf try again if that can help.

    Args:
        body: The object.
        patch_status: Where the condition goes.
        failed: The attempt.
        retry: How many attempts kopf has counted before this one.

    Returns:
        True if it is final.

    Raises:
        kopf.TemporaryError: It is to be tried again.
    """
    follow_up = decide_follow_up(
        failed,
        condition_type=CONDITION_READY,
        attempt=retry + 1,
        now=datetime.now(UTC),
        fraction=random.random(),  # noqa: S311 - jitter
    )
    if follow_up.condition is not None:
        report(body, patch_status, follow_up.condition)
    if follow_up.delay_seconds is not None:
        raise kopf.TemporaryError(failed.code, delay=follow_up.delay_seconds)
    if failed.healing:
        raise kopf.TemporaryError(failed.code, delay=min(HEALING_SECONDS, 2.0**retry))
    return True


def end_with_error(
    body: Mapping[str, Any], patch_status: MutableMapping[str, Any], error: KmsError, *, retry: int
) -> bool:
    """Like ``end_with_failure``, for an answer of the key service."""
    return end_with_failure(body, patch_status, describe_kms_error(error), retry=retry)


def delay_deletion(error: KmsError, *, retry: int) -> None:
    """Return if an object can be let go although the key service refused; else let kopf try again.

    Raises:
        kopf.TemporaryError: The key service can't be reached for now.
    """
    if not describe_kms_error(error).retryable or retry >= DELETION_ATTEMPTS:
        return
    raise kopf.TemporaryError(error.code, delay=min(60.0, 2.0**retry))
