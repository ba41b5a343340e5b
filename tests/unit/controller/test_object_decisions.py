"""Keys, grants and the objects of a namespace, as pure builders."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller_fakes import KEY_ARN, NOW
from datakeys.controller.decisions.kms_grant import build_create_grant_parameters
from datakeys.controller.decisions.kms_key import (
    KeyCall,
    build_create_key_parameters,
    build_key_status,
    decide_key_call,
    is_revived,
    pending_window_days,
    ready_condition,
    state_after,
)
from datakeys.controller.decisions.namespace_objects import (
    binds_alike,
    build_role_binding,
    build_trust_bundle,
    update_trust_bundle,
)


@dataclass(frozen=True)
class Metadata:
    """A key as the key service describes it."""

    key_id: str = "id"
    arn: str = KEY_ARN
    creation_date: float = 1_700_000_000.5
    deletion_date: float | None = None
    current_key_material_id: str | None = "ab"


@pytest.mark.parametrize(
    ("state", "enabled", "call", "after"),
    [
        ("Enabled", True, None, "Enabled"),
        ("Enabled", False, KeyCall.DISABLE, "Disabled"),
        ("Disabled", True, KeyCall.ENABLE, "Enabled"),
        ("Disabled", False, None, "Disabled"),
        ("PendingImport", True, None, "PendingImport"),
        ("PendingImport", False, None, "PendingImport"),
        ("PendingDeletion", True, None, "PendingDeletion"),
        ("Unavailable", False, None, "Unavailable"),
    ],
)
def test_switching_a_key(state: str, enabled: bool, call: KeyCall | None, after: str) -> None:
    """Only enabled and disabled keys are switched, and only if they aren't as wanted."""
    assert decide_key_call(state, enabled=enabled) is call
    assert state_after(state, call) == after


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        ({}, {}),
        ({"enabled": False, "rotation": {"enabled": True}}, {}),
        (
            {"description": "d", "keySpec": "RSA_2048", "keyUsage": "SIGN_VERIFY", "origin": "EXTERNAL"},
            {"Description": "d", "KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL"},
        ),
        (
            {"policy": "{}", "tags": {"b": "", "a": "1"}},
            {
                "Policy": "{}",
                "Tags": [{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": ""}],
            },
        ),
    ],
)
def test_members_of_create_key(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """CreateKey gets what it knows and nothing else."""
    assert build_create_key_parameters(spec) == parameters


def test_status_of_a_key() -> None:
    """The status has dates in RFC 3339 and a condition whose reason is the key state."""
    status = build_key_status(Metadata(), "Enabled", spec={}, conditions=[], generation=3, now=NOW)
    assert status["creationDate"] == "2023-11-14T22:13:20Z"
    assert status["deletionDate"] is None
    assert status["observedGeneration"] == 3
    (condition,) = status["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "Enabled")
    assert ready_condition("Disabled").status == "False"


def test_deletion_date_is_shown_while_pending_only() -> None:
    """A deletion date of a cancelled deletion isn't shown."""
    metadata = replace(Metadata(), deletion_date=1_700_000_000)
    for state, expected in (("PendingDeletion", "2023-11-14T22:13:20Z"), ("Enabled", None)):
        status = build_key_status(metadata, state, spec={}, conditions=[], generation=1, now=NOW)
        assert status["deletionDate"] == expected


@pytest.mark.parametrize(
    ("status", "key_age", "revived"),
    [({}, 100, True), ({}, 1, False), ({}, -1, False), ({"keyId": "id"}, 100, False)],
)
def test_revived_key_is_recognised(status: dict[str, str], key_age: float, revived: bool) -> None:
    """A key that is older than its new object belonged to a former one."""
    created = datetime(2026, 1, 1, tzinfo=UTC)
    assert is_revived(status, created, created.timestamp() - key_age) is revived


def test_pending_window() -> None:
    """The window is the spec's, or KMS's default of 30 days."""
    assert pending_window_days({"deletion": {"pendingWindowDays": 7}}) == 7
    assert pending_window_days({}) == pending_window_days({"deletion": {}}) == 30


def test_members_of_create_grant() -> None:
    """Principals are ServiceAccounts of the grant's namespace unless they name another one."""
    metadata = {"namespace": "shop", "name": "g", "uid": "u1"}
    spec = {
        "granteePrincipal": {"serviceAccountName": "app"},
        "retiringPrincipal": {"serviceAccountName": "ops", "namespace": "infra"},
        "operations": ["Decrypt"],
        "constraints": {"encryptionContextSubset": {"a": "b"}, "encryptionContextEquals": {}},
    }
    assert build_create_grant_parameters(metadata, spec, KEY_ARN) == {
        "KeyId": KEY_ARN,
        "GranteePrincipal": "system:serviceaccount:shop:app",
        "RetiringPrincipal": "system:serviceaccount:infra:ops",
        "Operations": ["Decrypt"],
        "Name": "u1",
        "Constraints": {"EncryptionContextSubset": {"a": "b"}},
    }
    bare = {"granteePrincipal": {"serviceAccountName": "app"}, "operations": ["Decrypt"]}
    assert set(build_create_grant_parameters(metadata, bare, "k")) == {
        "KeyId",
        "GranteePrincipal",
        "Operations",
        "Name",
    }


def test_role_binding_is_what_the_admission_policy_allows() -> None:
    """The RoleBinding has the one name, the one role and the controller as its only subject."""
    binding = build_role_binding("shop", service_account="datakeys-controller", system_namespace="sys")
    assert binding["metadata"]["name"] == "datakeys-controller"
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "datakeys-controller-namespaced",
    }
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "datakeys-controller", "namespace": "sys"}
    ]


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({}, True),
        ({"roleRef": {"kind": "ClusterRole", "name": "view"}}, False),
        ({"subjects": []}, False),
        ({"subjects": None}, False),
        ({"subjects": [{"kind": "ServiceAccount", "name": "datakeys-controller", "namespace": "x"}]}, False),
    ],
)
def test_foreign_role_binding_is_recognised(changes: dict[str, Any], alike: bool) -> None:
    """A RoleBinding of the same name that binds something else isn't taken for the controller's."""
    binding = build_role_binding("shop", service_account="datakeys-controller", system_namespace="sys")
    assert binds_alike({**binding, **changes}, binding) is alike


