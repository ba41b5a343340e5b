"""The conditions of a key policy's statement: operators, keys, and three answers: met, not met, unknown.

Zone: pure. Unknown is whatever this service can't judge: an operator or a key that it doesn't know, a policy
variable, several values under an operator for one, or more comparisons than a decision may take. The caller
makes unknown the safe answer: no Allow, but a Deny. Source: AWS IAM, "Condition operators" and "Multivalued
context keys"; AWS KMS, "Condition keys"; kms-semantics section 4.3.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from datakeys.contract.wildcards import MAX_WORK, count_work, matches_arn, matches_wildcards
from datakeys.keyservice.authz.grant_rules import GrantWish

_CONTEXT_PREFIX: Final = "kms:encryptioncontext:"
_GRANT_OPERATIONS: Final = frozenset({"CreateGrant", "ListGrants", "RevokeGrant"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key; ``values`` are texts, any of which may match."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(slots=True)
class ConditionFacts:
    """What the condition keys ask for.

    Attributes:
        operation: Name of the API operation.
        caller_account: The account of the caller.
        key_spec: KeySpec of the key.
        key_usage: KeyUsage of the key.
        key_origin: Origin of the key.
        context: The encryption context; of CreateGrant the pairs of its constraint.
        request_alias: The alias that the request named, with its prefix, or empty.
        resource_aliases: Returns the key's aliases; asked only if a condition needs it.
        wish: What CreateGrant is to grant.
        work: What the decision has taken so far, in the unit of ``MAX_WORK``.
    """

    operation: str
    caller_account: str
    key_spec: str = ""
    key_usage: str = ""
    key_origin: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    request_alias: str = ""
    resource_aliases: Callable[[], Sequence[str]] = tuple
    wish: GrantWish | None = None
    work: int = 0


def check_condition(condition: Condition, facts: ConditionFacts) -> bool | None:
    """Return whether a condition is met; None if this service can't tell."""
    values = find_values(condition.key, facts)
    if values is None or any("${" in text for text in condition.values):
        return None
    quantifier, _, name = condition.operator.rpartition(":")
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name == "Null":
        return None if quantifier or if_exists else _check_null(condition.values, absent=not values)
    operator = _OPERATORS.get(name)
    if operator is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        return None
    match, negated = operator
    if not values:
        return if_exists or quantifier == "ForAllValues" or (negated and not quantifier)
    if len(values) > 1 and not quantifier:
        return None
    facts.work += count_work(condition.values, *map(len, values))
    if facts.work > MAX_WORK:
        return None
    found = [any(match(text, value) for text in condition.values) is not negated for value in values]
    return any(found) if quantifier == "ForAnyValue" else all(found)


def find_values(key: str, facts: ConditionFacts) -> Sequence[str] | None:
    """Return a condition key's values in this request: none if it is absent, None if the key is unknown.

    Condition keys compare in any case; so does the name of an encryption context pair here.
    """
    key = key.lower()
    if key.startswith(_CONTEXT_PREFIX):
        wanted = key.removeprefix(_CONTEXT_PREFIX)
        return [value for name, value in facts.context.items() if name.lower() == wanted]
    find = _KEYS.get(key)
    return None if find is None else [value for value in find(facts) if value]


def _check_null(wanted: Sequence[str], *, absent: bool) -> bool | None:
    lowered = {text.lower() for text in wanted}
    if not lowered <= {"true", "false"}:
        return None
    return ("true" if absent else "false") in lowered


def _grant_values(of: Callable[[GrantWish], Sequence[str]]) -> Callable[[ConditionFacts], Sequence[str]]:
    return lambda facts: () if facts.wish is None else of(facts.wish)


_KEYS: Final[Mapping[str, Callable[[ConditionFacts], Sequence[str]]]] = {
    "kms:encryptioncontextkeys": lambda facts: list(facts.context),
    "kms:calleraccount": lambda facts: [facts.caller_account],
    # No service acts for a caller here.
    "kms:viaservice": lambda _: (),
    "kms:keyspec": lambda facts: [facts.key_spec],
    "kms:keyusage": lambda facts: [facts.key_usage],
    "kms:keyorigin": lambda facts: [facts.key_origin],
    "kms:requestalias": lambda facts: [facts.request_alias],
    "kms:resourcealiases": lambda facts: facts.resource_aliases(),
    "kms:grantoperations": _grant_values(lambda wish: sorted(wish.operations)),
    "kms:granteeprincipal": _grant_values(lambda wish: [wish.grantee]),
    "kms:grantconstrainttype": _grant_values(lambda wish: [wish.constraint_type]),
    "kms:grantisforawsresource": lambda facts: ["false"] if facts.operation in _GRANT_OPERATIONS else (),
}


def _equals(text: str, value: str) -> bool:
    return text == value


def _equals_ignoring_case(text: str, value: str) -> bool:
    return text.lower() == value.lower()


#: Name -> how one text of the policy compares with one value of the request, and whether it is negated.
_OPERATORS: Final[Mapping[str, tuple[Callable[[str, str], bool], bool]]] = {
    "StringEquals": (_equals, False),
    "StringNotEquals": (_equals, True),
    "StringEqualsIgnoreCase": (_equals_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equals_ignoring_case, True),
    "StringLike": (matches_wildcards, False),
    "StringNotLike": (matches_wildcards, True),
    "ArnEquals": (matches_arn, False),
    "ArnLike": (matches_arn, False),
    "ArnNotEquals": (matches_arn, True),
    "ArnNotLike": (matches_arn, True),
    "Bool": (_equals_ignoring_case, False),
}
