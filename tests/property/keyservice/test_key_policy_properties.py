"""Whatever a key policy says: a deny wins, the unknown never allows, and a child grant is never wider."""

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.wildcards import matches_wildcards
from datakeys.keyservice.authz.conditions import ConditionFacts
from datakeys.keyservice.authz.grant_rules import GrantFacts, GrantWish, is_within, meets_constraints
from datakeys.keyservice.authz.key_policy import PolicyQuestion, Verdict, evaluate_policy
from datakeys.keyservice.authz.policy import AccessRequest, decide_access
from datakeys.keyservice.authz.realm import Realm
from keyservice_rig import account, pod

REALM = Realm("cluster-1")
KEY = "arn:k8s:kms:cluster-1:team-a:key/00000000-0000-0000-0000-000000000000"
APP = "system:serviceaccount:team-a:app"
NAMES = st.sampled_from(["a", "b", "c"])
CONTEXTS = st.dictionaries(NAMES, st.sampled_from(["1", "2"]), max_size=3)
OPERATIONS = st.sampled_from(["Decrypt", "Encrypt", "DescribeKey", "CreateGrant"])
CONDITIONS = st.dictionaries(
    st.sampled_from(["StringEquals", "StringNotLike", "ForAnyValue:StringLike", "Null", "Bool"]),
    st.dictionaries(
        st.sampled_from(["kms:EncryptionContext:a", "kms:EncryptionContextKeys", "kms:CallerAccount"]),
        st.lists(st.sampled_from(["1", "a", "*", "true", "team-a"]), min_size=1, max_size=2),
        max_size=2,
    ),
    max_size=2,
)
STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Principal": st.sampled_from(
            ["*", {"Kubernetes": "team-a"}, {"Kubernetes": [APP]}, {"AWS": "team-b"}]
        ),
        "Action": st.sampled_from(["kms:*", "kms:De*", "kms:Encrypt"]),
        "Resource": st.just("*"),
        "Condition": CONDITIONS,
    }
)
SETS = st.frozensets(st.sampled_from(["Decrypt", "Encrypt", "CreateGrant", "DescribeKey"]))
CONSTRAINTS = st.one_of(
    st.just((None, None)),
    CONTEXTS.map(lambda pairs: (pairs, None)),
    CONTEXTS.map(lambda pairs: (None, pairs)),
)


def judge(statements: list[Any], operation: str, context: dict[str, str]) -> Verdict:
    facts = ConditionFacts(operation, "team-a", context=context)
    question = PolicyQuestion(APP, "team-a", operation, KEY, facts)
    return evaluate_policy(json.dumps({"Statement": statements}), REALM, question)


@given(st.lists(STATEMENTS, max_size=4), st.integers(0, 4), OPERATIONS, CONTEXTS)
def test_explicit_deny_always_wins(
    statements: list[Any], place: int, operation: str, context: dict[str, str]
) -> None:
    """Over any statements, over any grant, and over a pod's binding."""
    deny = {"Effect": "Deny", "Principal": "*", "Action": f"kms:{operation}", "Resource": "*"}
    verdict = judge([*statements[:place], deny, *statements[place:]], operation, context)
    assert verdict is Verdict.DENY
    grant = GrantFacts("g", APP, frozenset({operation}))
    for principal in (account(), pod()):
        decision = decide_access(
            AccessRequest(principal, operation, "team-a", "team-a", context, [grant], verdict)
        )
        assert not decision.allowed
        assert not decision.needs_rbac


@given(st.lists(STATEMENTS, min_size=1, max_size=4), OPERATIONS, CONTEXTS, st.booleans())
def test_unknown_condition_never_allows_and_never_stops_a_deny(
    statements: list[Any], operation: str, context: dict[str, str], by_operator: bool
) -> None:
    """With one unknown condition in each statement nothing is allowed, and what was denied stays denied."""
    before = judge(statements, operation, context)
    extra = (
        {"StringWeird": {"kms:CallerAccount": "team-a"}}
        if by_operator
        else {"StringLikeIfExists": {"k:x": "*"}}
    )
    clouded = [{**one, "Condition": {**one["Condition"], **extra}} for one in statements]
    after = judge(clouded, operation, context)
    assert after in (Verdict.DENY, Verdict.NOTHING)
    assert (after is Verdict.DENY) >= (before is Verdict.DENY)


@given(st.lists(STATEMENTS, min_size=1, max_size=4), OPERATIONS, CONTEXTS)
def test_order_of_statements_has_no_meaning(
    statements: list[Any], operation: str, context: dict[str, str]
) -> None:
    """Reversed, a policy says the same."""
    assert judge(statements, operation, context) is judge(statements[::-1], operation, context)


@given(SETS, CONSTRAINTS, SETS, CONSTRAINTS, OPERATIONS, CONTEXTS)
def test_child_grant_is_never_wider_than_its_parent(
    parent_operations: frozenset[str],
    parent_constraint: Any,
    child_operations: frozenset[str],
    child_constraint: Any,
    operation: str,
    context: dict[str, str],
) -> None:
    """What a child within its parent allows, the parent allows too."""
    parent = GrantFacts("p", APP, parent_operations, *parent_constraint)
    child = GrantFacts("c", APP, child_operations, *child_constraint)
    if not is_within(GrantWish(APP, child_operations, *child_constraint), parent):
        return
    if operation in child.operations and meets_constraints(child, context):
        assert operation in parent.operations
        assert meets_constraints(parent, context)


PIECES = st.text(alphabet="ab?*", max_size=12)


@given(PIECES, st.text(alphabet="ab", max_size=20))
def test_wildcards_match_as_a_regular_expression_does(pattern: str, text: str) -> None:
    """The plain reading: a star is any text, a question mark one character."""
    expression = "".join({"*": ".*", "?": "."}.get(one, one) for one in pattern)
    assert matches_wildcards(pattern, text) is (re.fullmatch(expression, text) is not None)
