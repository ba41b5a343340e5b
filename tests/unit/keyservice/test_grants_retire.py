"""RetireGrant, ListRetirableGrants, grants by right of grants, and principals of both realms."""

from dataclasses import replace
from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    InvalidArnError,
    InvalidGrantTokenError,
    KmsError,
    NotFoundError,
    ValidationError,
)
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.rbac import FixedAuthorizer
from datakeys.keyservice.authz.realm import Realm
from keyservice_rig import CONTROLLER, REGION, Rig, account, pod

APP = "system:serviceaccount:team-a:app"
BOSS = "system:serviceaccount:team-a:boss"
DENY = '{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "kms:RetireGrant", "Resource": "*"}}'


def allow_rbac(rig: Rig) -> None:
    rig.service = replace(rig.service, authorizer=FixedAuthorizer(allowed=True))


def ids(rig: Rig, arn: str) -> list[str]:
    listed = rig.call("ListGrants", {"KeyId": arn}, account=arn.split(":")[4])
    return [entry["GrantId"] for entry in listed["Grants"]]


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize(
    ("operations", "by", "rbac", "allowed"),
    [
        (["Decrypt"], account(service_account="boss"), False, True),
        (["Decrypt", "RetireGrant"], account(), False, True),
        (["Decrypt", "RetireGrant"], pod(), False, True),
        (["Decrypt"], account(), False, False),
        (["Decrypt"], account(service_account="other"), False, False),
        (["Decrypt"], account(service_account="other"), True, True),
        (["Decrypt"], account("team-b", "boss"), True, False),
        (["Decrypt"], CONTROLLER, False, True),
    ],
)
def test_who_may_retire(
    rig: Rig, operations: list[str], by: Principal, *, rbac: bool, allowed: bool, by_token: bool
) -> None:
    """The retiring principal, a grantee with RetireGrant, and the account that issued it, by its RBAC."""
    arn = rig.create_key()
    made = rig.grant(arn, *operations, RetiringPrincipal=BOSS)
    if rbac:
        allow_rbac(rig)
    body = {"GrantToken": made["GrantToken"]} if by_token else {"KeyId": arn, "GrantId": made["GrantId"]}
    if allowed:
        with pytest.raises(DryRunOperationError):
            rig.call("RetireGrant", {**body, "DryRun": True}, by=by)
        assert rig.call("RetireGrant", body, by=by) == {}
    else:
        with pytest.raises(AccessDeniedError):
            rig.call("RetireGrant", body, by=by)
    assert ids(rig, arn) == ([] if allowed else [made["GrantId"]])


def test_explicit_deny_stops_retiring(rig: Rig) -> None:
    """All but the controller, which manages the account's keys."""
    arn = rig.create_key()
    made = rig.grant(arn, "RetireGrant", RetiringPrincipal=BOSS)
    rig.call("PutKeyPolicy", {"KeyId": arn, "Policy": DENY})
    body = {"KeyId": arn, "GrantId": made["GrantId"]}
    allow_rbac(rig)
    for by in (account(), account(service_account="boss"), account(service_account="other")):
        with pytest.raises(AccessDeniedError):
            rig.call("RetireGrant", body, by=by)
    assert rig.call("RetireGrant", body) == {}


