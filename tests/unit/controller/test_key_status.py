"""The status of a KmsKey from what the key service says."""

from dataclasses import replace
from typing import Any

import pytest

from controller_fakes import KEY_ARN, NOW
from datakeys.contract.conditions import Condition
from datakeys.controller.decisions.key_status import (
    APPLIED,
    ObservedKey,
    build_key_status,
    build_refreshed_status,
    diff_status,
    ready_condition,
)
from datakeys.controller.decisions.kms_key import is_applied
from datakeys.controller.keyservice_answers import KeyMetadata, KeyRotation

METADATA = KeyMetadata("id", KEY_ARN, "Enabled", 1_700_000_000.5, None, "ab")
DATE = "2023-11-14T22:13:20Z"


def build(observed: ObservedKey, *conditions: dict[str, Any]) -> dict[str, Any]:
    """Return the status after a spec of generation 3 was applied."""
    return build_key_status(observed, conditions=conditions, synced=APPLIED, generation=3, now=NOW)


def stored(observed: ObservedKey) -> dict[str, Any]:
    """Return that status as the API server stores it: without null."""
    status = {name: value for name, value in build(observed).items() if value is not None}
    if "rotation" in status:
        status["rotation"] = {name: value for name, value in status["rotation"].items() if value is not None}
    return status


def summary(status: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return type, status and reason of the conditions."""
    return [(item["type"], item["status"], item["reason"]) for item in status["conditions"]]


def test_status_of_a_key() -> None:
    """The status has dates in RFC 3339, and conditions for the key state and for the spec."""
    status = build(ObservedKey(METADATA))
    assert (status["creationDate"], status["deletionDate"], status["validTo"]) == (DATE, None, None)
    assert status["observedGeneration"] == 3
    assert summary(status) == [("Ready", "True", "Enabled"), ("Synced", "True", "Applied")]


def test_deletion_date_is_shown_while_pending_only() -> None:
    """A deletion date of a cancelled deletion isn't shown."""
    metadata = replace(METADATA, deletion_date=1_700_000_000)
    for state, expected in (("PendingDeletion", DATE), ("Enabled", None)):
        assert build(ObservedKey(replace(metadata, state=state)))["deletionDate"] == expected


def test_rotation_and_expiry_are_shown() -> None:
    """The status tells when the material is rotated next, or expires."""
    rotating = build(
        ObservedKey(METADATA, KeyRotation(enabled=True, period_days=90, next_date=1_700_000_000.0))
    )
    assert rotating["rotation"] == {"enabled": True, "periodDays": 90, "nextRotationDate": DATE}
    resting = stored(ObservedKey(METADATA, KeyRotation(enabled=False)))
    assert resting["rotation"] == {"enabled": False}
    assert build(ObservedKey(METADATA))["rotation"] is None
    assert build(ObservedKey(replace(METADATA, valid_to=1_700_000_000.0)))["validTo"] == DATE


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("Disabled", "EnableKey"),
        ("PendingDeletion", "CancelKeyDeletion"),
        ("PendingImport", "ImportKeyMaterial"),
        ("Unavailable", "custom key store"),
        ("Updating", "so the key can't be used"),
    ],
)
def test_state_that_is_unfit_says_what_to_do(state: str, step: str) -> None:
    """The reason is the key state; the message has the next step."""
    condition = ready_condition(replace(METADATA, state=state))
    assert (condition.status, condition.reason) == ("False", state)
    assert step in condition.message


@pytest.mark.parametrize(
    ("key_spec", "origin", "makes"),
    [
        ("SYMMETRIC_DEFAULT", "AWS_KMS", True),
        ("SYMMETRIC_DEFAULT", "EXTERNAL", True),
        ("SYMMETRIC_DEFAULT", "AWS_CLOUDHSM", False),
        ("SYMMETRIC_DEFAULT", "EXTERNAL_KEY_STORE", False),
        ("RSA_2048", "AWS_KMS", False),
        ("HMAC_256", "AWS_KMS", False),
        ("ECC_NIST_P256", "AWS_KMS", False),
    ],
)
def test_key_that_makes_no_data_keys_says_so(key_spec: str, origin: str, makes: bool) -> None:
    """Such a key is Ready, as it can be used, and its message tells the rule."""
    condition = ready_condition(replace(METADATA, key_spec=key_spec, origin=origin))
    assert condition.is_true
    assert ("no data keys" in condition.message) is not makes


def test_look_that_finds_nothing_new_changes_nothing() -> None:
    """The status of an unchanged key makes no patch, whatever generation the object has."""
    for observed in (
        ObservedKey(METADATA, KeyRotation(enabled=False)),
        ObservedKey(METADATA, KeyRotation(enabled=True, period_days=90, next_date=5.0)),
        ObservedKey(replace(METADATA, valid_to=5.0)),
    ):
        status = stored(observed)
        assert build_refreshed_status(observed, status, generation=3, now=NOW) == {}


def test_look_changes_the_state_and_nothing_about_the_spec() -> None:
    """A key that was disabled by a call shows as Disabled; Synced and observedGeneration stay."""
    status = stored(ObservedKey(METADATA))
    disabled = ObservedKey(replace(METADATA, state="Disabled"))
    changes = build_refreshed_status(disabled, status, generation=4, now=NOW)
    assert set(changes) == {"keyState", "conditions"}
    assert summary(changes) == [("Ready", "False", "Disabled"), ("Synced", "True", "Applied")]
    assert changes["conditions"][1] == status["conditions"][1]


def test_destroyed_key_shows() -> None:
    """A key that is gone has no state, no material and no dates, and says what to do."""
    pending = ObservedKey(replace(METADATA, state="PendingDeletion", deletion_date=5.0))
    changes = build_refreshed_status(None, stored(pending), generation=3, now=NOW)
    assert summary(changes)[0] == ("Ready", "False", "NotFoundException")
    assert "restore the operator's namespace from its backup" in changes["conditions"][0]["message"]
    assert {name for name, value in changes.items() if value is None} == {
        "keyState",
        "currentKeyMaterialId",
        "deletionDate",
    }


def test_member_that_goes_is_sent_as_null() -> None:
    """A merge patch removes only what it names."""
    on, off = {"enabled": True, "periodDays": 90}, {"enabled": False, "periodDays": None}
    assert diff_status({"rotation": on}, {"rotation": off}) == {"rotation": off}
    assert diff_status({"rotation": {"enabled": False}}, {"rotation": off}) == {}


@pytest.mark.parametrize(
    ("key_id", "status", "generation", "applied"),
    [
        ("id", "True", 2, True),
        ("id", "True", 1, False),
        ("id", "False", 2, False),
        ("", "True", 2, False),
    ],
)
def test_applied_spec_is_recognised(key_id: str, status: str, generation: int, applied: bool) -> None:
    """A spec counts as applied if the key is there and Synced holds for this very generation."""
    condition = {"type": "Synced", "status": status, "observedGeneration": generation}
    body = {"metadata": {"generation": 2}, "status": {"keyId": key_id, "conditions": [condition]}}
    assert is_applied(body) is applied


def test_quiet_failure_leaves_the_condition() -> None:
    """As long as a failure may be a blip, Synced keeps what it said about the former generation."""
    before = stored(ObservedKey(METADATA))["conditions"]
    status = build_key_status(ObservedKey(METADATA), conditions=before, synced=None, generation=4, now=NOW)
    assert summary(status) == [("Ready", "True", "Enabled"), ("Synced", "True", "Applied")]
    assert [item["observedGeneration"] for item in status["conditions"]] == [4, 3]
    assert Condition("Synced", "True", "Applied", APPLIED.message) == APPLIED
