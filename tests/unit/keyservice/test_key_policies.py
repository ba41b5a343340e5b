"""GetKeyPolicy, PutKeyPolicy, ListKeyPolicies, and what key policies and RBAC let callers do."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DependencyTimeoutError,
    IncorrectKeyError,
    KmsError,
    LimitExceededError,
    MalformedPolicyDocumentError,
    NotFoundError,
    ValidationError,
)
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.rbac import RbacQuestion
from datakeys.keyservice.authz.realm import Realm
from keyservice_rig import CONTROLLER, REGION, Rig, account, b64, bound, pod

APP = "system:serviceaccount:team-a:app"
UNKNOWN = f"arn:k8s:kms:{REGION}:team-b:key/00000000-0000-0000-0000-000000000000"


@dataclass
class Rbac:
    """Allows what it was told, and remembers what it was asked."""

    allowed: set[str] = field(default_factory=set)
    asked: list[RbacQuestion] = field(default_factory=list)
    reachable: bool = True

    def find_cached(self, _: RbacQuestion) -> bool | None:
        """Remember nothing."""
        return None

    def decide(self, question: RbacQuestion) -> bool:
        """Answer by the subresource."""
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")
        self.asked.append(question)
        return question.subresource in self.allowed


def with_rbac(rig: Rig, *allowed: str) -> Rbac:
    rbac = Rbac(set(allowed))
    rig.service = replace(rig.service, authorizer=rbac)
    return rbac


def policy(*statements: tuple[str, Any, str], **elements: Any) -> str:
    return json.dumps(
        {
            "Statement": [
                {"Effect": effect, "Principal": principal, "Action": action, "Resource": "*", **elements}
                for effect, principal, action in statements
            ]
        }
    )


def put(rig: Rig, arn: str, text: str, **more: Any) -> dict[str, Any]:
    body = {"KeyId": arn, "Policy": text, **more.pop("members", {})}
    return rig.call("PutKeyPolicy", body, **{"account": arn.split(":")[4], **more})


def outcome(rig: Rig, operation: str, body: dict[str, Any], **more: Any) -> tuple[str, str]:
    try:
        rig.call(operation, body, **more)
    except KmsError as error:
        return error.code, error.message
    return "OK", ""


def test_a_key_has_the_default_policy(rig: Rig) -> None:
    """It names the namespace, and leaves the decision to it."""
    answer = rig.call("GetKeyPolicy", {"KeyId": rig.create_key()})
    assert answer["PolicyName"] == "default"
    [one] = json.loads(answer["Policy"])["Statement"]
    assert one["Principal"] == {"Kubernetes": "arn:k8s:iam::team-a:root"}
    assert (one["Effect"], one["Action"], one["Resource"]) == ("Allow", "kms:*", "*")


def test_policy_comes_back_as_it_was_put(rig: Rig) -> None:
    """Byte by byte, from PutKeyPolicy and from CreateKey."""
    text = policy(("Allow", {"Kubernetes": "team-a"}, "kms:*")) + " \n"
    arn = rig.create_key(Policy=text)
    assert rig.call("GetKeyPolicy", {"KeyId": arn, "PolicyName": "default"})["Policy"] == text
    other = policy(("Allow", "*", "kms:Decrypt"))
    assert put(rig, arn, other) == {}
    assert rig.call("GetKeyPolicy", {"KeyId": arn})["Policy"] == other


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"Policy": None}, ValidationError),
        ({"Policy": ""}, ValidationError),
        ({"Policy": "\u20ac"}, ValidationError),
        ({"Policy": "x" * 131_073}, ValidationError),
        ({"Policy": " " * 32_769}, LimitExceededError),
        ({"Policy": "{}"}, MalformedPolicyDocumentError),
        ({"PolicyName": "other"}, NotFoundError),
        ({"PolicyName": "a b"}, ValidationError),
        ({"KeyId": "alias/x"}, NotFoundError),
        ({"KeyId": UNKNOWN}, AccessDeniedError),
    ],
)
def test_errors(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Each fault has its error, and the policy stays."""
    arn = rig.create_key()
    before = rig.call("GetKeyPolicy", {"KeyId": arn})
    with pytest.raises(error):
        rig.call("PutKeyPolicy", {"KeyId": arn, "Policy": policy(("Allow", "*", "kms:*")), **members})
    assert rig.call("GetKeyPolicy", {"KeyId": arn}) == before