def test_retire_in_every_state_and_across_accounts(rig: Rig) -> None:
    """The grantee retires a grant on another namespace's key, also while that is pending deletion."""
    arn = rig.create_key(account="team-b")
    body = {"KeyId": arn, "GranteePrincipal": APP, "Operations": ["RetireGrant"]}
    made = rig.call("CreateGrant", body, account="team-b")
    rig.call("ScheduleKeyDeletion", {"KeyId": arn}, account="team-b")
    with pytest.raises(AccessDeniedError):
        rig.call("RetireGrant", {"KeyId": arn, "GrantId": made["GrantId"]})
    assert rig.call("RetireGrant", {"KeyId": arn, "GrantId": made["GrantId"]}, by=account()) == {}
    assert ids(rig, arn) == []


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({}, ValidationError),
        ({"GrantId": "x"}, ValidationError),
        ({"KeyId": "KEY"}, ValidationError),
        ({"KeyId": "KEY", "GrantId": "x"}, NotFoundError),
        ({"KeyId": "KEY", "GrantId": "x" * 129}, ValidationError),
        ({"KeyId": "alias/x", "GrantId": "x"}, NotFoundError),
        ({"KeyId": "00000000-0000-0000-0000-000000000000", "GrantId": "x"}, NotFoundError),
        ({"GrantToken": "bad"}, InvalidGrantTokenError),
        ({"GrantToken": ""}, ValidationError),
        ({"GrantToken": "x" * 8193}, ValidationError),
    ],
)
def test_errors(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Each fault has its error."""
    arn = rig.create_key()
    body = {name: arn if value == "KEY" else value for name, value in members.items()}
    with pytest.raises(error):
        rig.call("RetireGrant", body)


def test_retired_token_is_no_token(rig: Rig) -> None:
    """Retired twice, the token is invalid."""
    made = rig.grant(rig.create_key(), "Decrypt")
    rig.call("RetireGrant", {"GrantToken": made["GrantToken"]})
    with pytest.raises(InvalidGrantTokenError):
        rig.call("RetireGrant", {"GrantToken": made["GrantToken"]})


def test_list_retirable(rig: Rig) -> None:
    """On keys of all namespaces, in pages, but only for principals of the caller's own."""
    allow_rbac(rig)
    made = []
    for namespace in ("team-a", "team-b"):
        arn = rig.create_key(account=namespace)
        for retiring in ({"RetiringPrincipal": BOSS}, {}):
            body = {"KeyId": arn, "GranteePrincipal": APP, "Operations": ["Decrypt"], **retiring}
            grant_id = rig.call("CreateGrant", body, account=namespace)["GrantId"]
            made += [(arn, grant_id)] if retiring else []
    body = {"RetiringPrincipal": BOSS}
    whole = rig.call("ListRetirableGrants", body, by=account())
    assert {(entry["KeyId"], entry["GrantId"]) for entry in whole["Grants"]} == set(made)
    first = rig.call("ListRetirableGrants", {**body, "Limit": 1}, by=account())
    rest = rig.call("ListRetirableGrants", {**body, "Marker": first["NextMarker"]}, by=account())
    assert first["Grants"] + rest["Grants"] == whole["Grants"]
    assert rig.call("ListRetirableGrants", body, by=account("team-b"))["Grants"] == []
    for members in ({}, {"RetiringPrincipal": "x"}, {**body, "RetiringServicePrincipal": "a.b.c"}):
        with pytest.raises(ValidationError):
            rig.call("ListRetirableGrants", members, by=account())


def test_list_retirable_needs_rbac(rig: Rig) -> None:
    """It is not given to everybody."""
    with pytest.raises(AccessDeniedError):
        rig.call("ListRetirableGrants", {"RetiringPrincipal": BOSS}, by=account())


EQUALS, SUBSET = "EncryptionContextEquals", "EncryptionContextSubset"


@pytest.mark.parametrize(
    ("parent", "operations", "child", "allowed"),
    [
        ({}, ["Decrypt"], {}, True),
        ({}, ["Decrypt", "CreateGrant"], {SUBSET: {"a": "1"}}, True),
        ({}, ["Encrypt"], {}, False),
        ({}, ["Decrypt", "Encrypt"], {}, False),
        ({EQUALS: {"a": "1"}}, ["Decrypt"], {EQUALS: {"a": "1"}}, True),
        ({EQUALS: {"a": "1"}}, ["Decrypt"], {EQUALS: {"a": "1", "b": "2"}}, False),
        ({EQUALS: {"a": "1"}}, ["Decrypt"], {SUBSET: {"a": "1"}}, False),
        ({EQUALS: {"a": "1"}}, ["Decrypt"], {}, False),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {SUBSET: {"a": "1"}}, True),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {SUBSET: {"a": "1", "b": "2"}}, True),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {EQUALS: {"a": "1", "b": "2"}}, True),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {EQUALS: {"b": "2"}}, False),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {SUBSET: {}}, False),
        ({SUBSET: {"a": "1"}}, ["Decrypt"], {}, False),
    ],
)
def test_grant_by_right_of_a_grant(
    rig: Rig, parent: dict[str, Any], operations: list[str], child: dict[str, Any], *, allowed: bool
) -> None:
    """Operations within the parent's, constraints equal or stricter; a policy can still allow more."""
    arn = rig.create_key()
    rig.grant(arn, "Decrypt", "CreateGrant", Constraints=parent)
    body = {"KeyId": arn, "GranteePrincipal": BOSS, "Operations": operations, "Constraints": child}
    if allowed:
        assert rig.call("CreateGrant", body, by=account())
    else:
        with pytest.raises(AccessDeniedError):
            rig.call("CreateGrant", body, by=account())
    allow_rbac(rig)
    assert rig.call("CreateGrant", body, by=account())


@pytest.mark.parametrize(
    "members",
    [
        {"GranteeServicePrincipal": "s3.us-east-1.amazonaws.com"},
        {"RetiringServicePrincipal": "s3.us-east-1.amazonaws.com"},
        {"RetiringPrincipal": "arn:aws:iam::123456789012:root"},
        {"RetiringPrincipal": "team-a"},
    ],
)
def test_principals_that_are_not_here(rig: Rig, members: dict[str, Any]) -> None:
    """Services, AWS principals and whole namespaces are refused by a message that names the member."""
    with pytest.raises(ValidationError, match=f"(?i){next(iter(members))}"):
        rig.grant(rig.create_key(), "Decrypt", **members)


def test_principals_of_the_local_mode(rig: Rig) -> None:
    """ARNs of AWS principals are taken there; others are an InvalidArnException."""
    rig.service = replace(rig.service, realm=Realm(REGION, "aws"))
    number = "123456789012"
    root = Principal(PrincipalKind.ACCOUNT_ROOT, number, "", arn=f"arn:aws:iam::{number}:root")
    arn = rig.call("CreateKey", {}, by=root)["KeyMetadata"]["Arn"]
    role = f"arn:aws:iam::{number}:role/app"
    body = {"KeyId": arn, "GranteePrincipal": role, "RetiringPrincipal": role, "Operations": ["Decrypt"]}
    made = rig.call("CreateGrant", body, by=root)
    listed = rig.call("ListRetirableGrants", {"RetiringPrincipal": role}, by=root)["Grants"]
    assert [entry["GrantId"] for entry in listed] == [made["GrantId"]]
    for name in ("GranteePrincipal", "RetiringPrincipal"):
        with pytest.raises(InvalidArnError, match=name):
            rig.call("CreateGrant", {**body, name: APP}, by=root)
    assert rig.call("RetireGrant", {"GrantToken": made["GrantToken"]}, by=root) == {}
