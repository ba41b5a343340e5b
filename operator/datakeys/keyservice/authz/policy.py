"""The policy chain: one access question in, one decision with its reason out.

Zone: pure. The reason is for the audit record only; the caller gets one identical text for every denial.
Source: docs/architecture.md, "Who may call what"; kms-semantics section 4.4; docs/adr/0009. An explicit deny
comes first and no grant can override it; then an allow; and nothing is allowed by default. What the key
policy says comes as a verdict; what RBAC says is asked for by the caller of this chain, if nothing else has
decided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from datakeys.contract.encryption_context import (
    PAIR_NAMESPACE,
    PAIR_REQUEST,
    PAIR_SERVICE_ACCOUNT,
    RESERVED_PREFIX,
)
from datakeys.keyservice.authz.grant_rules import GrantFacts, GrantWish, is_within, meets_constraints
from datakeys.keyservice.authz.key_policy import Verdict
from datakeys.keyservice.authz.operation_sets import (
    CONTEXT_OPERATIONS,
    CONTROLLER_ABROAD,
    CONTROLLER_OPERATIONS,
    CROSS_ACCOUNT_OPERATIONS,
    DATA_KEY_OPERATIONS,
    DECRYPTING_OPERATIONS,
    ENCRYPTING_OPERATIONS,
    RENEWAL_OPERATIONS,
)
from datakeys.keyservice.authz.principal import Principal, PrincipalKind

ACCESS_DENIED_MESSAGE: Final = "The caller is not authorized to perform this operation."

_BINDING_PAIRS: Final = frozenset({PAIR_NAMESPACE, PAIR_REQUEST, PAIR_SERVICE_ACCOUNT})


@dataclass(slots=True)
class AccessRequest:
    """One access question.

    Attributes:
        principal: The verified caller.
        operation: Name of the API operation.
        account: The account the caller acts for.
        key_account: The account of the key, or None if the operation has no key.
        context: The encryption context; empty if the operation has none.
        grants: The key's grants.
        verdict: What the key's policy says; None for the default policy, which needs no evaluation.
        wish: What CreateGrant is to grant.
        renewal: The call is a ReEncrypt with the same key and the same context on both sides.
    """

    principal: Principal
    operation: str
    account: str
    key_account: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    grants: Sequence[GrantFacts] = ()
    verdict: Verdict | None = None
    wish: GrantWish | None = None
    renewal: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, and why; with ``needs_rbac`` it is allowed if RBAC of the caller's account says so."""

    allowed: bool
    reason: str
    needs_rbac: bool = False


_NO_RULE: Final = Decision(allowed=False, reason="no rule allows it")
_CONTROLLER: Final = Decision(allowed=True, reason="controller on its header's account")
_ACCOUNT_ROOT: Final = Decision(allowed=True, reason="root of the key's account")
_ABROAD: Final = Decision(allowed=True, reason="controller for an account that the key's policy allows")
_BOUND_POD: Final = Decision(allowed=True, reason="pod that the ciphertext is bound to")
_BY_POLICY: Final = Decision(allowed=True, reason="key policy")
_ASK_RBAC: Final = Decision(allowed=False, reason="RBAC", needs_rbac=True)
_EXPLICIT_DENY: Final = Decision(allowed=False, reason="explicit deny of the key policy")
_ALLOWS: Final = frozenset({Verdict.PRINCIPAL, Verdict.ACCOUNT})


def reserved_pairs(context: Mapping[str, str]) -> set[str]:
    """Return the keys of a context with the reserved prefix, in any spelling of its letters' case."""
    return {key for key in context if key.lower().startswith(RESERVED_PREFIX)}


def decide_access(request: AccessRequest) -> Decision:
    """Return the first decision of the chain; deny if there is none."""
    for rule in _CHAIN:
        decision = rule(request)
        if decision is not None:
            return decision
    return _NO_RULE


def deny_forged_binding(request: AccessRequest) -> Decision | None:
    """Refuse reserved pairs that the caller has no right to write.

    The controller must name all three and its account; nobody else may write any.
    """
    if request.operation not in ENCRYPTING_OPERATIONS:
        return None
    reserved = reserved_pairs(request.context)
    if request.principal.kind is not PrincipalKind.CONTROLLER:
        return (
            Decision(allowed=False, reason="reserved pairs from another than the controller")
            if reserved
            else None
        )
    if reserved != _BINDING_PAIRS:
        return Decision(
            allowed=False, reason="the controller must bind with exactly the three reserved pairs"
        )
    if request.context[PAIR_NAMESPACE] != request.account:
        return Decision(allowed=False, reason="the reserved namespace isn't the header's account")
    return None


