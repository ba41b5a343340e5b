"""Who may use a key, row by row, with the reason."""

import json
from typing import Any

import pytest

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.kubectl.answers import Gap, GapKind, UserError
from datakeys.kubectl.arguments import parse_arguments
from datakeys.kubectl.paths import DATAKEYS, RBAC, build_path
from datakeys.kubectl.who_can.command import build_rights, run_who_can
from datakeys.kubectl.who_can.key_policy import is_opened, parse_policy
from datakeys.kubectl.who_can.operations import parse_operation
from datakeys.kubectl.who_can.rights import Right
from kubectl_objects import (
    KEY_ID,
    NAMESPACE,
    FakeKubectl,
    build_alias,
    build_condition,
    build_console,
    build_key,
    build_request,
)

Body = dict[str, Any]
ARN = f"arn:k8s:kms:c1:{NAMESPACE}:key/{KEY_ID}"
DECRYPT = (GrantOperation.DECRYPT,)
EVERYTHING = ("DataKeyRequests", "KmsGrants", "Roles", "ClusterRoles", "RoleBindings", "ClusterRoleBindings")


def rights(key: Body, *, operations: tuple[GrantOperation, ...] = DECRYPT, **objects: Any) -> list[Right]:
    """Return all rights on a key among these objects."""
    aliases = [build_alias("team", targetKeyRef={"name": "main"})]
    return build_rights(key, aliases, {**{name: [] for name in EVERYTHING}, **objects}, operations)


def build_grant(name: str = "g", *, ready: bool = True, **spec: Any) -> Body:
    """Return a KmsGrant that lets the ServiceAccount batch decrypt."""
    condition = build_condition() if ready else build_condition("False", "NotFoundException")
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "keyRef": {"name": "main"},
            "granteePrincipal": {"serviceAccountName": "batch"},
            "operations": ["Decrypt"],
            **spec,
        },
        "status": {"conditions": [condition], **({"keyArn": ARN} if ready else {})},
    }


def build_role(*resources: str, **rule: Any) -> Body:
    """Return a Role, or ClusterRole, with one rule."""
    body = {"apiGroups": ["datakeys.dev"], "verbs": ["create"], "resources": list(resources), **rule}
    return {"metadata": {"name": "r", "namespace": NAMESPACE}, "rules": [body]}


def build_binding(*subjects: Body, kind: str = "Role", **metadata: str) -> Body:
    """Return a RoleBinding to the role r."""
    names = {"name": "b", "namespace": NAMESPACE, **metadata}
    return {"metadata": names, "roleRef": {"kind": kind, "name": "r"}, "subjects": list(subjects)}


def account(name: str = "app", namespace: str = NAMESPACE) -> Body:
    """Return a ServiceAccount as a subject."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def policy(*statements: Body) -> str:
    """Return a key policy."""
    return json.dumps({"Statement": list(statements)})


def allow(principal: Any, action: Any = "kms:*", **more: Any) -> Body:
    """Return an Allow statement."""
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": "*", **more}


def test_each_request_names_its_account() -> None:
    """Only under this key, only for Decrypt, and only that data key."""
    elsewhere = build_request("other")
    elsewhere["status"]["keyId"] = ARN.replace("000f", "0001")
    found = rights(build_key(), DataKeyRequests=[build_request(account="orders"), elsewhere])
    assert [(one.who, one.given_by, one.note) for one in found] == [
        ("ServiceAccount shop/orders", "shop/orders", "this data key only, from a pod")
    ]
    assert rights(build_key(), operations=parse_operation("encrypt"), DataKeyRequests=[build_request()]) == []


def test_grants_are_told_with_their_constraints() -> None:
    """Grants for other operations and on other keys are left out."""
    pairs = {"encryptionContextSubset": {"tenant": "a"}}
    grants = [
        build_grant(constraints=pairs),
        build_grant("sign", operations=["Sign"]),
        build_grant("other", ready=False, keyRef={"name": "other"}),
    ]
    (found,) = rights(build_key(), KmsGrants=grants)
    assert found.who == "ServiceAccount shop/batch"
    assert "if the encryption context has tenant=a" in found.note


def test_grant_that_isn_t_in_force_gives_nothing() -> None:
    """It is shown all the same: somebody meant it."""
    (found,) = rights(build_key(), KmsGrants=[build_grant(ready=False)])
    assert not found.effective
    assert "NotFoundException" in found.note


@pytest.mark.parametrize(
    ("role", "gives"),
    [
        (build_role("kmskeys/decrypt"), True),
        (build_role("*/decrypt"), True),
        (build_role("*"), True),
        (build_role("kmskeys/decrypt", apiGroups=["*"], verbs=["*"]), True),
        (build_role("kmskeys/decrypt", resourceNames=["main"]), True),
        (build_role("kmskeys/decrypt", resourceNames=["other"]), False),
        (build_role("kmskeys/decrypt", resourceNames=["alias/team"]), False),
        (build_role("kmskeys/encrypt"), False),
        (build_role("kmskeys"), False),
        # Kubernetes has no such wildcard: it is a resource that nobody asks for.
        (build_role("kmskeys/*"), False),
        (build_role("kmskeys/decrypt", verbs=["get"]), False),
        (build_role("kmskeys/decrypt", apiGroups=[""]), False),
    ],
)
def test_rules_mean_what_the_api_server_takes_them_to_mean(role: Body, gives: bool) -> None:
    """As in docs/authorization.md; the control-plane test asks the API server itself."""
    found = rights(build_key(), Roles=[role], RoleBindings=[build_binding(account())])
    assert bool(found) is gives


def test_alias_in_a_rule_counts_for_requests_only() -> None:
    """The admission policy asks with the name that the DataKeyRequest writes."""
    role = build_role("kmskeys/generatedatakeywithoutplaintext", resourceNames=["alias/team"])
    objects = {"Roles": [role], "RoleBindings": [build_binding({"kind": "User", "name": "alice"})]}
    (found,) = rights(build_key(), operations=parse_operation("generatedatakeywithoutplaintext"), **objects)
    assert found.who == "User alice"


def test_right_in_a_foreign_namespace_has_no_effect() -> None:
    """The key service asks RBAC of the caller's namespace."""
    (found,) = rights(
        build_key(),
        ClusterRoles=[build_role("kmskeys/decrypt")],
        RoleBindings=[build_binding(account(namespace="web"), kind="ClusterRole")],
    )
    assert not found.effective
    assert "own namespace" in found.note


