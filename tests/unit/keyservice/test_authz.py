"""The policy chain as a table: who, what, on which key, under which context."""

import ast
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import AccessDeniedError
from datakeys.keyservice.authz import operation_sets, policy
from datakeys.keyservice.authz.account import decide_account
from datakeys.keyservice.authz.grant_rules import GrantFacts
from datakeys.keyservice.authz.key_policy import Verdict
from datakeys.keyservice.authz.policy import AccessRequest, decide_access
from datakeys.keyservice.operations.table import VERBS
from keyservice_rig import CONTROLLER, account, bound, pod

APP = "system:serviceaccount:team-a:app"
ALL = frozenset(VERBS) | operation_sets.CROSS_ACCOUNT_OPERATIONS


def ask(principal: Any, operation: str, **facts: Any) -> policy.Decision:
    acting = "team-a" if principal is CONTROLLER else principal.namespace
    return decide_access(
        AccessRequest(principal, operation, **{"account": acting, "key_account": "team-a", **facts})
    )


@pytest.mark.parametrize("operation", sorted(VERBS))
def test_controller(operation: str) -> None:
    """The controller may do what the table says on the header's account, and nothing else."""
    decision = ask(CONTROLLER, operation, context=bound())
    assert decision.allowed is (operation in operation_sets.CONTROLLER_OPERATIONS)
    assert not ask(CONTROLLER, operation, context=bound(), key_account="team-b").allowed


def test_controller_never_sees_plaintext() -> None:
    """No operation of the controller answers or takes a plaintext, and no grant changes that."""
    assert not operation_sets.CONTROLLER_OPERATIONS & {"Decrypt", "Encrypt", "GenerateDataKey"}
    grant = GrantFacts("g", CONTROLLER.user_name, ALL)
    for operation in ("Decrypt", "Encrypt", "GenerateDataKey"):
        assert not ask(CONTROLLER, operation, context={}, grants=[grant]).allowed
        assert not ask(CONTROLLER, operation, context=bound(), grants=[grant]).allowed


@pytest.mark.parametrize("operation", ["ReEncryptFrom", "ReEncryptTo"])
@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ({}, True),
        ({"renewal": False}, False),
        ({"context": {}}, False),
        ({"context": {"datakeys.dev/namespace": "team-a"}}, False),
        ({"context": bound(**{"datakeys.dev/other": "x"})}, False),
        ({"context": bound(purpose="orders")}, True),
        ({"context": bound("team-b")}, False),
        ({"account": "team-b"}, False),
        ({"key_account": "team-b"}, False),
        ({"key_account": "team-b", "verdict": Verdict.ACCOUNT}, True),
        ({"verdict": Verdict.DENY}, False),
    ],
)
def test_controller_renews_what_is_bound_in_its_account(
    operation: str, facts: dict[str, Any], *, allowed: bool
) -> None:
    """The same key, the same context, the account of its header; a key policy may forbid it."""
    asked = {"context": bound(), "renewal": True, **facts}
    assert ask(CONTROLLER, operation, **asked).allowed is allowed


@pytest.mark.parametrize("principal", [pod(service_account="other"), account()])
@pytest.mark.parametrize("operation", ["ReEncryptFrom", "ReEncryptTo"])
def test_nobody_else_renews(principal: Any, operation: str) -> None:
    """Bound ciphertext stays closed to users and to other pods, by grant too."""
    grant = GrantFacts("g", principal.user_name, ALL)
    decision = ask(principal, operation, context=bound(), renewal=True, grants=[grant])
    assert (decision.allowed, decision.needs_rbac) == (False, False)


def test_a_renewal_opens_nothing_else() -> None:
    """A call that counts as renewal gives the controller no other operation."""
    for operation in sorted(ALL - {"ReEncryptFrom", "ReEncryptTo"}):
        with_it = ask(CONTROLLER, operation, context=bound(), renewal=True)
        assert with_it == ask(CONTROLLER, operation, context=bound())


