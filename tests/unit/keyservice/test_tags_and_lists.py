"""ListKeys, UpdateKeyDescription, TagResource, UntagResource, ListResourceTags."""

from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    InvalidMarkerError,
    KeyStateError,
    KmsError,
    LimitExceededError,
    NotFoundError,
    SerializationError,
    TagError,
    ValidationError,
)
from keyservice_rig import Rig, pod


def tag(key: str, value: str = "v") -> dict[str, str]:
    return {"TagKey": key, "TagValue": value}


def tags_of(rig: Rig, arn: str) -> dict[str, str]:
    answer = rig.call("ListResourceTags", {"KeyId": arn})
    assert answer["Truncated"] is False
    return {item["TagKey"]: item["TagValue"] for item in answer["Tags"]}


def test_list_keys_shows_every_key_of_the_account_and_no_other(rig: Rig) -> None:
    mine = sorted(rig.create_key() for _ in range(3))
    rig.create_key(account="team-b")
    answer = rig.call("ListKeys")
    assert [key["KeyArn"] for key in answer["Keys"]] == mine
    assert [key["KeyId"] for key in answer["Keys"]] == [arn.rpartition("/")[2] for arn in mine]
    assert answer["Truncated"] is False
    assert "NextMarker" not in answer


def test_list_keys_in_pages_shows_each_key_once(rig: Rig) -> None:
    mine = sorted(rig.create_key() for _ in range(5))
    seen: list[str] = []
    body: dict[str, Any] = {"Limit": 2}
    while True:
        page = rig.call("ListKeys", body)
        assert len(page["Keys"]) <= 2
        seen += [key["KeyArn"] for key in page["Keys"]]
        if not page["Truncated"]:
            break
        body["Marker"] = page["NextMarker"]
    assert seen == mine


def test_list_keys_shows_a_key_until_its_waiting_period_is_over(rig: Rig) -> None:
    arn = rig.create_key()
    rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 7})
    assert rig.call("ListKeys")["Keys"]
    rig.clock.now += 7 * 86_400
    assert rig.call("ListKeys")["Keys"] == []


def test_list_keys_knows_no_keys_that_aws_owns(rig: Rig) -> None:
    rig.create_key()
    assert rig.call("ListKeys", {"ResourceOwners": ["AWS"]})["Keys"] == []
    assert len(rig.call("ListKeys", {"ResourceOwners": ["SELF", "AWS"]})["Keys"]) == 1


@pytest.mark.parametrize(
    ("body", "error", "member"),
    [
        ({"Limit": 0}, ValidationError, "limit"),
        ({"Limit": 1001}, ValidationError, "limit"),
        ({"Limit": "5"}, SerializationError, "Limit"),
        ({"Marker": "???"}, InvalidMarkerError, "marker"),
        ({"Marker": "x" * 1025}, ValidationError, "marker"),
        ({"ResourceOwners": []}, ValidationError, "resourceOwners"),
        ({"ResourceOwners": ["THEM"]}, ValidationError, "resourceOwners"),
        ({"ResourceOwners": "SELF"}, SerializationError, "ResourceOwners"),
    ],
)
def test_list_keys_names_the_bad_member(
    rig: Rig, body: dict[str, Any], error: type[KmsError], member: str
) -> None:
    with pytest.raises(error) as caught:
        rig.call("ListKeys", body)
    assert member in str(caught.value)


def test_description_changes_and_may_become_empty(rig: Rig) -> None:
    arn = rig.create_key(Description="old")
    for text in ("new", ""):
        assert rig.call("UpdateKeyDescription", {"KeyId": arn, "Description": text}) == {}
        assert rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["Description"] == text


@pytest.mark.parametrize("description", [None, "x" * 8193])
def test_description_has_at_most_8192_characters_and_must_be_given(rig: Rig, description: str | None) -> None:
    arn = rig.create_key(Description="old")
    with pytest.raises(ValidationError, match="description"):
        rig.call("UpdateKeyDescription", {"KeyId": arn, "Description": description})
    assert rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["Description"] == "old"


def test_tags_of_creation_are_listed(rig: Rig) -> None:
    arn = rig.create_key(Tags=[tag("b", "2"), tag("a", "")])
    assert tags_of(rig, arn) == {"a": "", "b": "2"}