def test_nobody_locks_himself_out(rig: Rig) -> None:
    """A ServiceAccount must keep PutKeyPolicy, by the policy or by RBAC, unless it waives the check."""
    with_rbac(rig, "putkeypolicy")
    arn, by = rig.create_key(), account()
    assert put(rig, arn, policy(("Allow", {"Kubernetes": "team-a"}, "kms:*")), by=by) == {}
    assert put(rig, arn, policy(("Allow", {"Kubernetes": APP}, "kms:PutKeyPolicy")), by=by) == {}
    locking = policy(("Allow", {"Kubernetes": APP}, "kms:Decrypt"))
    with pytest.raises(MalformedPolicyDocumentError, match="update the key policy in the future"):
        put(rig, arn, locking, by=by)
    assert put(rig, arn, locking, by=by, members={"BypassPolicyLockoutSafetyCheck": True}) == {}
    with pytest.raises(AccessDeniedError):
        put(rig, arn, locking, by=by)
    assert put(rig, arn, policy(("Deny", "*", "kms:*"))) == {}


def test_the_root_of_the_local_mode(rig: Rig) -> None:
    """It passes unless it is explicitly denied; locking itself out is refused as at AWS."""
    rig.service = replace(rig.service, realm=Realm("us-east-1", "aws"))
    number = "123456789012"
    root = Principal(PrincipalKind.ACCOUNT_ROOT, number, "", arn=f"arn:aws:iam::{number}:root")
    arn = rig.call("CreateKey", {}, by=root)["KeyMetadata"]["Arn"]
    user = {"AWS": f"arn:aws:iam::{number}:user/x"}
    with pytest.raises(MalformedPolicyDocumentError):
        put(rig, arn, policy(("Allow", user, "kms:*")), by=root)
    with pytest.raises(MalformedPolicyDocumentError):
        rig.call("CreateKey", {"Policy": policy(("Allow", user, "kms:*"))}, by=root)
    waived = {"BypassPolicyLockoutSafetyCheck": True}
    assert put(rig, arn, policy(("Allow", user, "kms:*")), by=root, members=waived) == {}
    assert rig.call("DescribeKey", {"KeyId": arn}, by=root)
    assert rig.call("ListKeyPolicies", {"KeyId": arn}, by=root) == {
        "PolicyNames": ["default"],
        "Truncated": False,
    }
    put(rig, arn, policy(("Deny", {"AWS": number}, "kms:Desc*")), by=root, members=waived)
    with pytest.raises(AccessDeniedError):
        rig.call("DescribeKey", {"KeyId": arn}, by=root)


def test_default_policy_leaves_it_to_rbac(rig: Rig) -> None:
    """Who holds the virtual subresource in the key's namespace passes; the question is as documented."""
    arn = rig.create_key()
    named = str(rig.call("CreateKey", {}, object_name="my-key")["KeyMetadata"]["Arn"])
    rbac = with_rbac(rig, "describekey", "listkeys")
    for key in (arn, named):
        assert rig.call("DescribeKey", {"KeyId": key}, by=account())
    assert rig.call("ListKeys", {}, by=account())
    by_id, by_name, without = rbac.asked
    assert by_id == RbacQuestion(account(), "team-a", "describekey", arn.rpartition("/")[2])
    assert (by_name.name, without.name, without.subresource) == ("my-key", "", "listkeys")
    with pytest.raises(AccessDeniedError):
        rig.call("GetKeyPolicy", {"KeyId": arn}, by=account())
    with pytest.raises(AccessDeniedError):
        rig.call("DescribeKey", {"KeyId": arn}, by=account("team-b"))