@pytest.mark.parametrize("operation", sorted(ALL - {"Decrypt"}))
def test_pod_may_only_decrypt(operation: str) -> None:
    """With no grant a pod may do nothing but Decrypt."""
    for context in ({}, bound()):
        assert not ask(pod(), operation, context=context).allowed
        assert not ask(pod(), operation, context=context, key_account=None).allowed


@pytest.mark.parametrize(
    ("principal", "context", "key_account", "allowed"),
    [
        (pod(), bound(), "team-a", True),
        (pod(), bound(extra="x"), "team-a", True),
        (pod(), bound(), "team-b", False),
        (pod(), bound(namespace="team-b"), "team-a", False),
        (pod(), bound(service_account="other"), "team-a", False),
        (pod(), {}, "team-a", False),
        (pod(), {"datakeys.dev/namespace": "team-a"}, "team-a", False),
        (pod(), {"datakeys.dev/service-account": "app"}, "team-a", False),
        (pod("team-b"), bound(), "team-a", False),
        (pod("team-b"), bound("team-b"), "team-a", False),
        (account(), bound(), "team-a", False),
        (CONTROLLER, bound(), "team-a", False),
    ],
)
def test_decrypt(principal: Any, context: dict[str, str], key_account: str, *, allowed: bool) -> None:
    """Only a pod whose token equals the binding, under a key of its own namespace."""
    assert ask(principal, "Decrypt", context=context, key_account=key_account).allowed is allowed


@pytest.mark.parametrize("operation", sorted(ALL))
def test_service_account_may_do_nothing(operation: str) -> None:
    """A token that is bound to no pod has no right of its own."""
    for context in ({}, bound()):
        assert not ask(account(), operation, context=context).allowed


@pytest.mark.parametrize("operation", sorted(operation_sets.ENCRYPTING_OPERATIONS))
@pytest.mark.parametrize("spelling", ["datakeys.dev/namespace", "DATAKEYS.DEV/x", "datakeys.dev/"])
def test_reserved_pairs_are_the_controllers(operation: str, spelling: str) -> None:
    """A grant doesn't let anybody write reserved pairs."""
    grant = GrantFacts("g", APP, ALL)
    assert ask(account(), operation, grants=[grant]).allowed
    assert not ask(account(), operation, grants=[grant], context={spelling: "x"}).allowed


def test_grant_opens_unbound_ciphertext_only() -> None:
    """Decrypt by grant works without reserved pairs; with matching ones the pod rule decides."""
    grant = GrantFacts("g", APP, frozenset({"Decrypt"}))
    for principal in (account(), pod()):
        assert ask(principal, "Decrypt", grants=[grant], context={"a": "b"}).allowed
    assert not ask(account(), "Decrypt", grants=[grant], context=bound()).allowed
    assert ask(pod(), "Decrypt", grants=[grant], context=bound(), key_account="team-b").allowed


@pytest.mark.parametrize(
    ("grant", "context", "allowed"),
    [
        (GrantFacts("g", APP, frozenset({"Encrypt"})), {}, True),
        (GrantFacts("g", APP, frozenset({"Decrypt"})), {}, False),
        (GrantFacts("g", APP + "x", frozenset({"Encrypt"})), {}, False),
        (GrantFacts("g", APP, frozenset({"Encrypt"}), context_equals={}), {}, True),
        (GrantFacts("g", APP, frozenset({"Encrypt"}), context_equals={}), {"a": "1"}, False),
        (GrantFacts("g", APP, frozenset({"Encrypt"}), context_equals={"a": "1"}), {"a": "1"}, True),
        (GrantFacts("g", APP, frozenset({"Encrypt"}), context_subset={"a": "1"}), {"a": "1", "b": ""}, True),
        (GrantFacts("g", APP, frozenset({"Encrypt"}), context_subset={"a": "1"}), {"a": "2"}, False),
    ],
)
def test_grants(grant: GrantFacts, context: dict[str, str], *, allowed: bool) -> None:
    """Grantee, operation and constraints must all match."""
    assert ask(account(), "Encrypt", grants=[grant], context=context).allowed is allowed


