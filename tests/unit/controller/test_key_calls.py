"""Which calls bring a key to its spec: a pure decision."""

import json
from typing import Any

import pytest

from datakeys.controller.decisions.key_calls import (
    ActualKey,
    KeyCall,
    KeyOperation,
    build_default_policy,
    decide_key_calls,
    state_after,
)

ACTUAL = ActualKey("Enabled", "", {}, "{}", 0)


def decide(
    spec: dict[str, Any], actual: ActualKey = ACTUAL, former: dict[str, Any] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Return operations and members."""
    calls = decide_key_calls("shop", spec, former or {}, actual)
    return [(call.operation.value, dict(call.members)) for call in calls]


@pytest.mark.parametrize(
    ("state", "enabled", "call", "after"),
    [
        ("Enabled", True, None, "Enabled"),
        ("Enabled", False, "DisableKey", "Disabled"),
        ("Disabled", True, "EnableKey", "Enabled"),
        ("Disabled", False, None, "Disabled"),
        ("PendingImport", True, None, "PendingImport"),
        ("PendingImport", False, None, "PendingImport"),
        ("PendingDeletion", True, None, "PendingDeletion"),
        ("Unavailable", False, None, "Unavailable"),
    ],
)
def test_switching_a_key(state: str, enabled: bool, call: str | None, after: str) -> None:
    """Only enabled and disabled keys are switched, and only if they aren't as wanted."""
    calls = decide_key_calls("shop", {"enabled": enabled}, {}, ActualKey(state, "", {}, "{}", 0))
    assert [item.operation.value for item in calls] == ([call] if call else [])
    assert state_after(state, calls) == after


SETTINGS: dict[str, tuple[dict[str, Any], ActualKey, list[tuple[str, dict[str, Any]]]]] = {
    "description": (
        {"description": "new"},
        ACTUAL,
        [("UpdateKeyDescription", {"Description": "new"})],
    ),
    "same description": ({"description": "x"}, ActualKey("Enabled", "x"), []),
    "tags": (
        {"tags": {"b": "2", "a": "1"}},
        ActualKey("Enabled", tags={"b": "0", "other": "kept"}),
        [("TagResource", {"Tags": [{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}]})],
    ),
    "tags that couldn't be read": ({"tags": {"a": "1"}}, ActualKey("Enabled"), []),
    "policy": (
        {"policy": '{"a": 1}'},
        ACTUAL,
        [("PutKeyPolicy", {"PolicyName": "default", "Policy": '{"a": 1}'})],
    ),
    "policy in another spelling": (
        {"policy": '{"a": 1, "b": [2]}'},
        ActualKey("Enabled", policy='{"b":[2],"a":1}'),
        [],
    ),
    "policy that isn't JSON": (
        {"policy": "nonsense"},
        ACTUAL,
        [("PutKeyPolicy", {"PolicyName": "default", "Policy": "nonsense"})],
    ),
    "policy that couldn't be read": ({"policy": "{}"}, ActualKey("Enabled"), []),
    "rotation": (
        {"rotation": {"enabled": True, "periodDays": 90}},
        ACTUAL,
        [("EnableKeyRotation", {"RotationPeriodInDays": 90})],
    ),
    "rotation with the default period": (
        {"rotation": {"enabled": True}},
        ACTUAL,
        [("EnableKeyRotation", {"RotationPeriodInDays": 365})],
    ),
    "another period": (
        {"rotation": {"enabled": True, "periodDays": 100}},
        ActualKey("Enabled", rotation_days=90),
        [("EnableKeyRotation", {"RotationPeriodInDays": 100})],
    ),
    "same period": (
        {"rotation": {"enabled": True, "periodDays": 90}},
        ActualKey("Enabled", rotation_days=90),
        [],
    ),
    "rotation off": (
        {"rotation": {"enabled": False, "periodDays": 90}},
        ActualKey("Enabled", rotation_days=90),
        [("DisableKeyRotation", {})],
    ),
    "rotation off that is off": ({"rotation": {"enabled": False}}, ACTUAL, []),
    "rotation of a key that can't": ({"rotation": {"enabled": True}}, ActualKey("Enabled"), []),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_of_the_spec_are_made_so(case: str) -> None:
    """Each setting has its call, and none if the key is right."""
    spec, actual, calls = SETTINGS[case]
    assert decide(spec, actual) == calls


FULL = ActualKey("Enabled", "by API", {"a": "1", "api": "2"}, '{"by": "API"}', 90)


def test_what_the_spec_never_gave_is_left_alone() -> None:
    """Settings that were made by API calls stay when the spec changes elsewhere."""
    assert decide({"enabled": True}, FULL, {"enabled": True}) == []


def test_what_the_spec_gives_no_more_is_the_default_again() -> None:
    """A member that is taken out of the spec is undone; a tag that the spec never had stays."""
    former = {
        "description": "x",
        "tags": {"a": "1", "never made": ""},
        "policy": "{}",
        "rotation": {"enabled": True},
    }
    assert decide({}, FULL, former) == [
        ("UpdateKeyDescription", {"Description": ""}),
        ("PutKeyPolicy", {"PolicyName": "default", "Policy": build_default_policy("shop")}),
        ("UntagResource", {"TagKeys": ["a"]}),
        ("DisableKeyRotation", {}),
    ]


def test_default_policy_leaves_the_decision_to_the_account() -> None:
    """The default policy allows the namespace everything, and so names nobody in it."""
    (statement,) = json.loads(build_default_policy("shop"))["Statement"]
    assert statement["Principal"] == {"Kubernetes": "arn:k8s:iam::shop:root"}
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Allow", "kms:*", "*")


@pytest.mark.parametrize(("state", "enabled"), [("Disabled", True), ("Enabled", False)])
def test_rotation_is_set_while_the_key_is_enabled(state: str, enabled: bool) -> None:
    """A key is enabled before and disabled after everything else, as a disabled key's rotation is fixed."""
    spec = {"enabled": enabled, "description": "x", "rotation": {"enabled": True}}
    operations = [name for name, _ in decide(spec, ActualKey(state, "", {}, "{}", 0))]
    switch = "EnableKey" if enabled else "DisableKey"
    rest = ["UpdateKeyDescription", "EnableKeyRotation"]
    assert operations == ([switch, *rest] if enabled else [*rest, switch])


def test_calls_bring_nothing_but_their_members() -> None:
    """A call without members is complete with the KeyId."""
    assert KeyCall(KeyOperation.ENABLE_KEY).members == {}
