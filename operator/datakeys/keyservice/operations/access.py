"""Find the key a call is about, then ask the policy chain. The same order for every operation.

Zone: no key material. Source: kms-semantics section 1.6: lookup, grant tokens, authorisation, state.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH
from datakeys.contract.errors import AccessDeniedError
from datakeys.keyservice.authz.conditions import ConditionFacts
from datakeys.keyservice.authz.grant_rules import GrantFacts, GrantWish
from datakeys.keyservice.authz.key_policy import PolicyQuestion, Verdict, evaluate_policy
from datakeys.keyservice.authz.policy import (
    ACCESS_DENIED_MESSAGE,
    AccessRequest,
    Decision,
    decide_access,
)
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.authz.rbac import RbacQuestion
from datakeys.keyservice.operations.call import EMPTY_CONTEXT, Call, Service, WouldBlockError
from datakeys.keyservice.operations.grant_tokens import check_grant_tokens
from datakeys.keyservice.operations.key_lookup import find_key
from datakeys.keyservice.operations.states import check_state
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import KeyRecord

MAX_GRANT_TOKENS: Final = 10
MAX_GRANT_TOKEN_LENGTH: Final = 8192


def read_key_id(members: Members, name: str = "KeyId") -> str:
    """Return the required KeyId of 1..2048 characters."""
    return members.required_string(name, minimum=1, maximum=MAX_KEY_ID_LENGTH)


def read_grant_tokens(members: Members) -> list[str]:
    """Return the grant tokens: 0..10 of 1..8192 characters."""
    if not members.has("GrantTokens"):
        return []
    return members.string_list(
        "GrantTokens", maximum_items=MAX_GRANT_TOKENS, maximum_length=MAX_GRANT_TOKEN_LENGTH
    )


def authorize(
    call: Call,
    operation: str,
    service: Service,
    record: KeyRecord | None,
    *,
    context: Mapping[str, str] = EMPTY_CONTEXT,
    grant_tokens: list[str] | None = None,
    wish: GrantWish | None = None,
) -> None:
    """Check grant tokens, then ask the policy chain, then RBAC if the chain leaves it to the account.

    Raises:
        InvalidGrantTokenError: A token is malformed or unknown.
        AccessDeniedError: Not allowed; one text for every reason.
        DependencyTimeoutError: Only RBAC can tell, and it can't be asked.
        WouldBlockError: The call may not block, but must ask the cluster.
    """
    if grant_tokens:
        check_grant_tokens(service, call, grant_tokens)
    decision = decide(call, operation, service, record, context=context, wish=wish)
    allowed = ask_rbac(service, call, operation, record) if decision.needs_rbac else decision.allowed
    call.audit.reason = decision.reason
    if not allowed:
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)


def decide(
    call: Call,
    operation: str,
    service: Service,
    record: KeyRecord | None,
    *,
    context: Mapping[str, str] = EMPTY_CONTEXT,
    wish: GrantWish | None = None,
) -> Decision:
    """Return what the policy chain says, RBAC not asked."""
    grants = () if record is None else service.store.list_grants(record.key_id)
    return decide_access(
        AccessRequest(
            principal=call.principal,
            operation=operation,
            account=call.account,
            key_account=None if record is None else record.account,
            context=context,
            grants=[to_grant_facts(grant) for grant in grants] if grants else (),
            verdict=None
            if record is None or not record.policy
            else ask_key_policy(service, call, operation, record, context=context, wish=wish),
            wish=wish,
            renewal=call.renewal,
        )
    )


def ask_key_policy(
    service: Service,
    call: Call,
    operation: str,
    record: KeyRecord,
    *,
    context: Mapping[str, str] = EMPTY_CONTEXT,
    wish: GrantWish | None = None,
) -> Verdict:
    """Return what a key's own policy says to a call. The controller asks as the root of its account."""

    def find_aliases() -> Sequence[str]:
        aliases = service.store.list_aliases(record.account)
        return [alias.name for alias in aliases if alias.key_id == record.key_id]

    facts = ConditionFacts(
        operation=operation,
        caller_account=call.account,
        key_spec=record.key_spec,
        key_usage=record.key_usage,
        key_origin=record.origin,
        context=wish.context if wish is not None else context,
        request_alias=call.aliases.get(record.key_id, ""),
        resource_aliases=find_aliases,
        wish=wish,
    )
    is_root = call.principal.kind in (PrincipalKind.CONTROLLER, PrincipalKind.ACCOUNT_ROOT)
    question = PolicyQuestion(
        name="" if is_root else call.principal.user_name,
        account=call.account,
        operation=operation,
        key_arn=service.key_arn(record.account, record.key_id),
        facts=facts,
    )
    return evaluate_policy(record.policy, service.realm, question)


def ask_rbac(service: Service, call: Call, operation: str, record: KeyRecord | None) -> bool:
    """Return what RBAC of the caller's account says.

    Raises:
        DependencyTimeoutError: It can't be asked.
        WouldBlockError: The call may not block, and no answer is remembered.
    """
    name = ""
    if record is not None:
        own = record.account == call.account
        name = record.object_name if own and record.object_name else record.key_id
    question = RbacQuestion(call.principal, call.account, operation.lower(), name)
    cached = service.authorizer.find_cached(question)
    if cached is not None:
        return cached
    if not call.may_block:
        raise WouldBlockError
    return service.authorizer.decide(question)


def require_state(call: Call, operation: str, record: KeyRecord) -> None:
    """Check the key's state against the table.

    Raises:
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids the operation.
    """
    check_state(operation, record.state, call.audit.key_arn)


def resolve(
    service: Service,
    call: Call,
    operation: str,
    key_id: str,
    *,
    alias_allowed: bool = True,
    grant_tokens: list[str] | None = None,
    context: Mapping[str, str] = EMPTY_CONTEXT,
    state_checked: bool = True,
    wish: GrantWish | None = None,
) -> KeyRecord:
    """Find the key, then check grant tokens, authorisation and state, in this order.

    Operations that change the key pass ``state_checked=False`` and check the state of the newest version
    themselves, as memory may be some milliseconds old.

    Raises:
        NotFoundError: No such key or alias.
        InvalidGrantTokenError: A token is malformed or unknown.
        AccessDeniedError: Not allowed.
        KeyDisabledError: The key is disabled.
        KeyStateError: Another state forbids the operation.
        IntegrityError: The key's record fails authentication.
    """
    record = find_key(service, call, key_id, alias_allowed=alias_allowed, grant_tokens=grant_tokens)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    authorize(call, operation, service, record, context=context, grant_tokens=grant_tokens, wish=wish)
    if state_checked:
        require_state(call, operation, record)
    return record


def to_grant_facts(grant: GrantRecord) -> GrantFacts:
    """Return what the policy chain needs of a grant."""
    return GrantFacts(
        grant.grant_id, grant.grantee, grant.operations, grant.context_equals, grant.context_subset
    )
