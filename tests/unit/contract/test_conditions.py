"""Merging of status conditions."""

from datetime import UTC, datetime, timedelta

from datakeys.contract.conditions import Condition, find_condition, merge_condition

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_first_condition_gets_the_time() -> None:
    """A new condition has its transition now."""
    [made] = merge_condition([], Condition("Ready", "True", "Issued", "ok"), generation=3, now=NOW)
    assert made["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert made["observedGeneration"] == 3


def test_time_moves_only_when_the_status_changes() -> None:
    """A new reason under the same status keeps the transition time; a new status moves it."""
    old = merge_condition([], Condition("Ready", "False", "Retrying"), generation=1, now=NOW)
    later = NOW + timedelta(hours=1)
    same = merge_condition(old, Condition("Ready", "False", "DisabledException"), generation=1, now=later)
    assert same[0]["lastTransitionTime"] == old[0]["lastTransitionTime"]
    assert same[0]["reason"] == "DisabledException"
    changed = merge_condition(same, Condition("Ready", "True", "Issued"), generation=1, now=later)
    assert changed[0]["lastTransitionTime"] == "2026-01-02T04:04:05Z"


def test_other_conditions_stay() -> None:
    """Only the own type is replaced, in place."""
    foreign = {"type": "Other", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "t"}
    merged = merge_condition([foreign], Condition("Ready", "True", "Issued"), generation=1, now=NOW)
    assert merged[0] == foreign
    assert find_condition(merged, "Ready") == Condition("Ready", "True", "Issued", "")
    assert find_condition(merged, "DryRun") is None
