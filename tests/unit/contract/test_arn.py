"""The four forms of a KeyId and how they resolve."""

import pytest

from datakeys.contract.arn import Arn, ResourceKind, build_alias_arn, build_key_arn, parse_key_id
from datakeys.contract.errors import NotFoundError, ValidationError

UUID = "1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("text", "account", "kind", "name"),
    [
        (UUID, "team-a", ResourceKind.KEY, UUID),
        ("alias/payments", "team-a", ResourceKind.ALIAS, "alias/payments"),
        (f"arn:k8s:kms:prod:team-b:key/{UUID}", "team-b", ResourceKind.KEY, UUID),
        ("arn:k8s:kms:prod:team-b:alias/pay/ments_1", "team-b", ResourceKind.ALIAS, "alias/pay/ments_1"),
    ],
)
def test_each_form_resolves_to_account_and_name(
    text: str, account: str, kind: ResourceKind, name: str
) -> None:
    """Short forms resolve in the caller's account, ARNs in their own."""
    arn = parse_key_id(text, region="prod", account="team-a")
    assert (arn.account, arn.kind, arn.name) == (account, kind, name)


@pytest.mark.parametrize(
    "text",
    [
        "payments",
        UUID.upper(),
        UUID + "\n",
        "alias/",
        "alias/a:b",
        f"key/{UUID}",
        f"arn:k8s:kms:other:team-a:key/{UUID}",
        f"arn:aws:kms:prod:team-a:key/{UUID}",
        f"arn:k8s:s3:prod:team-a:key/{UUID}",
        f"arn:k8s:kms:prod::key/{UUID}",
        "arn:k8s:kms:prod:team-a:key/short",
    ],
)
def test_anything_else_is_not_found(text: str) -> None:
    """A text of no form, of another Region or another partition names nothing here."""
    with pytest.raises(NotFoundError):
        parse_key_id(text, region="prod", account="team-a")


@pytest.mark.parametrize("text", ["", "a" * 2049])
def test_length_out_of_bounds_names_the_member(text: str) -> None:
    """A KeyId has 1..2048 characters."""
    with pytest.raises(ValidationError, match="'keyId'"):
        parse_key_id(text, region="prod", account="team-a")


def test_built_arns_parse_back() -> None:
    """Building and parsing are inverse."""
    for text in (build_key_arn("prod", "ns", UUID), build_alias_arn("prod", "ns", "alias/x")):
        assert str(Arn.parse(text)) == text