def test_constraints_do_not_bind_operations_without_a_context() -> None:
    """DescribeKey has no context that a constraint could compare."""
    grant = GrantFacts("g", APP, frozenset({"DescribeKey"}), context_equals={"a": "1"})
    assert ask(account(), "DescribeKey", grants=[grant]).allowed


def test_second_grant_may_match() -> None:
    """All grants are tried."""
    grants = [GrantFacts("1", APP, frozenset()), GrantFacts("2", APP, frozenset({"Encrypt"}))]
    assert ask(account(), "Encrypt", grants=grants).reason == "grant 2"


def test_every_decision_says_why() -> None:
    """Allowed or not, the audit record gets a reason."""
    for principal in (CONTROLLER, pod(), account()):
        for operation in VERBS:
            for context in ({}, bound(), bound("team-b")):
                assert ask(principal, operation, context=context).reason


@pytest.mark.parametrize("header", ["team-a", "a", "a1-b2", "x" * 63])
def test_controller_names_the_account(header: str) -> None:
    """The controller's header is the account."""
    assert decide_account(CONTROLLER, header) == header


@pytest.mark.parametrize("header", [None, "", "A", "-a", "a-", "a/b", "a.b", "a\n", "x" * 64, "\u00e4"])
def test_controller_must_name_a_namespace(header: str | None) -> None:
    """No header, or one that is no namespace, is denied."""
    with pytest.raises(AccessDeniedError):
        decide_account(CONTROLLER, header)


@pytest.mark.parametrize("principal", [pod(), account()])
def test_others_have_the_account_of_their_token(principal: Any) -> None:
    """Anybody else acts for the own namespace, and may not name any, not even the own."""
    assert decide_account(principal, None) == "team-a"
    for header in ("team-a", "team-b", ""):
        with pytest.raises(AccessDeniedError):
            decide_account(principal, header)


def test_room_is_pure() -> None:
    """The room imports the contract, itself and pure standard modules only."""
    room = Path(policy.__file__).parent
    allowed = {"json", "re", "collections", "dataclasses", "enum", "functools", "typing"}
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            else:
                continue
            for name in names:
                own = name.startswith(("datakeys.contract", "datakeys.keyservice.authz"))
                assert own or name.split(".")[0] in allowed, (path, name)


@pytest.mark.parametrize("operation", sorted(ALL))
@pytest.mark.parametrize("verdict", [None, *Verdict])
@pytest.mark.parametrize("key_account", [None, "team-a", "team-b"])
def test_service_account_by_policy_and_rbac(
    operation: str, verdict: Verdict | None, key_account: str | None
) -> None:
    """The matrix for who has neither binding nor grant: allowed, left to RBAC, or denied."""
    if key_account is None:
        verdict = None
    decision = ask(account(), operation, key_account=key_account, verdict=verdict)
    own = key_account != "team-b"
    reaches = own or operation in operation_sets.CROSS_ACCOUNT_OPERATIONS
    by_default = verdict is None and own
    by_policy = verdict in (Verdict.PRINCIPAL, Verdict.ACCOUNT)
    itself = verdict is Verdict.PRINCIPAL and own
    assert decision.allowed is itself
    assert decision.needs_rbac is (not itself and reaches and (by_default or by_policy))


@pytest.mark.parametrize("operation", sorted(operation_sets.CONTROLLER_OPERATIONS))
def test_controller_under_a_deny(operation: str) -> None:
    """A Deny stops its data keys, never its management; abroad it needs the other policy's consent."""
    denied = ask(CONTROLLER, operation, context=bound(), verdict=Verdict.DENY)
    assert denied.allowed is (operation != "GenerateDataKeyWithoutPlaintext")
    for verdict in (None, *Verdict):
        abroad = ask(CONTROLLER, operation, context=bound(), verdict=verdict, key_account="team-b")
        consents = verdict in (Verdict.PRINCIPAL, Verdict.ACCOUNT)
        assert abroad.allowed is (
            consents
            and operation
            in (
                "DescribeKey",
                "GenerateDataKeyWithoutPlaintext",
                "CreateGrant",
                "ListGrants",
                "RevokeGrant",
            )
        )
        assert not abroad.needs_rbac