def test_rbac_is_not_asked_when_others_decide(rig: Rig) -> None:
    """The controller, a bound pod, a grantee and a named principal need no review; nor does a denial."""
    arn = rig.create_key()
    rbac = with_rbac(rig)
    blob = rig.data_key(arn)
    assert rig.call("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound()}, by=pod())
    rig.grant(arn, "DescribeKey")
    assert rig.call("DescribeKey", {"KeyId": arn}, by=account())
    put(rig, arn, policy(("Allow", {"Kubernetes": APP}, "kms:Encrypt"), ("Deny", "*", "kms:DescribeKey")))
    assert rig.call("Encrypt", {"KeyId": arn, "Plaintext": b64(b"x")}, by=account())
    with pytest.raises(AccessDeniedError):
        rig.call("DescribeKey", {"KeyId": arn}, by=account())
    assert rbac.asked == []


def test_unreachable_rbac_fails_closed(rig: Rig) -> None:
    """What only RBAC can tell is an error that a retry may cure, never a yes."""
    arn = rig.create_key()
    with_rbac(rig, "describekey").reachable = False
    with pytest.raises(DependencyTimeoutError):
        rig.call("DescribeKey", {"KeyId": arn}, by=account())


def test_explicit_deny_stops_pods_and_new_data_keys_but_no_management(rig: Rig) -> None:
    """Neither binding nor controller overrides it; the controller can still repair the policy."""
    arn = rig.create_key()
    blob = rig.data_key(arn)
    put(rig, arn, policy(("Deny", "*", "kms:*")))
    with pytest.raises(AccessDeniedError):
        rig.call("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound()}, by=pod())
    with pytest.raises(AccessDeniedError):
        rig.data_key(arn)
    assert rig.call("DisableKey", {"KeyId": arn}) == {}
    assert rig.call("EnableKey", {"KeyId": arn}) == {}
    put(rig, arn, policy(("Deny", {"Kubernetes": APP}, "kms:Encrypt")))
    assert rig.call("Decrypt", {"CiphertextBlob": rig.data_key(arn), "EncryptionContext": bound()}, by=pod())


def test_deny_by_encryption_context(rig: Rig) -> None:
    """A condition on one pair denies that pair only."""
    arn = rig.create_key()
    condition = {"StringEquals": {"kms:EncryptionContext:Tier": "prod"}}
    put(rig, arn, policy(("Deny", "*", "kms:GenerateDataKeyWithoutPlaintext"), Condition=condition))
    assert rig.data_key(arn, bound(tier="dev"))
    with pytest.raises(AccessDeniedError):
        rig.data_key(arn, bound(tier="prod"))


def test_request_alias_and_resource_aliases(rig: Rig) -> None:
    """A policy can ask by which alias a key was named, and which aliases it has."""
    arn = rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/app", "TargetKeyId": arn})
    for key, operator, by_id in (
        ("kms:RequestAlias", "StringEquals", "AccessDeniedException"),
        ("kms:ResourceAliases", "ForAnyValue:StringEquals", "OK"),
    ):
        statement = ("Allow", {"Kubernetes": APP}, "kms:DescribeKey")
        put(rig, arn, policy(statement, Condition={operator: {key: "alias/app"}}))
        assert outcome(rig, "DescribeKey", {"KeyId": "alias/app"}, by=account())[0] == "OK"
        assert outcome(rig, "DescribeKey", {"KeyId": arn}, by=account())[0] == by_id


@pytest.mark.parametrize(
    ("statement", "rbac", "controller", "bound_pod", "other"),
    [
        (None, True, False, False, False),
        (("Allow", {"Kubernetes": "team-b"}, "kms:*"), True, False, False, False),
        (("Allow", {"Kubernetes": "team-a"}, "kms:*"), True, True, True, True),
        (("Allow", {"Kubernetes": "team-a"}, "kms:*"), False, True, True, False),
        (("Allow", "*", "kms:*"), True, True, True, True),
        (("Allow", "*", "kms:*"), False, True, True, False),
        (("Allow", {"Kubernetes": APP}, "kms:*"), True, False, True, True),
        (("Allow", {"Kubernetes": APP}, "kms:*"), False, False, True, False),
        (("Allow", {"Kubernetes": "team-a"}, "kms:DescribeKey"), True, False, False, True),
        (("Deny", {"Kubernetes": "team-a"}, "kms:*"), True, False, False, False),
    ],
)
def test_both_sides_must_allow(
    rig: Rig, statement: Any, *, rbac: bool, controller: bool, bound_pod: bool, other: bool
) -> None:
    """On a key of another namespace: its policy for the controller and a bound pod, RBAC too for others."""
    arn = rig.create_key(account="team-b")
    with_rbac(rig, *(["describekey"] if rbac else []))
    put(rig, arn, policy(("Allow", {"Kubernetes": "team-a"}, "kms:*")))
    blob = rig.data_key(arn)
    put(rig, arn, policy(statement) if statement else policy(("Allow", {"Kubernetes": "x"}, "kms:*")))
    body = {"KeyId": arn, "NumberOfBytes": 16, "EncryptionContext": bound()}
    opened = {"CiphertextBlob": blob, "EncryptionContext": bound()}
    found = [
        outcome(rig, "GenerateDataKeyWithoutPlaintext", body)[0],
        outcome(rig, "Decrypt", opened, by=pod())[0],
        outcome(rig, "DescribeKey", {"KeyId": arn}, by=account())[0],
    ]
    assert [code == "OK" for code in found] == [controller, bound_pod, other]
    assert set(found) <= {"OK", "AccessDeniedException"}


@pytest.mark.parametrize("operation", ["DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion", "GetKeyPolicy"])
def test_no_management_across_namespaces(rig: Rig, operation: str) -> None:
    """Not even where policy and RBAC allow everything."""
    arn = rig.create_key(account="team-b")
    with_rbac(rig, operation.lower())
    text = policy(("Allow", "*", "kms:*"))
    put(rig, arn, text)
    for by in (CONTROLLER, account()):
        assert outcome(rig, operation, {"KeyId": arn, "Policy": text}, by=by)[0] == "AccessDeniedException"


@pytest.mark.parametrize("token", [None, "bad"])
@pytest.mark.parametrize("by", [CONTROLLER, pod(), account()])
def test_existence_does_not_leak(rig: Rig, by: Principal, token: str | None) -> None:
    """A forbidden key of another namespace and an unknown one answer the same, with any other fault added."""
    arn = rig.create_key(account="team-b")
    rig.call("CreateAlias", {"AliasName": "alias/x", "TargetKeyId": arn}, account="team-b")
    rig.call("DisableKey", {"KeyId": arn}, account="team-b")
    own = rig.create_key()
    blob = rig.data_key(own)
    tokens = {"GrantTokens": [token]} if token else {}
    more = {
        "NumberOfBytes": 16,
        "CiphertextBlob": blob,
        "EncryptionContext": bound(),
        "GranteePrincipal": APP,
        "Operations": ["Sign"],
        "GrantId": "0" * 64,
        **tokens,
    }
    base = arn.rpartition(":")[0]
    for operation in (
        "GenerateDataKeyWithoutPlaintext",
        "DescribeKey",
        "Decrypt",
        "CreateGrant",
        "RetireGrant",
    ):
        known = outcome(rig, operation, {"KeyId": arn, **more}, by=by)
        assert known == outcome(rig, operation, {"KeyId": UNKNOWN, **more}, by=by), operation
        assert known[0] in ("AccessDeniedException", "InvalidGrantTokenException")
        if operation not in ("CreateGrant", "RetireGrant"):
            by_alias = [
                outcome(rig, operation, {"KeyId": f"{base}:alias/{name}", **more}, by=by) for name in "xy"
            ]
            assert by_alias == [known, known], operation


def test_incorrect_key_is_told_to_who_may_decrypt(rig: Rig) -> None:
    """With access to the other namespace's key a wrong KeyId is a wrong KeyId."""
    arn, own = rig.create_key(account="team-b"), rig.create_key()
    put(rig, arn, policy(("Allow", {"Kubernetes": APP}, "kms:Decrypt")))
    body = {"KeyId": arn, "CiphertextBlob": rig.data_key(own), "EncryptionContext": bound()}
    with pytest.raises(IncorrectKeyError):
        rig.call("Decrypt", body, by=pod())
