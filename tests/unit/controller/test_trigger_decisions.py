"""Which changes let a request be looked at again."""

from dataclasses import replace
from typing import Any

import pytest

from controller_fakes import KEY_ARN, NOW, build_key_body, build_request_body
from datakeys.contract.conditions import Condition
from datakeys.controller.decisions.keys import (
    ResolvedKey,
    UnresolvedKey,
    parse_key_facts,
    resolve_key,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView, parse_request
from datakeys.controller.decisions.status import build_condition_status
from datakeys.controller.decisions.triggers import (
    KeyNames,
    alias_name_of,
    changes_outcome,
    find_alias,
    is_relevant_change,
    waits_for_key,
)
from datakeys.controller.decisions.versions import is_newer

ALIAS_ARN = "arn:k8s:kms:cluster-1:shop:alias/orders"


def request(**spec: Any) -> RequestView:
    """Return a request."""
    body = build_request_body(**spec)
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 1}
    return parse_request(body)


FAILED = tuple(build_condition_status(request(), Condition("Ready", "False", "X", ""), NOW)["conditions"])

CHANGES = {
    "first seen": (None, request(), False, True),
    "first seen while it is being deleted": (None, replace(request(), deleting=True), False, False),
    "nothing": (request(), request(), False, False),
    "made anew": (request(), replace(request(), uid="u2"), True, True),
    "new generation": (request(), replace(request(), generation=2), True, True),
    "status was emptied": (replace(request(), secret_ref="s"), request(), True, True),
    "status was damaged": (request(), replace(request(), damaged=True), True, True),
    "condition was changed by somebody": (request(), replace(request(), conditions=FAILED), False, True),
    "condition was changed, but a retry is due": (
        request(),
        replace(request(), conditions=FAILED),
        True,
        False,
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_change_of_a_request(case: str) -> None:
    """Only what can change the next step is looked at."""
    old, new, pending, expected = CHANGES[case]
    assert is_relevant_change(old, new, pending=pending) is expected


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("9", "9", False),
        ("b", "a", True),
        ("a", "a", False),
        ("1", "", True),
    ],
)
def test_versions(version: str, than: str, newer: bool) -> None:
    """Decimal versions are compared as numbers, others by difference."""
    assert is_newer(version, than) is newer


@pytest.mark.parametrize(
    ("spec", "waits"),
    [
        ({"keyRef": {"name": "main"}}, True),
        ({"keyRef": {"name": "other"}}, False),
        ({"keyId": KEY_ARN}, True),
        ({"keyId": KEY_ARN.rpartition("/")[2]}, True),
        ({"keyId": KEY_ARN[:-1] + "9"}, False),
        ({"keyId": "alias/orders"}, True),
        ({"keyId": ALIAS_ARN}, True),
    ],
)
def test_request_waits_for_its_key(spec: dict[str, Any], waits: bool) -> None:
    """A request waits for the key that it names; an alias can lead to any."""
    assert waits_for_key(request(**spec), KeyNames.of([parse_key_facts(build_key_body())])) is waits


def test_reference_stays_in_its_namespace() -> None:
    """A KmsKey of the same name elsewhere isn't meant."""
    facts = parse_key_facts(build_key_body())
    elsewhere = replace(facts, key=ObjectKey("other", "main"))
    assert not waits_for_key(request(keyRef={"name": "main"}), KeyNames.of([elsewhere]))


INFRA = "arn:k8s:kms:cluster-1:infra:key/0f4c4a3e-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("key_id", "waits"),
    [
        (INFRA, True),
        (INFRA.rpartition("/")[2], False),
        (INFRA[:-1] + "9", False),
        ("arn:k8s:kms:cluster-1:infra:alias/orders", True),
        ("arn:k8s:kms:cluster-1:third:alias/orders", False),
        ("alias/orders", False),
    ],
)
def test_request_waits_for_a_key_of_another_namespace(key_id: str, waits: bool) -> None:
    """By ARN, a request waits for a key or alias of another namespace; bare ids stay in its own."""
    facts = replace(
        parse_key_facts(build_key_body()),
        key=ObjectKey("infra", "main"),
        key_id=INFRA.rpartition("/")[2],
        arn=INFRA,
    )
    assert waits_for_key(request(keyId=key_id), KeyNames.of([facts])) is waits


@pytest.mark.parametrize(
    ("key_id", "alias"),
    [
        ("alias/orders", ("shop", "alias/orders")),
        (ALIAS_ARN, ("shop", "alias/orders")),
        (ALIAS_ARN.replace("shop", "infra"), ("infra", "alias/orders")),
        (KEY_ARN, None),
        ("nonsense", None),
    ],
)
def test_alias_of_a_request(key_id: str, alias: tuple[str, str] | None) -> None:
    """Account and alias name are found in both forms."""
    assert find_alias(request(keyId=key_id)) == alias


def test_alias_name_of_a_reference() -> None:
    """A reference names no alias."""
    assert find_alias(request(keyRef={"name": "main"})) is None


def test_default_alias_name() -> None:
    """A KmsAlias without aliasName has its own name."""
    assert alias_name_of({"metadata": {"name": "orders"}, "spec": {}}) == "alias/orders"
    assert alias_name_of({"metadata": {"name": "x"}, "spec": {"aliasName": "alias/y"}}) == "alias/y"


def test_only_state_and_identity_of_a_key_matter() -> None:
    """A change of a KmsKey that leaves its key state and ARN alone wakes nobody."""
    facts = parse_key_facts(build_key_body())
    assert changes_outcome(None, facts)
    assert not changes_outcome(facts, facts)
    assert changes_outcome(facts, replace(facts, state="Disabled"))
    assert changes_outcome(replace(facts, arn=""), facts)


def test_resolution_of_keys() -> None:
    """A KeyId is passed on as it is; a reference needs a KmsKey that has its key."""
    known, unknown = parse_key_facts(build_key_body()), parse_key_facts(build_key_body("new", arn=""))
    keys = {facts.key: facts for facts in (known, unknown)}
    assert resolve_key("shop", "alias/x", None, keys) == ResolvedKey("alias/x")
    assert resolve_key("shop", None, "main", keys) == ResolvedKey(KEY_ARN)
    for name, text in (("new", "isn't ready"), ("gone", "doesn't exist")):
        resolution = resolve_key("shop", None, name, keys)
        assert isinstance(resolution, UnresolvedKey)
        assert text in resolution.message
    assert isinstance(resolve_key("other", None, "main", keys), UnresolvedKey)
    assert (known.is_enabled, unknown.is_known) == (True, False)