def test_role_of_the_same_name_and_another_kind_is_another_role() -> None:
    """A binding names both."""
    bindings = [build_binding(account(), kind="ClusterRole")]
    assert rights(build_key(), Roles=[build_role("*")], RoleBindings=bindings) == []


def test_key_policy_that_shuts_out_rbac_is_told() -> None:
    """The binding is there, and without effect."""
    shut = build_key(policy=policy(allow({"Kubernetes": "system:serviceaccount:shop:app"})))
    found = rights(shut, Roles=[build_role("*")], RoleBindings=[build_binding(account("batch"))])
    assert [(one.who, one.source, one.effective) for one in found] == [
        ("ServiceAccount shop/app", "key policy", True),
        ("ServiceAccount shop/batch", "RBAC", False),
    ]


def test_denials_come_first() -> None:
    """No grant and no binding can override them."""
    key = build_key(
        policy=policy(allow("*"), {**allow({"Kubernetes": "web"}), "Effect": "Deny", "Sid": "no"})
    )
    found = rights(key, KmsGrants=[build_grant()])
    assert [(one.denies, one.who) for one in found] == [
        (True, "Namespace web"),
        (False, "Everybody"),
        (False, "ServiceAccount shop/batch"),
    ]


def test_denial_takes_a_right_away_whatever_gives_it() -> None:
    """A request, a grant, a binding: all of no effect, and told so; one with conditions may or may not."""
    denial = {**allow({"Kubernetes": NAMESPACE}), "Effect": "Deny", "Sid": "stop"}
    objects: dict[str, Any] = {"DataKeyRequests": [build_request()], "KmsGrants": [build_grant()]}
    found = rights(build_key(policy=policy(allow("*"), denial)), **objects)
    assert {one.who: one.effective for one in found if one.kind == "ServiceAccount"} == {
        "ServiceAccount shop/app": False,
        "ServiceAccount shop/batch": False,
    }
    assert "denied by statement stop" in found[-1].note
    maybe = {**denial, "Condition": {"StringEquals": {"kms:KeySpec": "RSA_2048"}}}
    found = rights(build_key(policy=policy(allow("*"), maybe)), **objects)
    assert found[-1].effective
    assert "unless the conditions of statement stop deny it" in found[-1].note


def test_denial_of_one_operation_leaves_the_others() -> None:
    """``generate`` stands for several."""
    denial = {**allow("*", "kms:GenerateDataKeyPair"), "Effect": "Deny"}
    grant = build_grant(operations=["GenerateDataKey"])
    found = rights(
        build_key(policy=policy(allow("*"), denial)),
        operations=parse_operation("generate"),
        KmsGrants=[grant],
    )
    assert found[-1].effective


@pytest.mark.parametrize(
    ("statement", "covered"),
    [
        (allow("*", "kms:Decrypt"), True),
        (allow("*", ["kms:Encrypt", "kms:dec*"]), True),
        (allow("*", "kms:D?crypt"), True),
        (allow("*", "kms:Encrypt"), False),
        (allow("*", "*"), True),
        (allow("*", "kms:*", Resource=ARN), True),
        (allow("*", "kms:*", Resource="arn:k8s:kms:c1:shop:key/other"), False),
        ({"Effect": "Allow", "Principal": "*", "NotAction": "kms:Decrypt", "Resource": "*"}, False),
        ({"Effect": "Allow", "Principal": "*", "NotAction": "kms:Encrypt", "Resource": "*"}, True),
        ({"Effect": "Allow", "Principal": "*", "Resource": "*"}, False),
    ],
)
def test_statements_are_taken_by_action_and_resource(statement: Body, covered: bool) -> None:
    """One without an action has no effect."""
    assert bool(parse_policy(build_key(policy=policy(statement)), DECRYPT)) is covered


