"""A key can be named in five ways."""

import pytest

from datakeys.kubectl.key_names import find_key, find_request_key, list_alias_names
from kubectl_objects import KEY_ID, NAMESPACE, build_alias, build_key, build_request

ARN = f"arn:k8s:kms:c1:{NAMESPACE}:key/{KEY_ID}"
ALIASES = [
    build_alias("team", targetKeyRef={"name": "main"}),
    build_alias("odd", aliasName="alias/team/odd", targetKeyId=KEY_ID),
    {**build_alias("moved", targetKeyRef={"name": "main"}), "status": {"targetKeyArn": f"{ARN}-other"}},
]


@pytest.mark.parametrize(
    "text",
    ["main", KEY_ID, ARN, "alias/team", "alias/team/odd", f"arn:k8s:kms:c1:{NAMESPACE}:alias/team"],
)
def test_every_form_finds_the_key(text: str) -> None:
    """By name, id, ARN, alias and alias ARN."""
    key = build_key()
    assert find_key(text, NAMESPACE, [build_key("other", None), key], ALIASES) is key


@pytest.mark.parametrize(
    "text", ["mai", "alias/main", "alias/moved", "alias/none", ARN.replace("shop", "web")]
)
def test_what_names_no_key_finds_none(text: str) -> None:
    """An alias that was pointed elsewhere by an API call isn't this key's any more."""
    assert find_key(text, NAMESPACE, [build_key()], ALIASES) is None


def test_names_are_of_their_namespace() -> None:
    """The same name elsewhere is another key; an ARN says where its key is."""
    assert find_key("main", "web", [build_key()], []) is None
    assert find_key(ARN, "web", [build_key()], []) is not None


def test_a_key_s_aliases_are_sorted() -> None:
    """Only those that point to it now."""
    assert list_alias_names(build_key(), ALIASES) == ["alias/team", "alias/team/odd"]


def test_a_request_s_key_is_the_one_that_encrypted() -> None:
    """After that an alias may have moved on; before it the spec counts."""
    first, second = build_key(), build_key("second", None)
    request = build_request(keyId="alias/team")
    moved = [build_alias("team", targetKeyRef={"name": "second"})]
    assert find_request_key(request, [first, second], moved) is first
    assert find_request_key(build_request(ready=False, keyId="alias/team"), [first, second], moved) is second
