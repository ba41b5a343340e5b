"""CreateAlias, UpdateAlias, DeleteAlias, ListAliases."""

from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    InvalidMarkerError,
    KmsError,
    LimitExceededError,
    NotAuthorizedError,
    NotFoundError,
    ValidationError,
)
from keyservice_rig import START, Rig, account, b64


def create(rig: Rig, name: str, arn: str, **more: Any) -> dict[str, Any]:
    return rig.call("CreateAlias", {"AliasName": name, "TargetKeyId": arn}, **more)


def test_create_and_list(rig: Rig) -> None:
    """CreateAlias answers an empty object; ListAliases shows names, ARNs and dates, sorted."""
    arn = rig.create_key()
    assert create(rig, "alias/b", arn) == {}
    create(rig, "alias/a/deep_er-1", arn)
    listed = rig.call("ListAliases")
    assert listed["Truncated"] is False
    assert [alias["AliasName"] for alias in listed["Aliases"]] == ["alias/a/deep_er-1", "alias/b"]
    assert listed["Aliases"][1] == {
        "AliasName": "alias/b",
        "AliasArn": "arn:k8s:kms:cluster-1:team-a:alias/b",
        "TargetKeyId": arn.rpartition("/")[2],
        "CreationDate": START,
        "LastUpdatedDate": START,
    }


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (None, ValidationError),
        ("", ValidationError),
        ("main", ValidationError),
        ("alias/", ValidationError),
        ("alias/a:b", ValidationError),
        ("alias/a b", ValidationError),
        ("alias/" + "x" * 251, ValidationError),
        ("alias/aws/s3", NotAuthorizedError),
    ],
)
def test_bad_names(rig: Rig, name: str | None, error: type[KmsError]) -> None:
    """Prefix, characters, length and the reserved prefix are checked."""
    with pytest.raises(error):
        rig.call("CreateAlias", {"AliasName": name, "TargetKeyId": rig.create_key()})


@pytest.mark.parametrize("target", ["alias/other", "arn:k8s:kms:cluster-1:team-a:alias/other"])
def test_alias_of_an_alias(rig: Rig, target: str) -> None:
    """An alias can't point to an alias."""
    with pytest.raises(ValidationError, match="Not aliases"):
        create(rig, "alias/x", target)


def test_names_are_unique_per_account(rig: Rig) -> None:
    """The same name again exists already; in another account it is free."""
    create(rig, "alias/x", rig.create_key())
    with pytest.raises(AlreadyExistsError):
        create(rig, "alias/x", rig.create_key())
    create(rig, "alias/x", rig.create_key(account="team-b"), account="team-b")


def test_target_must_exist_and_be_own(rig: Rig) -> None:
    """An unknown key isn't found; a key of another account is denied."""
    with pytest.raises(NotFoundError):
        create(rig, "alias/x", "11111111-2222-4333-8444-555555555555")
    with pytest.raises(AccessDeniedError):
        create(rig, "alias/x", rig.create_key(account="team-b"))


def test_a_key_has_fifty_aliases(rig: Rig) -> None:
    """The fifty-first is over the quota, by CreateAlias and by UpdateAlias."""
    arn = rig.create_key()
    for number in range(50):
        create(rig, f"alias/{number}", arn)
    with pytest.raises(LimitExceededError):
        create(rig, "alias/50", arn)
    create(rig, "alias/other", rig.create_key())
    with pytest.raises(LimitExceededError):
        rig.call("UpdateAlias", {"AliasName": "alias/other", "TargetKeyId": arn})
    rig.call("UpdateAlias", {"AliasName": "alias/1", "TargetKeyId": arn})


def test_update(rig: Rig) -> None:
    """UpdateAlias moves the name and the date of the last update."""
    old, new = rig.create_key(), rig.create_key()
    create(rig, "alias/x", old)
    rig.clock.now += 5
    assert rig.call("UpdateAlias", {"AliasName": "alias/x", "TargetKeyId": new}) == {}
    alias = rig.call("ListAliases")["Aliases"][0]
    assert alias["TargetKeyId"] == new.rpartition("/")[2]
    assert (alias["CreationDate"], alias["LastUpdatedDate"]) == (START, START + 5)


def test_update_keeps_type_and_usage(rig: Rig) -> None:
    """Old and new key must be of the same type and usage."""
    create(rig, "alias/x", rig.create_key())
    other = rig.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    with pytest.raises(ValidationError, match="same type"):
        rig.call("UpdateAlias", {"AliasName": "alias/x", "TargetKeyId": other})


def test_unknown_aliases(rig: Rig) -> None:
    """UpdateAlias and DeleteAlias of an unknown name, also of another account, find nothing."""
    arn = rig.create_key()
    create(rig, "alias/x", rig.create_key(account="team-b"), account="team-b")
    with pytest.raises(NotFoundError):
        rig.call("UpdateAlias", {"AliasName": "alias/x", "TargetKeyId": arn})
    with pytest.raises(NotFoundError):
        rig.call("DeleteAlias", {"AliasName": "alias/x"})


def test_delete_leaves_the_key(rig: Rig) -> None:
    """After DeleteAlias the name is free, and the key is as it was."""
    arn = rig.create_key()
    create(rig, "alias/x", arn)
    assert rig.call("DeleteAlias", {"AliasName": "alias/x"}) == {}
    assert rig.call("ListAliases")["Aliases"] == []
    assert rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["Enabled"]
    create(rig, "alias/x", arn)


def test_list_of_one_key(rig: Rig) -> None:
    """With KeyId only that key's aliases are listed; an empty KeyId is a validation error."""
    first, second = rig.create_key(), rig.create_key()
    create(rig, "alias/1", first)
    create(rig, "alias/2", second)
    listed = rig.call("ListAliases", {"KeyId": second})["Aliases"]
    assert [alias["AliasName"] for alias in listed] == ["alias/2"]
    with pytest.raises(ValidationError):
        rig.call("ListAliases", {"KeyId": ""})


def test_pages(rig: Rig) -> None:
    """Limit and Marker walk over all aliases once."""
    arn = rig.create_key()
    names = [f"alias/{number}" for number in range(5)]
    for name in names:
        create(rig, name, arn)
    seen: list[str] = []
    marker: dict[str, str] = {}
    while True:
        page = rig.call("ListAliases", {"Limit": 2, **marker})
        seen += [alias["AliasName"] for alias in page["Aliases"]]
        if not page["Truncated"]:
            assert "NextMarker" not in page
            break
        marker = {"Marker": page["NextMarker"]}
    assert seen == names


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"Limit": 0}, ValidationError),
        ({"Limit": 1001}, ValidationError),
        ({"Marker": ""}, ValidationError),
        ({"Marker": "%"}, InvalidMarkerError),
        ({"Marker": b64(b"\xff")}, InvalidMarkerError),
    ],
)
def test_bad_pages(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Limit is 1..1000, and a marker must be one of ours."""
    with pytest.raises(error):
        rig.call("ListAliases", members)


@pytest.mark.parametrize("operation", ["CreateAlias", "UpdateAlias", "DeleteAlias", "ListAliases"])
def test_only_the_controller(rig: Rig, operation: str) -> None:
    """Nobody else may name keys, or see the names."""
    arn = rig.create_key()
    create(rig, "alias/x", arn)
    body = {} if operation == "ListAliases" else {"AliasName": "alias/x", "TargetKeyId": arn}
    with pytest.raises(AccessDeniedError):
        rig.call(operation, body, by=account())
