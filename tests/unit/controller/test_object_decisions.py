"""Keys, grants and the objects of a namespace, as pure builders."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controller_fakes import KEY_ARN
from datakeys.controller.decisions.kms_grant import build_create_grant_parameters
from datakeys.controller.decisions.kms_key import (
    build_create_key_parameters,
    is_revived,
    pending_window_days,
)
from datakeys.controller.decisions.namespace_objects import (
    binds_alike,
    build_role_binding,
    build_trust_bundle,
    update_trust_bundle,
)


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