def deny_foreign_binding(request: AccessRequest) -> Decision | None:
    """Refuse bound ciphertext to all but a pod whose token matches the binding; grants can't override it.

    The controller may renew it: what comes out is bound to the same pod.
    """
    if request.operation not in DECRYPTING_OPERATIONS or not reserved_pairs(request.context):
        return None
    if _is_renewal(request):
        return None
    if request.principal.kind is not PrincipalKind.POD:
        return Decision(allowed=False, reason="bound ciphertext from another than a pod")
    if not _matches_binding(request):
        return Decision(
            allowed=False, reason="the ciphertext is bound to another namespace or ServiceAccount"
        )
    return None


def deny_by_key_policy(request: AccessRequest) -> Decision | None:
    """Refuse what the key policy denies; the controller manages its account's keys all the same."""
    if request.verdict is not Verdict.DENY:
        return None
    manages = (
        request.principal.kind is PrincipalKind.CONTROLLER
        and request.key_account == request.account
        and request.operation not in DATA_KEY_OPERATIONS
    )
    return None if manages else _EXPLICIT_DENY


def decide_controller(request: AccessRequest) -> Decision | None:
    """Allow the controller its operations on its account; it has no right by grants."""
    if request.principal.kind is not PrincipalKind.CONTROLLER:
        return None
    if request.operation not in CONTROLLER_OPERATIONS and not _is_renewal(request):
        return Decision(allowed=False, reason="not an operation of the controller")
    if request.key_account in (None, request.account):
        return _CONTROLLER
    if request.operation in CONTROLLER_ABROAD and request.verdict in _ALLOWS:
        return _ABROAD
    return Decision(allowed=False, reason="the key isn't in the header's account")


def decide_account_root(request: AccessRequest) -> Decision | None:
    """Allow the root of an account everything on its own keys: the caller of the local mode."""
    if request.principal.kind is not PrincipalKind.ACCOUNT_ROOT:
        return None
    return _ACCOUNT_ROOT if request.key_account in (None, request.account) else None


def decide_pod(request: AccessRequest) -> Decision | None:
    """Allow a pod to decrypt what is bound to it, under a key of its own namespace or one that allows it."""
    if request.principal.kind is not PrincipalKind.POD or request.operation != "Decrypt":
        return None
    if not _matches_binding(request):
        return None
    own = request.key_account == request.principal.namespace
    return _BOUND_POD if own or request.verdict in _ALLOWS else None


def decide_grants(request: AccessRequest) -> Decision | None:
    """Allow what a grant says: grantee, operation, constraints; a further grant must stay within it."""
    if not request.grants:
        return None
    user_name = request.principal.user_name
    for grant in request.grants:
        if (
            grant.grantee == user_name
            and request.operation in grant.operations
            and _meets_constraints(grant, request)
        ):
            return Decision(allowed=True, reason=f"grant {grant.grant_id}")
    return None


def decide_key_policy(request: AccessRequest) -> Decision | None:
    """Allow whom the key policy allows itself; ask RBAC where it leaves the decision to the account.

    On a key of another account both must allow: the key's policy, and RBAC over there.
    """
    if request.key_account is None:
        return _ASK_RBAC
    abroad = request.key_account != request.account
    if abroad and request.operation not in CROSS_ACCOUNT_OPERATIONS:
        return Decision(allowed=False, reason="not an operation on keys of another account")
    if request.verdict is None:
        return None if abroad else _ASK_RBAC
    if request.verdict is Verdict.PRINCIPAL and not abroad:
        return _BY_POLICY
    return _ASK_RBAC if request.verdict in _ALLOWS else None


def _is_renewal(request: AccessRequest) -> bool:
    return (
        request.principal.kind is PrincipalKind.CONTROLLER
        and request.operation in RENEWAL_OPERATIONS
        and request.renewal
        and reserved_pairs(request.context) == _BINDING_PAIRS
        and request.context[PAIR_NAMESPACE] == request.account
    )


def _matches_binding(request: AccessRequest) -> bool:
    principal, context = request.principal, request.context
    return (
        context.get(PAIR_NAMESPACE) == principal.namespace
        and context.get(PAIR_SERVICE_ACCOUNT) == principal.service_account
    )


def _meets_constraints(grant: GrantFacts, request: AccessRequest) -> bool:
    if request.operation == "CreateGrant":
        return request.wish is not None and is_within(request.wish, grant)
    return request.operation not in CONTEXT_OPERATIONS or meets_constraints(grant, request.context)


_CHAIN: Final[tuple[Callable[[AccessRequest], Decision | None], ...]] = (
    deny_forged_binding,
    deny_foreign_binding,
    deny_by_key_policy,
    decide_controller,
    decide_account_root,
    decide_pod,
    decide_grants,
    decide_key_policy,
)