def test_tagging_again_replaces_the_value_and_keeps_the_others(rig: Rig) -> None:
    arn = rig.create_key(Tags=[tag("a", "1"), tag("b", "2")])
    assert rig.call("TagResource", {"KeyId": arn, "Tags": [tag("a", "9"), tag("c", "3")]}) == {}
    assert tags_of(rig, arn) == {"a": "9", "b": "2", "c": "3"}


def test_untagging_removes_only_what_it_names(rig: Rig) -> None:
    arn = rig.create_key(Tags=[tag("a"), tag("b")])
    assert rig.call("UntagResource", {"KeyId": arn, "TagKeys": ["a", "unknown"]}) == {}
    assert tags_of(rig, arn) == {"b": "v"}


def test_a_key_has_at_most_50_tags(rig: Rig) -> None:
    arn = rig.create_key(Tags=[tag(f"k{number}") for number in range(49)])
    rig.call("TagResource", {"KeyId": arn, "Tags": [tag("k49")]})
    with pytest.raises(LimitExceededError):
        rig.call("TagResource", {"KeyId": arn, "Tags": [tag("k50")]})
    rig.call("TagResource", {"KeyId": arn, "Tags": [tag("k49", "new value")]})
    assert len(tags_of(rig, arn)) == 50


BAD_TAGS: list[tuple[Any, type[KmsError], str]] = [
    ([tag("a"), tag("a", "2")], TagError, "Duplicate"),
    ([tag("aws:mine")], TagError, "aws:"),
    ([tag("AWS:mine")], TagError, "aws:"),
    ([tag("")], ValidationError, "tags.1.member.tagKey"),
    ([tag("a"), tag("k" * 129)], ValidationError, "tags.2.member.tagKey"),
    ([tag("a", "v" * 257)], ValidationError, "tags.1.member.tagValue"),
    ([{"TagKey": "a"}], ValidationError, "tags.1.member.tagValue"),
    (["a"], SerializationError, "Tags"),
    ([{"TagKey": 1, "TagValue": "v"}], SerializationError, "TagKey"),
    ([tag(f"k{number}") for number in range(51)], LimitExceededError, "50"),
]


@pytest.mark.parametrize(("tags", "error", "text"), [*BAD_TAGS, (None, ValidationError, "tags")])
def test_bad_tags_change_nothing(rig: Rig, tags: Any, error: type[KmsError], text: str) -> None:
    arn = rig.create_key()
    with pytest.raises(error, match=text):
        rig.call("TagResource", {"KeyId": arn, "Tags": tags})
    assert tags_of(rig, arn) == {}


@pytest.mark.parametrize(("tags", "error", "text"), BAD_TAGS)
def test_bad_tags_create_no_key(rig: Rig, tags: Any, error: type[KmsError], text: str) -> None:
    with pytest.raises(error, match=text):
        rig.call("CreateKey", {"Tags": tags})
    assert rig.call("ListKeys")["Keys"] == []


ON_ONE_KEY = pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("UpdateKeyDescription", {"Description": "new"}),
        ("TagResource", {"Tags": [tag("a")]}),
        ("UntagResource", {"TagKeys": ["a"]}),
        ("ListResourceTags", {}),
    ],
)


@ON_ONE_KEY
def test_operations_on_one_key_take_no_alias(rig: Rig, operation: str, more: dict[str, Any]) -> None:
    rig.call("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": rig.create_key()})
    with pytest.raises(NotFoundError, match="Invalid keyId"):
        rig.call(operation, {"KeyId": "alias/a", **more})


@ON_ONE_KEY
def test_operations_on_one_key_are_refused_to_a_pod(rig: Rig, operation: str, more: dict[str, Any]) -> None:
    with pytest.raises(AccessDeniedError):
        rig.call(operation, {"KeyId": rig.create_key(), **more}, by=pod())


@ON_ONE_KEY
def test_nothing_changes_while_deletion_is_pending(rig: Rig, operation: str, more: dict[str, Any]) -> None:
    arn = rig.create_key(Description="old", Tags=[tag("a", "1")])
    rig.call("ScheduleKeyDeletion", {"KeyId": arn})
    if operation != "ListResourceTags":
        with pytest.raises(KeyStateError, match="pending deletion"):
            rig.call(operation, {"KeyId": arn, **more})
    assert tags_of(rig, arn) == {"a": "1"}
    assert rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["Description"] == "old"
