"""Find the key that a KeyId names, and tell nothing of those of another account. Zone: no key material.

Source: kms-semantics section 1.6.
"""

from functools import lru_cache

from datakeys.contract.arn import Arn, ResourceKind, parse_key_id
from datakeys.contract.errors import AccessDeniedError, NotFoundError
from datakeys.contract.key_types import KeyOrigin
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.operations.call import Call, Service, WouldBlockError
from datakeys.keyservice.operations.grant_tokens import check_grant_tokens, names_key
from datakeys.keyservice.store.expiry import drop_expired
from datakeys.keyservice.store.records import KeyRecord


def find_key(
    service: Service,
    call: Call,
    key_id: str,
    *,
    alias_allowed: bool = True,
    grant_tokens: list[str] | None = None,
) -> KeyRecord:
    """Return the key that any of the four forms of a KeyId names.

    Grant tokens are checked before the answer that a key of another account doesn't exist, since for a key
    that exists they are checked before the answer that it is forbidden.

    Raises:
        InvalidGrantTokenError: The key is unknown, and a token is malformed or unknown too.
        NotFoundError: No such key or alias in the caller's account.
        AccessDeniedError: No such key in another account: whether it exists isn't told.
        IntegrityError: The key's record fails authentication.
    """
    arn, call.audit.key_arn = _parse(key_id, service.realm, call.account)
    if arn.kind is ResourceKind.ALIAS:
        if not alias_allowed:
            raise NotFoundError(f"Invalid keyId {key_id}")
        return _find_by_alias(service, call, arn, grant_tokens)
    record = find_record(service, call, arn.name, grant_tokens=grant_tokens)
    if record is None or record.account != arn.account:
        if _hides_existence(service, call, arn):
            raise deny_unknown(service, call, grant_tokens, "no such key in another account")
        raise NotFoundError(f"Key '{arn}' does not exist")
    return record


def find_record(
    service: Service, call: Call, key_id: str, *, grant_tokens: list[str] | None = None
) -> KeyRecord | None:
    """Return a live key by its id, as it is now: what is due for destruction or has expired is gone.

    A genuine token for a key that memory doesn't have means that another replica made it a moment ago.

    Raises:
        IntegrityError: The key's record fails authentication.
        WouldBlockError: The call may not block, but must look for the key in the store.
    """
    record = service.store.find_key(key_id)
    if record is None and grant_tokens and names_key(service.root_key, grant_tokens, key_id):
        if not call.may_block:
            raise WouldBlockError
        record = service.store.refresh_key(key_id)
    if record is None and call.principal.kind is PrincipalKind.CONTROLLER:
        call.missing_key_id = key_id
    if record is not None and record.deletion_at is not None and record.is_due(service.clock()):
        return None
    if record is not None and record.origin is KeyOrigin.EXTERNAL:
        return drop_expired(record, service.clock())
    return record


@lru_cache(maxsize=8192)
def _parse(key_id: str, realm: Realm, account: str) -> tuple[Arn, str]:
    arn = parse_key_id(key_id, region=realm.region, account=account, partition=realm.partition)
    return arn, str(arn)


def _find_by_alias(
    service: Service, call: Call, arn: Arn, grant_tokens: list[str] | None = None
) -> KeyRecord:
    alias = service.store.find_alias(arn.account, arn.name)
    record = None if alias is None else find_record(service, call, alias.key_id)
    if record is not None:
        call.aliases[record.key_id] = arn.name
        return record
    if _hides_existence(service, call, arn):
        raise deny_unknown(service, call, grant_tokens, "no such alias in another account")
    raise NotFoundError(f"Alias {arn} is not found.")


def _hides_existence(service: Service, call: Call, arn: Arn) -> bool:
    """Return whether a caller may not learn if something is there; the local mode has one account only."""
    return arn.account != call.account and service.realm.is_cluster


def deny_unknown(
    service: Service, call: Call, grant_tokens: list[str] | None, reason: str
) -> AccessDeniedError:
    """Return the refusal for a key that doesn't exist, the same as for one that is forbidden.

    Raises:
        InvalidGrantTokenError: A token is malformed or unknown.
    """
    if grant_tokens:
        check_grant_tokens(service, call, grant_tokens)
    call.audit.reason = reason
    return AccessDeniedError(ACCESS_DENIED_MESSAGE)
