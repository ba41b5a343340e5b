"""RetireGrant and ListRetirableGrants: grants given back by those who are done with them.

Zone: no key material. Source: AWS KMS API; AWS KMS Developer Guide, "Retiring and revoking grants";
kms-semantics section 4.2. A grant may be retired by its retiring principal, by its grantee if RetireGrant is
among its operations, and by the account that issued it.
"""

from typing import Any, Final

from datakeys.contract.arn import MAX_KEY_ID_LENGTH
from datakeys.contract.errors import AccessDeniedError, NotFoundError, ValidationError
from datakeys.keyservice.authz.key_policy import Verdict
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.operations.access import MAX_GRANT_TOKEN_LENGTH, ask_key_policy, ask_rbac, authorize
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import stop_dry_run
from datakeys.keyservice.operations.grant_members import (
    check_principals,
    read_principal,
    refuse_service_principal,
)
from datakeys.keyservice.operations.grant_tokens import find_granted
from datakeys.keyservice.operations.grants import MAX_GRANT_ID, build_entry
from datakeys.keyservice.operations.key_lookup import find_key
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import KeyRecord

NAME: Final = "RetireGrant"
_NEITHER: Final = "Specify either a grant token, or both a grant ID and the key that it is on."


def retire_grant(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; works in every key state.

    Raises:
        ValidationError: A constraint is broken, or it isn't a token or key and id.
        InvalidGrantTokenError: The token is malformed, or its grant is gone.
        NotFoundError: No such grant on this key, or no such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        DryRunOperationError: DryRun, and the request would have succeeded.
    """
    members = Members(call.body)
    token = members.string("GrantToken", minimum=1, maximum=MAX_GRANT_TOKEN_LENGTH)
    key_id = members.string("KeyId", minimum=1, maximum=MAX_KEY_ID_LENGTH)
    grant_id = members.string("GrantId", minimum=1, maximum=MAX_GRANT_ID)
    dry_run = members.boolean("DryRun")
    members.finish()
    call.audit.dry_run = dry_run
    if not token and not (key_id and grant_id):
        raise ValidationError(_NEITHER)
    if token:
        grant = find_granted(service, call, token)
        record = find_key(service, call, _arn_of(service, grant), alias_allowed=False, grant_tokens=[token])
    else:
        record = find_key(service, call, key_id, alias_allowed=False)
        grant = _find_grant(service, call, record, grant_id)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    if not _may_retire(service, call, record, grant):
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
    stop_dry_run(dry_run=dry_run)
    service.store.delete_grant(record.key_id, grant.grant_id)
    return {}


def list_retirable_grants(service: Service, call: Call) -> dict[str, Any]:
    """Answer Grants that a principal may retire, on keys of any account, sorted by id.

    Raises:
        ValidationError: A constraint is broken.
        InvalidArnError: In the local mode: RetiringPrincipal isn't the ARN of a principal.
        InvalidMarkerError: The marker isn't valid.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    principal = read_principal(members, "RetiringPrincipal", required=True)
    refuse_service_principal(members, "RetiringServicePrincipal")
    page = read_page(members)
    members.finish()
    check_principals(service.realm, RetiringPrincipal=principal)
    authorize(call, "ListRetirableGrants", service, None)
    own = principal == call.principal.user_name or _belongs(principal, call.account)
    found = service.store.list_retirable_grants(principal) if own else ()
    entries = []
    for grant in sorted(found, key=lambda item: item.grant_id):
        record = service.store.find_key(grant.key_id)
        if record is not None and not record.is_due(service.clock()):
            entries.append((grant, service.key_arn(record.account, record.key_id)))
    return build_page(
        entries,
        page,
        member="Grants",
        sort_key=lambda item: item[0].grant_id,
        entry=lambda item: build_entry(*item),
    )


def _belongs(principal: str, account: str) -> bool:
    """Return whether a principal is one of an account: of its own account anybody allowed may ask."""
    return principal.startswith(f"system:serviceaccount:{account}:") or f"::{account}:" in principal


def _arn_of(service: Service, grant: GrantRecord) -> str:
    record = service.store.find_key(grant.key_id)
    if record is None:
        raise NotFoundError(f"Key '{grant.key_id}' does not exist")
    return service.key_arn(record.account, record.key_id)


def _find_grant(service: Service, call: Call, record: KeyRecord, grant_id: str) -> GrantRecord:
    grant = service.store.find_grant(record.key_id, grant_id)
    if grant is None:
        if record.account != call.account:
            call.audit.reason = "no such grant on a key of another account"
            raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
        raise NotFoundError(f"Grant ID {grant_id} not found")
    return grant


def _may_retire(service: Service, call: Call, record: KeyRecord, grant: GrantRecord) -> bool:
    principal = call.principal
    rules_account = principal.kind in (PrincipalKind.CONTROLLER, PrincipalKind.ACCOUNT_ROOT)
    is_issuer = call.account == grant.issuing_account
    if rules_account and is_issuer and record.account == call.account:
        call.audit.reason = "rules the account that issued the grant"
        return True
    denied = bool(record.policy) and ask_key_policy(service, call, NAME, record) is Verdict.DENY
    call.audit.reason = "explicit deny of the key policy" if denied else f"grant {grant.grant_id}"
    if denied or principal.kind is PrincipalKind.CONTROLLER:
        return False
    name = principal.user_name
    if name == grant.retiring_principal or (name == grant.grantee and NAME in grant.operations):
        return True
    call.audit.reason = "RBAC of the account that issued the grant" if is_issuer else "no rule allows it"
    return is_issuer and ask_rbac(service, call, NAME, record)
