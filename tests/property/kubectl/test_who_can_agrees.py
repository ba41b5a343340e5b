"""What the plugin reads in a key policy is what the key service decides by it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.contract.identity import service_account_principal
from datakeys.keyservice.authz.conditions import ConditionFacts
from datakeys.keyservice.authz.key_policy import PolicyQuestion, Verdict, evaluate_policy
from datakeys.keyservice.authz.realm import Realm
from datakeys.kubectl.who_can.key_policy import Statement, find_denial, list_policy_rights, parse_policy
from kubectl_objects import KEY_ID, NAMESPACE, build_key

ARN = f"arn:k8s:kms:c1:{NAMESPACE}:key/{KEY_ID}"
ACCOUNTS = [(NAMESPACE, "app"), (NAMESPACE, "batch"), ("web", "app")]
PRINCIPALS = st.sampled_from(
    [
        "*",
        NAMESPACE,
        "web",
        f"arn:k8s:iam::{NAMESPACE}:root",
        f"arn:k8s:iam::{NAMESPACE}:serviceaccount/app",
        "system:serviceaccount:web:app",
        "alice@example.com",
    ]
)
ACTIONS = st.sampled_from(
    ["*", "kms:*", "kms:Decrypt", "kms:DECRYPT", "kms:De*pt", "kms:?ecrypt", "kms:Encrypt", "kms:*t*d"]
)
RESOURCES = st.sampled_from(["*", ARN, ARN.upper(), f"{ARN[:-4]}*", f"{ARN}x", "arn:*"])


def one_or_more(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str | list[str]]:
    """Return a text, or a list of some."""
    return st.one_of(texts, st.lists(texts, min_size=1, max_size=3))


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    """Return a statement without conditions."""
    effect = draw(st.sampled_from(["Allow", "Deny"]))
    negated = effect == "Deny" and draw(st.booleans())
    body: dict[str, Any] = {"Effect": effect}
    body["NotPrincipal" if negated else "Principal"] = draw(
        st.one_of(st.just("*"), st.fixed_dictionaries({"Kubernetes": one_or_more(PRINCIPALS)}))
    )
    for element, values in (("Action", ACTIONS), ("Resource", RESOURCES)):
        name = draw(st.sampled_from([element, f"Not{element}", ""]))
        if name:
            body[name] = draw(one_or_more(values))
    return body


def read_verdict(found: list[Statement], key: dict[str, Any], namespace: str, name: str) -> Verdict:
    """Return what the plugin's rows say about a ServiceAccount."""
    if find_denial(found, "ServiceAccount", namespace, name):
        return Verdict.DENY
    allowed = {
        (right.kind, right.namespace, right.name)
        for right in list_policy_rights(found, key)
        if not right.denies
    }
    if {("Everybody", "", ""), ("ServiceAccount", namespace, name)} & allowed:
        return Verdict.PRINCIPAL
    return Verdict.ACCOUNT if ("Namespace", "", namespace) in allowed else Verdict.NOTHING


@given(st.lists(statements(), min_size=1, max_size=4), st.sampled_from(ACCOUNTS))
def test_statements_mean_the_same_to_both(listed: list[dict[str, Any]], account: tuple[str, str]) -> None:
    """For every policy without conditions, every ServiceAccount and Decrypt."""
    text = json.dumps({"Statement": listed})
    namespace, name = account
    question = PolicyQuestion(
        name=service_account_principal(namespace, name),
        account=namespace,
        operation=GrantOperation.DECRYPT,
        key_arn=ARN,
        facts=ConditionFacts(GrantOperation.DECRYPT, namespace),
    )
    key = build_key(policy=text)
    found = parse_policy(key, (GrantOperation.DECRYPT,))
    assert found is not None
    assert read_verdict(found, key, namespace, name) is evaluate_policy(text, Realm("c1"), question)
