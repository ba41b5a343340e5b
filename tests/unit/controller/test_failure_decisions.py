"""What follows from a failed attempt, as a table."""

from datetime import UTC, datetime, timedelta

import pytest

from datakeys.contract.conditions import Condition
from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    KeyStateError,
    KmsError,
    all_error_types,
    error_from_code,
)
from datakeys.controller.decisions.backoff import CAP_SECONDS, QUIET_ATTEMPTS, backoff_seconds, is_quiet
from datakeys.controller.decisions.failure import (
    ADVICE,
    STATE_ADVICE,
    FailedAttempt,
    FollowUp,
    choose_failure,
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


#: kms-semantics 1.5: what GenerateDataKeyWithoutPlaintext answers, how it goes on, and the next step's word.
RETRY, WAIT, ANSWER = "retry", "wait", "answer"
GENERATE_ERRORS = {
    "DependencyTimeoutException": (RETRY, "log"),
    "DisabledException": (WAIT, "spec.enabled"),
    "DryRunOperationException": (ANSWER, ""),
    "InvalidGrantTokenException": (WAIT, "grantToken"),
    "InvalidKeyUsageException": (WAIT, "SYMMETRIC_DEFAULT"),
    "KeyUnavailableException": (RETRY, "log"),
    "KMSInternalException": (RETRY, "log"),
    "KMSInvalidStateException": (WAIT, "status.keyState"),
    "NotFoundException": (WAIT, "Create the KmsKey"),
    "AccessDeniedException": (WAIT, "key policy"),
    "ValidationException": (WAIT, "Correct the spec"),
    "ThrottlingException": (RETRY, "wait"),
    "SerializationException": (RETRY, "upgrade"),
    "UnknownOperationException": (RETRY, "upgrade"),
    "MissingAuthenticationTokenException": (RETRY, "ServiceAccount"),
    "UnrecognizedClientException": (RETRY, "ServiceAccount"),
    "InvalidSignatureException": (RETRY, "ServiceAccount"),
    "IncompleteSignatureException": (RETRY, "ServiceAccount"),
    "ExpiredTokenException": (RETRY, "ServiceAccount"),
}


@pytest.mark.parametrize("code", [code for code, row in GENERATE_ERRORS.items() if row[0] is not ANSWER])
def test_errors_of_generating_a_data_key(code: str) -> None:
    """Each error ends in a condition of its name, or in Retrying with the next time; both say what to do."""
    course, word = GENERATE_ERRORS[code]
    decision = follow(describe_kms_error(error_from_code(code, "text.")), LOUD)
    assert decision.condition is not None
    assert word in decision.condition.message
    if course is RETRY:
        assert decision.condition.reason == "Retrying"
        assert decision.condition.message.startswith(f"{code}: text. ")
        assert decision.condition.message.endswith("Next attempt at 2026-05-01T12:00:02Z")
        assert decision.delay_seconds is not None
    else:
        assert (decision.condition.reason, decision.delay_seconds) == (code, None)
        heals = code in ("DisabledException", "KMSInvalidStateException", "NotFoundException")
        assert decision.condition.message.endswith("; this continues by itself") is heals


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("arn is pending deletion.", "CancelKeyDeletion"),
        ("arn is pending import.", "ImportKeyMaterial"),
        ("arn is unavailable.", "Connect"),
        ("arn is creating.", "status.keyState"),
    ],
)
def test_unfit_states_have_advice_of_their_own(text: str, word: str) -> None:
    """One error name stands for many states; the next step is the state's."""
    failed = describe_kms_error(KeyStateError(text))
    assert word in failed.message
    assert failed.message.endswith("continues by itself")
    assert (failed.retryable, failed.healing) == (False, True)
    told_once = describe_kms_error(KeyStateError(text), heals=False)
    assert "continues by itself" not in told_once.message
    assert not told_once.healing
    assert set(STATE_ADVICE) == {"is pending deletion", "is pending import", "is unavailable"}


def test_denial_tells_nothing_of_the_key() -> None:
    """What is said about a key of another namespace is the same whether it exists or not."""
    denied = describe_kms_error(AccessDeniedError("The caller is not authorized to perform this operation."))
    assert "exist" not in denied.message.lower()
    assert "not found" not in denied.message.lower()


def test_of_several_failures_one_that_is_tried_again_is_told() -> None:
    """As long as one failure is tried again, all are: then the condition says so."""
    assert choose_failure([FINAL, RETRYABLE]) is RETRYABLE
    assert choose_failure([FINAL, SETTLING]) is FINAL


@pytest.mark.parametrize("error_type", all_error_types())
def test_every_kms_error_has_a_treatment(error_type: type[KmsError]) -> None:
    """Each error keeps its KMS name as reason; advice follows the service's own text."""
    failed = describe_kms_error(error_type("text from the service."))
    assert failed.code == error_type.code
    assert failed.message.startswith("text from the service.")
    if error_type.code in ADVICE:
        assert ADVICE[error_type.code] in failed.message
    if error_type.code in GENERATE_ERRORS and error_type is not DryRunOperationError:
        assert failed.message != "text from the service."
    if error_type.retryable:
        assert failed.retryable


def test_error_without_text_is_named() -> None:
    """An error without a message is still readable."""
    assert describe_kms_error(KmsError()).message.startswith("KMSInternalException. ")


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
