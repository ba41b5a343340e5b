"""What follows from a failed attempt: wait quietly, tell and retry, or tell and wait for a change.

Zone: no secrets, no I/O; clock and randomness are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from datakeys.contract import errors
from datakeys.contract.conditions import REASON_RETRYING, Condition, format_time
from datakeys.contract.errors import KeyStateError, KmsError
from datakeys.contract.key_types import KeyState
from datakeys.controller.decisions.backoff import backoff_seconds, is_quiet

_BY_ITSELF: Final = "; this continues by itself"
_WAIT: Final = "Nothing is to be done here unless this lasts; then look at the key service's log"
_VERSIONS: Final = "Controller and key service are of different versions: finish the upgrade"
_IDENTITY: Final = "See that the controller's ServiceAccount and token are as the chart makes them"

#: What a reader of the condition can do; the key service's own text comes first. KMS error names as keys.
ADVICE: Final = {
    errors.KeyDisabledError.code: "Set spec.enabled of the KmsKey to true, or call EnableKey",
    errors.NotFoundError.code: "Create the KmsKey or the KmsAlias",
    errors.AccessDeniedError.code: (
        "Let the key policy of that key allow it, and RBAC of this namespace, or name a key of this namespace"
    ),
    errors.InvalidGrantTokenError.code: "Make a new request with the grantToken of an existing KmsGrant",
    errors.InvalidKeyUsageError.code: (
        "Make a new request with a KmsKey of keySpec SYMMETRIC_DEFAULT and origin AWS_KMS or EXTERNAL"
    ),
    errors.ValidationError.code: "Correct the spec; if it is immutable, make a new object",
    errors.SerializationError.code: _VERSIONS,
    errors.UnknownOperationError.code: _VERSIONS,
    errors.UnsupportedOperationError.code: "Take this setting out of the spec: this key can't have it",
    errors.MalformedPolicyDocumentError.code: "Correct spec.policy",
    errors.TagError.code: "Correct spec.tags",
    errors.LimitExceededError.code: "Delete what isn't needed any more, then change this object",
    errors.ConflictError.code: "Change the object again when the other change is over",
    errors.AlreadyExistsError.code: "Take another name, or delete what has it",
    errors.InvalidAliasNameError.code: "Make a new object with another aliasName",
    errors.NotAuthorizedError.code: "Make a new object whose aliasName doesn't begin with alias/aws/",
    errors.InvalidArnError.code: "Correct the ARN; if the spec is immutable, make a new object",
    errors.InvalidGrantIdError.code: "Delete this object and apply it again",
    errors.ThrottlingError.code: "Slow down, or wait",
    errors.DependencyTimeoutError.code: _WAIT,
    errors.KeyUnavailableError.code: _WAIT,
    errors.InternalError.code: _WAIT,
    errors.UnrecognizedClientError.code: _IDENTITY,
    errors.MissingAuthenticationTokenError.code: _IDENTITY,
    errors.IncompleteSignatureError.code: _IDENTITY,
    errors.InvalidSignatureError.code: _IDENTITY,
    errors.ExpiredTokenError.code: _IDENTITY,
}
#: KMSInvalidStateException has one name for many states; the key service's text tells them apart.
STATE_ADVICE: Final = {
    "is pending deletion": "Call CancelKeyDeletion and EnableKey, or delete the KmsKey and apply it again",
    "is pending import": "Import its key material with GetParametersForImport and ImportKeyMaterial",
    "is unavailable": "Connect its custom key store",
}
_OTHER_STATE: Final = f"See that status.keyState of the KmsKey becomes {KeyState.ENABLED}"
#: Errors that end when another object or the key changes, with no change of the object that they are told of.
_HEALING: Final = frozenset(
    {errors.KeyDisabledError.code, errors.KeyStateError.code, errors.NotFoundError.code}
)

#: Errors that can be over in a moment, though nobody would call them retryable: a key service replica that
#: hasn't yet seen a new key.
_SETTLING: Final = frozenset({errors.NotFoundError.code})
#: Errors of the controller's own identity or version: no change of a custom resource can end them, but time
#: can.
_OWN_TROUBLE: Final = frozenset(code for code, advice in ADVICE.items() if advice in (_IDENTITY, _VERSIONS))


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed.

    Attributes:
        code: KMS error name, or the reason of a refusal.
        retryable: The same attempt can succeed later without anybody changing anything.
        settling: It may be over in a moment: look again before it is reported.
        healing: It can end by a change of another object.
    """

    code: str
    message: str
    retryable: bool
    settling: bool = False
    healing: bool = False


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What to do after a failure: what to report, if anything, and when to look again, in seconds."""

    condition: Condition | None
    delay_seconds: float | None


def describe_kms_error(error: KmsError, *, heals: bool = True) -> FailedAttempt:
    """Return how an answer of the key service is treated.

    Args:
        error: The answer.
        heals: Whether whoever is told goes on by itself when the obstacle is gone.
    """
    advice = _find_advice(error)
    text = error.message or error.code
    healing = heals and error.code in _HEALING
    return FailedAttempt(
        code=error.code,
        message=f"{text.rstrip('.')}. {advice}{_BY_ITSELF if healing else ''}" if advice else text,
        retryable=error.retryable or error.code in _OWN_TROUBLE,
        settling=error.code in _SETTLING,
        healing=healing,
    )


def choose_failure(failures: Sequence[FailedAttempt]) -> FailedAttempt:
    """Return which of several failures to report: one that is tried again, as then all are."""
    return next((failed for failed in failures if failed.retryable), failures[0])


def _find_advice(error: KmsError) -> str | None:
    if error.code != KeyStateError.code:
        return ADVICE.get(error.code)
    return next((advice for text, advice in STATE_ADVICE.items() if text in error.message), _OTHER_STATE)


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