def test_conditions_are_told_not_judged() -> None:
    """They depend on the call."""
    condition = {"StringEquals": {"kms:EncryptionContext:a": "b"}}
    (found,) = rights(build_key(policy=policy(allow("*", Condition=condition))))
    assert found.note == "under conditions: read the statement"


@pytest.mark.parametrize(
    ("principal", "opened"),
    [("*", True), ({"Kubernetes": NAMESPACE}, True), ({"Kubernetes": f"arn:k8s:iam::{NAMESPACE}:root"}, True),
     ({"Kubernetes": "web"}, False), ({"Kubernetes": "alice@example"}, False)],
)  # fmt: skip
def test_policy_opens_the_key_to_rbac_of_whom_it_names(principal: Any, opened: bool) -> None:
    """The default policy opens it to the key's namespace."""
    assert is_opened(parse_policy(build_key(policy=policy(allow(principal))), DECRYPT), NAMESPACE) is opened
    assert is_opened(None, NAMESPACE)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"Statement": [1]}', '{"Statement": [{"Action": "kms:*"}]}']
)
def test_malformed_policy_is_said(text: str) -> None:
    """Instead of an answer that leaves something out."""
    if text == '{"Statement": [{"Action": "kms:*"}]}':
        text = '{"Statement": [{"Action": "kms:*", "Resource": "*"}]}'
    with pytest.raises(UserError, match="isn't a key policy"):
        parse_policy(build_key(policy=text), DECRYPT)


def test_policy_can_t_make_it_hang() -> None:
    """Many stars on a text that almost matches."""
    pattern = "kms:" + "*a" * 60 + "x"
    assert parse_policy(build_key(policy=policy(allow("*", pattern))), DECRYPT) == []


def test_words_stand_for_operations() -> None:
    """Any operation that a grant can name is taken, in any spelling of its letters' case."""
    assert parse_operation("decrypt") == DECRYPT
    assert parse_operation("GENERATEMAC") == (GrantOperation.GENERATE_MAC,)
    assert len(parse_operation("generate")) == 4
    with pytest.raises(UserError, match="decrypt, encrypt, generate"):
        parse_operation("delete")


def test_what_can_t_be_seen_is_said(kubectl: FakeKubectl) -> None:
    """An answer that may lack somebody must say so; requests fall back to the key's own namespace."""
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys", NAMESPACE), build_key(state="Disabled"))
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", NAMESPACE))
    forbidden = "Error from server (Forbidden): you may not list it"
    kubectl.answer(f"{build_path(RBAC, 'clusterroles')}?limit=500", forbidden)
    kubectl.answer(f"{build_path(DATAKEYS, 'datakeyrequests')}?limit=500", forbidden)
    kubectl.answer_list(build_path(DATAKEYS, "datakeyrequests", NAMESPACE), build_request())
    for name in ("roles", "rolebindings"):
        kubectl.answer_list(build_path(RBAC, name, NAMESPACE))
    kubectl.answer_list(build_path(RBAC, "clusterrolebindings"))
    kubectl.answer_list(build_path(DATAKEYS, "kmsgrants"))
    arguments = parse_arguments(["who-can", "decrypt", "main", "-n", NAMESPACE])
    console, out = build_console()
    assert run_who_can(arguments, kubectl.cluster(), console) == 0
    text = out.getvalue()
    assert "The key is Disabled" in text
    assert "ServiceAccount shop/app" in text
    assert "? can't see ClusterRoles: you may not list it" in text


def test_nobody_is_an_answer_of_its_own(kubectl: FakeKubectl) -> None:
    """Status 1, and an empty list for machines."""
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys", NAMESPACE), build_key())
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", NAMESPACE))
    arguments = parse_arguments(["who-can", "decrypt", ARN, "-o", "json"])
    arguments.namespace = "web"
    console, out = build_console()
    assert run_who_can(arguments, kubectl.cluster(), console) == 1
    document = json.loads(out.getvalue())
    assert document["items"] == []
    assert len(document["unseen"]) == len(EVERYTHING)


def test_gap_of_one_kind_hides_no_other() -> None:
    """Rights that can be seen are shown."""
    hidden = Gap(GapKind.UNSEEN, "no")
    found = rights(build_key(), Roles=hidden, ClusterRoles=hidden, KmsGrants=[build_grant()])
    assert [one.who for one in found] == ["ServiceAccount shop/batch"]
