"""CreateGrant, ListGrants, RevokeGrant, and what a grant allows."""

import json
from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    InvalidGrantTokenError,
    KmsError,
    LimitExceededError,
    NotFoundError,
    SerializationError,
    ValidationError,
)
from datakeys.keyservice.operations import grants as grants_module
from datakeys.keyservice.operations.grant_members import GRANT_OPERATIONS
from datakeys.keyservice.operations.grant_tokens import build_grant_token, parse_grant_token
from keyservice_rig import START, Rig, account, pod

GRANTEE = "system:serviceaccount:team-a:app"


def use(rig: Rig, arn: str, context: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    body = {"KeyId": arn, "NumberOfBytes": 16, "EncryptionContext": context or {}, **more.pop("body", {})}
    return rig.call("GenerateDataKey", body, by=more.pop("by", account()))


def test_answer_and_list(rig: Rig) -> None:
    """CreateGrant answers id and token; ListGrants shows what was granted, never the token."""
    arn = rig.create_key()
    made = rig.grant(arn, "GenerateDataKey", "Decrypt", Name="n", RetiringPrincipal=GRANTEE)
    assert set(made) == {"GrantId", "GrantToken"}
    listed = rig.call("ListGrants", {"KeyId": arn})
    assert listed == {
        "Grants": [
            {
                "KeyId": arn,
                "GrantId": made["GrantId"],
                "CreationDate": START,
                "GranteePrincipal": GRANTEE,
                "IssuingAccount": "team-a",
                "Operations": ["Decrypt", "GenerateDataKey"],
                "Name": "n",
                "RetiringPrincipal": GRANTEE,
            }
        ],
        "Truncated": False,
    }


def test_grantee_may_do_what_was_granted(rig: Rig) -> None:
    """Also as a pod; another ServiceAccount, and another operation, stay denied."""
    arn = rig.create_key()
    rig.grant(arn, "GenerateDataKey")
    assert use(rig, arn)["Plaintext"]
    assert use(rig, arn, by=pod())["Plaintext"]
    for by in (account(service_account="other"), account(namespace="team-b")):
        with pytest.raises(AccessDeniedError):
            use(rig, arn, by=by)
    with pytest.raises(AccessDeniedError):
        rig.call("GenerateDataKeyWithoutPlaintext", {"KeyId": arn, "NumberOfBytes": 16}, by=account())


def test_data_key_grants_do_not_include_each_other(rig: Rig) -> None:
    """GenerateDataKeyWithoutPlaintext doesn't include GenerateDataKey."""
    arn = rig.create_key()
    rig.grant(arn, "GenerateDataKeyWithoutPlaintext")
    body = {"KeyId": arn, "NumberOfBytes": 16}
    assert rig.call("GenerateDataKeyWithoutPlaintext", body, by=account())
    with pytest.raises(AccessDeniedError):
        use(rig, arn)


def test_grantee_of_another_account(rig: Rig) -> None:
    """A grant reaches across accounts, by key ARN."""
    arn = rig.create_key(account="team-b")
    body = {"KeyId": arn, "GranteePrincipal": GRANTEE, "Operations": ["GenerateDataKey"]}
    rig.call("CreateGrant", body, account="team-b")
    assert use(rig, arn)["KeyId"] == arn


def test_the_controller_gets_nothing_by_grants(rig: Rig) -> None:
    """Even if somebody grants Decrypt to it, the controller never decrypts."""
    arn = rig.create_key()
    controller = "system:serviceaccount:datakey-system:datakeys-controller"
    rig.call("CreateGrant", {"KeyId": arn, "GranteePrincipal": controller, "Operations": ["Decrypt"]})
    rig.grant(arn, "GenerateDataKey")
    with pytest.raises(AccessDeniedError):
        rig.call("Decrypt", {"CiphertextBlob": use(rig, arn)["CiphertextBlob"]})


@pytest.mark.parametrize(
    ("constraint", "context", "allowed"),
    [
        ("EncryptionContextEquals", {"a": "1"}, True),
        ("EncryptionContextEquals", {"a": "1", "b": "2"}, False),
        ("EncryptionContextEquals", {}, False),
        ("EncryptionContextEquals", {"A": "1"}, False),
        ("EncryptionContextSubset", {"a": "1"}, True),
        ("EncryptionContextSubset", {"a": "1", "b": "2"}, True),
        ("EncryptionContextSubset", {"a": "2"}, False),
        ("EncryptionContextSubset", {"b": "1"}, False),
    ],
)
def test_constraints(rig: Rig, constraint: str, context: dict[str, str], allowed: bool) -> None:
    """Equals takes the same pairs and no more, Subset takes more."""
    arn = rig.create_key()
    rig.grant(arn, "GenerateDataKey", "DescribeKey", Constraints={constraint: {"a": "1"}})
    assert rig.call("DescribeKey", {"KeyId": arn}, by=account())
    if allowed:
        assert use(rig, arn, context)
    else:
        with pytest.raises(AccessDeniedError):
            use(rig, arn, context)


def test_constraint_is_listed(rig: Rig) -> None:
    """ListGrants shows each kind of constraint."""
    arn = rig.create_key()
    for kind in ("EncryptionContextEquals", "EncryptionContextSubset"):
        grant = rig.grant(arn, "Decrypt", Constraints={kind: {"a": "1"}})
        listed = rig.call("ListGrants", {"KeyId": arn, "GrantId": grant["GrantId"]})["Grants"]
        assert [entry["Constraints"] for entry in listed] == [{kind: {"a": "1"}}]


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"GranteePrincipal": None}, ValidationError),
        ({"GranteePrincipal": "somebody"}, ValidationError),
        ({"GranteePrincipal": "a b"}, ValidationError),
        ({"Operations": None}, ValidationError),
        ({"Operations": []}, ValidationError),
        ({"Operations": ["Dance"]}, ValidationError),
        ({"Operations": "Decrypt"}, SerializationError),
        ({"Operations": ["Sign"]}, ValidationError),
        ({"Name": "a b"}, ValidationError),
        ({"RetiringPrincipal": ""}, ValidationError),
        ({"Constraints": []}, SerializationError),
        ({"Constraints": {"EncryptionContextEquals": {str(n): "" for n in range(9)}}}, ValidationError),
        ({"Constraints": {"EncryptionContextSubset": {"a": "x" * 385}}}, ValidationError),
        ({"Constraints": {"EncryptionContextSubset": {}, "EncryptionContextEquals": {}}}, ValidationError),
        ({"Constraints": {"EncryptionContextSubset": {"datakeys.dev/namespace": "x"}}}, ValidationError),
        ({"Constraints": {"SourceArn": "arn"}}, ValidationError),
        ({"GrantTokens": ["bad"]}, InvalidGrantTokenError),
        ({"KeyId": "alias/x"}, NotFoundError),
        ({"DryRun": True}, DryRunOperationError),
    ],
)
def test_errors(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Each fault has its error, and nothing is granted."""
    arn = rig.create_key()
    body = {"KeyId": arn, "GranteePrincipal": GRANTEE, "Operations": ["Decrypt"], **members}
    with pytest.raises(error):
        rig.call("CreateGrant", body)
    assert rig.call("ListGrants", {"KeyId": arn})["Grants"] == []


@pytest.mark.parametrize(
    ("spec", "usage", "fitting"),
    [
        ("HMAC_256", "GENERATE_VERIFY_MAC", {"GenerateMac", "VerifyMac"}),
        ("RSA_2048", "SIGN_VERIFY", {"Sign", "Verify", "GetPublicKey"}),
        (
            "RSA_2048",
            "ENCRYPT_DECRYPT",
            {"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GetPublicKey"},
        ),
        ("ECC_NIST_P256", "KEY_AGREEMENT", {"DeriveSharedSecret", "GetPublicKey"}),
        ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE", {"Encapsulate", "Decapsulate", "GetPublicKey"}),
    ],
)
def test_operations_fit_the_key(rig: Rig, spec: str, usage: str, fitting: set[str]) -> None:
    """A key takes grants of what it can do, and of the management operations."""
    arn = rig.create_key(KeySpec=spec, KeyUsage=usage)
    accepted = set()
    for operation in GRANT_OPERATIONS:
        try:
            rig.grant(arn, operation)
        except ValidationError:
            continue
        accepted.add(operation)
    assert accepted == fitting | {"CreateGrant", "RetireGrant", "DescribeKey"}
    with pytest.raises(ValidationError, match="symmetric"):
        rig.grant(arn, "DescribeKey", Constraints={"EncryptionContextEquals": {"a": "1"}})


def test_repeated_with_a_name(rig: Rig) -> None:
    """The same name and parameters give the same grant and a new token; without a name each is new."""
    arn = rig.create_key()
    first, again = (rig.grant(arn, "Decrypt", Name="n") for _ in range(2))
    assert first["GrantId"] == again["GrantId"]
    assert first["GrantToken"] != again["GrantToken"]
    assert rig.grant(arn, "Encrypt", Name="n")["GrantId"] != first["GrantId"]
    assert rig.grant(arn, "Decrypt")["GrantId"] != rig.grant(arn, "Decrypt")["GrantId"]


def test_repeated_for_an_object(rig: Rig) -> None:
    """The object in the header makes the call idempotent too."""
    arn = rig.create_key()
    body = {"KeyId": arn, "GranteePrincipal": GRANTEE, "Operations": ["Decrypt"]}
    ids = [rig.call("CreateGrant", body, object_name=name)["GrantId"] for name in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


def test_quota(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key has a limited number of grants."""
    monkeypatch.setattr(grants_module, "MAX_GRANTS_PER_KEY", 1)
    arn = rig.create_key()
    rig.grant(arn, "Decrypt")
    with pytest.raises(LimitExceededError):
        rig.grant(arn, "Decrypt")


def test_revoke(rig: Rig) -> None:
    """A revoked grant allows nothing any more, and its token is unknown."""
    arn = rig.create_key()
    made = rig.grant(arn, "GenerateDataKey")
    body = {"KeyId": arn, "GrantId": made["GrantId"]}
    with pytest.raises(DryRunOperationError):
        rig.call("RevokeGrant", {**body, "DryRun": True})
    assert use(rig, arn)
    assert rig.call("RevokeGrant", body) == {}
    with pytest.raises(AccessDeniedError):
        use(rig, arn)
    with pytest.raises(InvalidGrantTokenError):
        use(rig, arn, body={"GrantTokens": [made["GrantToken"]]})
    for members in ({}, {"DryRun": True}):
        with pytest.raises(NotFoundError):
            rig.call("RevokeGrant", {**body, **members})


def test_revoke_needs_the_right_key(rig: Rig) -> None:
    """A grant id on another key is unknown."""
    made = rig.grant(rig.create_key(), "Decrypt")
    with pytest.raises(NotFoundError):
        rig.call("RevokeGrant", {"KeyId": rig.create_key(), "GrantId": made["GrantId"]})


def test_list_is_filtered_and_paged(rig: Rig) -> None:
    """GranteePrincipal filters; Limit pages in a fixed order."""
    arn = rig.create_key()
    for to in ("a", "b", "b"):
        rig.grant(arn, "Decrypt", to=to)
    filtered = rig.call("ListGrants", {"KeyId": arn, "GranteePrincipal": "system:serviceaccount:team-a:b"})
    assert len(filtered["Grants"]) == 2
    first = rig.call("ListGrants", {"KeyId": arn, "Limit": 2})
    rest = rig.call("ListGrants", {"KeyId": arn, "Limit": 2, "Marker": first["NextMarker"]})
    ids = [grant["GrantId"] for grant in first["Grants"] + rest["Grants"]]
    assert ids == sorted(set(ids))
    assert len(ids) == 3


def test_token_of_a_grant_is_accepted(rig: Rig) -> None:
    """A valid token passes, but gives nothing to another than the grantee."""
    arn = rig.create_key()
    token = rig.grant(arn, "GenerateDataKey")["GrantToken"]
    assert use(rig, arn, body={"GrantTokens": [token]})
    with pytest.raises(AccessDeniedError):
        use(rig, arn, body={"GrantTokens": [token]}, by=account(service_account="other"))


@pytest.mark.parametrize("token", ["", "x", "x y", "A" * 131, "A" * 129, "\u00e4"])
def test_malformed_tokens(rig: Rig, token: str) -> None:
    """Whatever isn't a token of this service is one error."""
    with pytest.raises(InvalidGrantTokenError):
        parse_grant_token(rig.root_key, token)


def test_token_can_not_be_forged(rig: Rig) -> None:
    """Any changed character breaks the MAC; a genuine token names its grant."""
    arn = rig.create_key()
    key_id = arn.rpartition("/")[2]
    token = build_grant_token(rig.root_key, key_id, "ab" * 32, rig.random)
    assert parse_grant_token(rig.root_key, token) == (key_id, "ab" * 32)
    for position in (0, 30, 60, 100):
        other = "A" if token[position] != "A" else "B"
        with pytest.raises(InvalidGrantTokenError):
            parse_grant_token(rig.root_key, token[:position] + other + token[position + 1 :])


@pytest.mark.parametrize("operation", ["CreateGrant", "ListGrants", "RevokeGrant"])
def test_only_the_controller(rig: Rig, operation: str) -> None:
    """Nobody else grants, lists or revokes."""
    arn = rig.create_key()
    grant_id = rig.grant(arn, "Decrypt")["GrantId"]
    body = {"KeyId": arn, "GrantId": grant_id, "GranteePrincipal": GRANTEE, "Operations": ["Decrypt"]}
    with pytest.raises(AccessDeniedError):
        rig.call(operation, body, by=account())


def test_account_that_the_key_policy_lets_can_give_grants_on_a_foreign_key(rig: Rig) -> None:
    """CreateGrant and RevokeGrant work across accounts; without the policy's word nothing is told."""
    statements = [
        {"Effect": "Allow", "Principal": {"Kubernetes": "team-b"}, "Action": "kms:*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Principal": {"Kubernetes": "team-a"},
            "Action": ["kms:CreateGrant", "kms:RevokeGrant"],
            "Resource": "*",
        },
    ]
    closed = rig.create_key(account="team-b")
    opened = rig.create_key(account="team-b", Policy=json.dumps({"Statement": statements}))
    with pytest.raises(AccessDeniedError):
        rig.grant(closed, "GenerateDataKey")
    made = rig.grant(opened, "GenerateDataKey")
    assert use(rig, opened)["KeyId"] == opened
    listed = rig.call("ListGrants", {"KeyId": opened}, account="team-b")["Grants"]
    assert [grant["IssuingAccount"] for grant in listed] == ["team-a"]
    with pytest.raises(AccessDeniedError):
        rig.call("ListGrants", {"KeyId": opened})
    rig.call("RevokeGrant", {"KeyId": opened, "GrantId": made["GrantId"]})
    with pytest.raises(AccessDeniedError):
        use(rig, opened)
