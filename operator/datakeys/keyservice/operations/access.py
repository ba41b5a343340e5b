"""Find the key a call is about, then ask the policy chain. The same order for every operation.

Zone: no key material. Source: kms-semantics section 1.6: lookup, grant tokens, authorisation, state.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH, Arn, ResourceKind, parse_key_id
from datakeys.contract.errors import AccessDeniedError, NotFoundError
from datakeys.contract.key_types import KeyOrigin
from datakeys.keyservice.authz.policy import (
    ACCESS_DENIED_MESSAGE,
    AccessRequest,
    GrantFacts,
    decide_access,
)
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.operations.call import EMPTY_CONTEXT, Call, Service
from datakeys.keyservice.operations.grant_tokens import check_grant_tokens
from datakeys.keyservice.operations.states import check_state
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.expiry import drop_expired
from datakeys.keyservice.store.records import GrantRecord, KeyRecord

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


def find_key(service: Service, call: Call, key_id: str, *, alias_allowed: bool = True) -> KeyRecord:
    """Return the key that any of the four forms of a KeyId names.

    Raises:
        NotFoundError: No such key or alias in the caller's account.
        AccessDeniedError: No such key in another account: whether it exists isn't told.
        IntegrityError: The key's record fails authentication.
    """
    arn, call.audit.key_arn = _parse(key_id, service.realm, call.account)
    if arn.kind is ResourceKind.ALIAS:
        if not alias_allowed:
            raise NotFoundError(f"Invalid keyId {key_id}")
        return _find_by_alias(service, call, arn)
    record = find_record(service, call, arn.name)
    if record is None or record.account != arn.account:
        if _hides_existence(service, call, arn):
            raise _denied(call, "no such key in another account")
        raise NotFoundError(f"Key '{arn}' does not exist")
    return record


def find_record(service: Service, call: Call, key_id: str) -> KeyRecord | None:
    """Return a live key by its id, as it is now: what is due for destruction or has expired is gone.

    Raises:
        IntegrityError: The key's record fails authentication.
    """
    record = service.store.find_key(key_id)
    if record is None and call.principal.kind is PrincipalKind.CONTROLLER:
        call.missing_key_id = key_id
    if record is not None and record.deletion_at is not None and record.is_due(service.clock()):
        return None
    if record is not None and record.origin is KeyOrigin.EXTERNAL:
        return drop_expired(record, service.clock())
    return record


def authorize(
    call: Call,
    operation: str,
    service: Service,
    record: KeyRecord | None,
    *,
    context: Mapping[str, str] = EMPTY_CONTEXT,
    grant_tokens: list[str] | None = None,
) -> None:
    """Check grant tokens, then ask the policy chain.

    Raises:
        InvalidGrantTokenError: A token is malformed or unknown.
        AccessDeniedError: Not allowed; one text for every reason.
    """
    if grant_tokens:
        check_grant_tokens(service.root_key, service.store, grant_tokens)
    grants = () if record is None else service.store.list_grants(record.key_id)
    decision = decide_access(
        AccessRequest(
            principal=call.principal,
            operation=operation,
            account=call.account,
            key_account=None if record is None else record.account,
            context=context,
            grants=[to_grant_facts(grant) for grant in grants] if grants else (),
        )
    )
    call.audit.reason = decision.reason
    if not decision.allowed:
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)


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
    record = find_key(service, call, key_id, alias_allowed=alias_allowed)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    authorize(call, operation, service, record, context=context, grant_tokens=grant_tokens)
    if state_checked:
        require_state(call, operation, record)
    return record


def to_grant_facts(grant: GrantRecord) -> GrantFacts:
    """Return what the policy chain needs of a grant."""
    return GrantFacts(
        grant.grant_id, grant.grantee, grant.operations, grant.context_equals, grant.context_subset
    )


@lru_cache(maxsize=8192)
def _parse(key_id: str, realm: Realm, account: str) -> tuple[Arn, str]:
    arn = parse_key_id(key_id, region=realm.region, account=account, partition=realm.partition)
    return arn, str(arn)


def _find_by_alias(service: Service, call: Call, arn: Arn) -> KeyRecord:
    alias = service.store.find_alias(arn.account, arn.name)
    record = None if alias is None else find_record(service, call, alias.key_id)
    if record is not None:
        return record
    if _hides_existence(service, call, arn):
        raise _denied(call, "no such alias in another account")
    raise NotFoundError(f"Alias {arn} is not found.")


def _hides_existence(service: Service, call: Call, arn: Arn) -> bool:
    """Return whether a caller may not learn if something is there; the local mode has one account only."""
    return arn.account != call.account and service.realm.is_cluster


def _denied(call: Call, reason: str) -> AccessDeniedError:
    call.audit.reason = reason
    return AccessDeniedError(ACCESS_DENIED_MESSAGE)
