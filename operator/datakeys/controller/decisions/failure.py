"""What follows from a failed attempt: wait quietly, tell and retry, or tell and wait for a change.

Zone: no secrets, no I/O; clock and randomness are arguments.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from datakeys.contract.conditions import REASON_RETRYING, Condition, format_time
from datakeys.contract.errors import (
    AccessDeniedError,
    InvalidGrantTokenError,
    InvalidKeyUsageError,
    KeyDisabledError,
    KeyStateError,
    KmsError,
    MissingAuthenticationTokenError,
    NotFoundError,
    UnrecognizedClientError,
    ValidationError,
)
from datakeys.controller.decisions.backoff import backoff_seconds, is_quiet

#: What a reader of the condition can do; the key service's own text comes first.
ADVICE: Final = {
    KeyDisabledError.code: "Set spec.enabled of the KmsKey to true; this continues by itself",
    KeyStateError.code: "Apply the KmsKey again to cancel its deletion; this continues by itself",
    NotFoundError.code: "Create the KmsKey or the KmsAlias; this continues by itself",
    AccessDeniedError.code: "Allow it by a KmsGrant or the key policy, or name a key of this namespace",
    InvalidGrantTokenError.code: "Make a new request with the grantToken of an existing KmsGrant",
    InvalidKeyUsageError.code: "Make a new request with a KmsKey of keySpec SYMMETRIC_DEFAULT",
    ValidationError.code: "Make a new request with a corrected spec",
}

#: Errors that can be over in a moment, though nobody would call them retryable: a key service replica that
#: hasn't yet seen a new key.
_SETTLING: Final = frozenset({NotFoundError.code})
#: Errors of the controller's own identity: no change of a custom resource can end them, but time can.
_OWN_IDENTITY: Final = frozenset({UnrecognizedClientError.code, MissingAuthenticationTokenError.code})


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed.

    Attributes:
        code: KMS error name, or the reason of a refusal.
        retryable: The same attempt can succeed later without anybody changing anything.
        settling: It may be over in a moment: look again before it is reported.
    """

    code: str
    message: str
    retryable: bool
    settling: bool = False


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What to do after a failure: what to report, if anything, and when to look again, in seconds."""

    condition: Condition | None
    delay_seconds: float | None


def describe_kms_error(error: KmsError) -> FailedAttempt:
    """Return how an answer of the key service is treated."""
    advice = ADVICE.get(error.code)
    text = error.message or error.code
    return FailedAttempt(
        code=error.code,
        message=f"{text.rstrip('.')}. {advice}" if advice else text,
        retryable=error.retryable or error.code in _OWN_IDENTITY,
        settling=error.code in _SETTLING,
    )


def decide_follow_up(
    failed: FailedAttempt, *, condition_type: str, attempt: int, now: datetime, fraction: float
) -> FollowUp:
    """Return what to report and when to try again.

    Args:
        failed: The failed attempt.
        condition_type: Ready or DryRun.
        attempt: How many attempts have failed in a row, this one included.
        now: The time.
        fraction: A random number in 0..1.
    """
    if is_quiet(attempt) and (failed.retryable or failed.settling):
        return FollowUp(None, backoff_seconds(attempt, fraction))
    if not failed.retryable:
        return FollowUp(Condition(condition_type, "False", failed.code, failed.message), None)
    delay = backoff_seconds(attempt, fraction)
    at = format_time(now + timedelta(seconds=delay))
    message = f"{failed.code}: {failed.message.rstrip('.')}. Next attempt at {at}"
    return FollowUp(Condition(condition_type, "False", REASON_RETRYING, message), delay)