def test_trust_bundle_copy() -> None:
    """A copy is rewritten only if its data differs, and then keeps its resourceVersion."""
    copy = build_trust_bundle("shop", {"ca.crt": "A"})
    copy["metadata"]["resourceVersion"] = "5"
    assert update_trust_bundle(copy, {"ca.crt": "A"}) is None
    updated = update_trust_bundle(copy, {"ca.crt": "B"})
    assert updated is not None
    assert (updated["data"], updated["metadata"]["resourceVersion"]) == ({"ca.crt": "B"}, "5")
    emptied = {name: value for name, value in copy.items() if name != "data"}
    assert update_trust_bundle(emptied, {"ca.crt": "B"}) is not None


def test_rotation_that_is_asked_for_is_reported_as_not_served() -> None:
    """A rotation that doesn't happen must not look as if it did, and the report goes when nobody asks."""
    asked = build_key_status(
        Metadata(), "Enabled", spec={"rotation": {"enabled": True}}, conditions=[], generation=1, now=NOW
    )
    assert [(item["type"], item["status"], item["reason"]) for item in asked["conditions"]] == [
        ("Ready", "True", "Enabled"),
        ("Rotation", "False", "UnsupportedOperationException"),
    ]
    later = build_key_status(
        Metadata(), "Enabled", spec={}, conditions=asked["conditions"], generation=2, now=NOW
    )
    assert [item["type"] for item in later["conditions"]] == ["Ready"]
