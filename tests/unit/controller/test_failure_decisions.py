"""What follows from a failed attempt, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from datakeys.contract.conditions import Condition
from datakeys.contract.errors import KmsError, all_error_types
from datakeys.controller.decisions.backoff import CAP_SECONDS, QUIET_ATTEMPTS, backoff_seconds, is_quiet
from datakeys.controller.decisions.failure import (
    ADVICE,
    FailedAttempt,
    FollowUp,
    decide_follow_up,
    describe_kms_error,
)

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
RETRYABLE = FailedAttempt("KMSInternalException", "it broke.", retryable=True)
SETTLING = FailedAttempt("NotFoundException", "not there", retryable=False, settling=True)
FINAL = FailedAttempt("DisabledException", "it is off", retryable=False)
LOUD = QUIET_ATTEMPTS + 1


def follow(failed: FailedAttempt, attempt: int) -> FollowUp:
    """Return the decision with full jitter, so that delays are round."""
    return decide_follow_up(failed, condition_type="Ready", attempt=attempt, now=NOW, fraction=1.0)


def test_blip_makes_no_write() -> None:
    """The first failures of what may be over in a moment are kept in memory."""
    for failed in (RETRYABLE, SETTLING):
        assert [follow(failed, attempt).condition for attempt in range(1, LOUD)] == [None] * QUIET_ATTEMPTS
        assert all(follow(failed, attempt).delay_seconds for attempt in range(1, LOUD))


def test_final_error_is_told_at_once() -> None:
    """An error that only a change can end is reported at the first attempt, and nothing is scheduled."""
    assert follow(FINAL, 1) == FollowUp(Condition("Ready", "False", "DisabledException", "it is off"), None)


def test_settled_error_waits_for_a_change() -> None:
    """What didn't settle becomes a condition, and nothing is scheduled."""
    assert follow(SETTLING, LOUD) == FollowUp(
        Condition("Ready", "False", "NotFoundException", "not there"), None
    )


def test_lasting_failure_names_error_and_next_attempt() -> None:
    """A retryable failure that lasts is reported with its error name and the time of the next attempt."""
    decision = follow(RETRYABLE, LOUD)
    assert decision.condition == Condition(
        "Ready",
        "False",
        "Retrying",
        "KMSInternalException: it broke. Next attempt at 2026-05-01T12:00:02Z",
    )
    assert decision.delay_seconds == 2.0


def test_pauses_grow_up_to_five_minutes() -> None:
    """Pauses double from 2 seconds to 5 minutes and stay there, also after a very long outage."""
    pauses = [backoff_seconds(attempt, 1.0) for attempt in range(LOUD, 1000)]
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert max(pauses) == pauses[-1] == CAP_SECONDS == timedelta(minutes=5).total_seconds()
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("attempt", [1, QUIET_ATTEMPTS, LOUD, 50])
def test_jitter_spreads_the_upper_half(attempt: int) -> None:
    """The random number moves a pause between one half and the whole."""
    assert backoff_seconds(attempt, 0.0) == backoff_seconds(attempt, 1.0) / 2
    assert backoff_seconds(attempt, 0.0) < backoff_seconds(attempt, 0.5) < backoff_seconds(attempt, 1.0)


def test_quiet_attempts_are_over_within_seconds() -> None:
    """All quiet pauses together are short enough for somebody who watches."""
    assert sum(backoff_seconds(attempt, 1.0) for attempt in range(1, 99) if is_quiet(attempt)) < 5


@pytest.mark.parametrize("error_type", all_error_types())
def test_every_kms_error_has_a_treatment(error_type: type[KmsError]) -> None:
    """Each error keeps its KMS name as reason; advice follows the service's own text."""
    failed = describe_kms_error(error_type("text from the service."))
    assert failed.code == error_type.code
    assert failed.message.startswith("text from the service.")
    if error_type.code in ADVICE:
        assert failed.message.endswith(ADVICE[error_type.code])
    if error_type.retryable:
        assert failed.retryable


def test_error_without_text_is_named() -> None:
    """An error without a message is still readable."""
    assert describe_kms_error(KmsError()).message == "KMSInternalException"


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "MissingAuthenticationTokenException"])
def test_own_identity_is_tried_again(code: str) -> None:
    """That the controller isn't recognised can't be mended by a user's object, but by time."""
    (error_type,) = [cls for cls in all_error_types() if cls.code == code]
    assert describe_kms_error(error_type("who?")).retryable


@pytest.mark.parametrize("code", ["DisabledException", "AccessDeniedException", "InvalidKeyUsageException"])
def test_user_errors_are_not_tried_again(code: str) -> None:
    """What a user has to mend isn't polled."""
    (error_type,) = [cls for cls in all_error_types() if cls.code == code]
    failed = describe_kms_error(error_type("no"))
    assert (failed.retryable, failed.settling) == (False, False)
