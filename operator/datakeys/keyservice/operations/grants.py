"""CreateGrant, ListGrants, RevokeGrant: rights on one key for one ServiceAccount.

Zone: no key material. Source: AWS KMS API; kms-semantics section 4.2. The same name (or the same object in
the header) with the same parameters again gives the same grant and a new token; without either every call
makes one.
"""

import hashlib
import json
import re
from typing import Any, Final

from datakeys.contract.errors import LimitExceededError, NotFoundError, ValidationError
from datakeys.contract.key_types import KeySpec, KeyUsage
from datakeys.keyservice.authz.grant_rules import GrantWish
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import stop_dry_run
from datakeys.keyservice.operations.grant_members import (
    GRANT_OPERATIONS,
    check_principals,
    read_constraints,
    read_operations,
    read_principal,
    refuse_service_principal,
)
from datakeys.keyservice.operations.grant_tokens import build_grant_token
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import KeyRecord

MAX_GRANTS_PER_KEY: Final = 50_000
MAX_GRANT_NAME: Final = 256
MAX_GRANT_ID: Final = 128
_NAME: Final = re.compile(r"^[a-zA-Z0-9:/_-]+$")

_ALWAYS: Final = frozenset({"CreateGrant", "RetireGrant", "DescribeKey"})
_PUBLIC: Final = frozenset({"GetPublicKey"})
_CIPHER: Final = frozenset({"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"})
_DATA_KEYS: Final = frozenset(name for name in GRANT_OPERATIONS if name.startswith("GenerateDataKey"))


def create_grant(service: Service, call: Call) -> dict[str, Any]:
    """Answer GrantId and GrantToken.

    Raises:
        ValidationError: A constraint is broken, or the key can't do an operation.
        InvalidArnError: In the local mode: a principal isn't the ARN of one.
        NotFoundError: No such key; an alias isn't accepted.
        InvalidGrantTokenError: A grant token is malformed or unknown.
        AccessDeniedError: Not allowed.
        KeyDisabledError: The key is disabled.
        KeyStateError: The key's state forbids it.
        LimitExceededError: The key has 50,000 grants.
        DryRunOperationError: DryRun, and the request would have succeeded.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    refuse_service_principal(members, "GranteeServicePrincipal")
    refuse_service_principal(members, "RetiringServicePrincipal")
    grantee = read_principal(members, "GranteePrincipal", required=True)
    retiring = read_principal(members, "RetiringPrincipal")
    name = members.string("Name", minimum=1, maximum=MAX_GRANT_NAME, pattern=_NAME)
    operations = read_operations(members)
    equals, subset = read_constraints(members)
    tokens = read_grant_tokens(members)
    dry_run = members.boolean("DryRun")
    members.finish()
    call.audit.dry_run = dry_run
    check_principals(service.realm, GranteePrincipal=grantee, RetiringPrincipal=retiring)
    wish = GrantWish(grantee, operations, equals, subset)
    record = resolve(
        service, call, "CreateGrant", key_id, alias_allowed=False, grant_tokens=tokens, wish=wish
    )
    _check_fit(record, operations, constrained=equals is not None or subset is not None)
    if len(service.store.list_grants(record.key_id)) >= MAX_GRANTS_PER_KEY:
        raise LimitExceededError("The KMS key has reached its quota of grants.")
    stop_dry_run(dry_run=dry_run)
    grant = GrantRecord(
        grant_id="",
        key_id=record.key_id,
        issuing_account=call.account,
        grantee=grantee,
        operations=operations,
        created_at=service.clock(),
        name=name,
        retiring_principal=retiring,
        context_equals=equals,
        context_subset=subset,
    )
    stored = service.store.create_grant(_with_id(service, call, grant))
    token = build_grant_token(service.root_key, stored.key_id, stored.grant_id, service.random)
    return {"GrantId": stored.grant_id, "GrantToken": token}


def list_grants(service: Service, call: Call) -> dict[str, Any]:
    """Answer Grants of a key, sorted by id; filtered by GrantId and GranteePrincipal if given.

    Raises:
        ValidationError: A constraint is broken.
        InvalidMarkerError: The marker isn't valid.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    grant_id = members.string("GrantId", minimum=1, maximum=MAX_GRANT_ID)
    grantee = read_principal(members, "GranteePrincipal")
    refuse_service_principal(members, "GranteeServicePrincipal")
    page = read_page(members)
    members.finish()
    record = resolve(service, call, "ListGrants", key_id, alias_allowed=False)
    grants = sorted(service.store.list_grants(record.key_id), key=lambda grant: grant.grant_id)
    chosen = [
        grant for grant in grants if grant_id in ("", grant.grant_id) and grantee in ("", grant.grantee)
    ]
    key_arn = call.audit.key_arn
    return build_page(
        chosen,
        page,
        member="Grants",
        sort_key=lambda grant: grant.grant_id,
        entry=lambda grant: build_entry(grant, key_arn),
    )


def revoke_grant(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; works in every key state.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such grant on this key, or no such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        DryRunOperationError: DryRun, and the request would have succeeded.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    grant_id = members.required_string("GrantId", maximum=MAX_GRANT_ID)
    dry_run = members.boolean("DryRun")
    members.finish()
    call.audit.dry_run = dry_run
    record = resolve(service, call, "RevokeGrant", key_id, alias_allowed=False)
    if dry_run:
        if service.store.find_grant(record.key_id, grant_id) is None:
            raise NotFoundError(f"Grant ID {grant_id} not found")
        stop_dry_run(dry_run=True)
    service.store.delete_grant(record.key_id, grant_id)
    return {}


def _check_fit(record: KeyRecord, operations: frozenset[str], *, constrained: bool) -> None:
    symmetric = record.key_spec is KeySpec.SYMMETRIC_DEFAULT
    unfit = operations - _ALWAYS - _fitting_operations(record)
    if unfit:
        raise ValidationError(f"Grant operations {sorted(unfit)} don't fit the KMS key's type and usage.")
    if constrained and not symmetric:
        raise ValidationError("Encryption context constraints need a symmetric encryption KMS key.")


def _fitting_operations(record: KeyRecord) -> frozenset[str]:
    if record.key_spec is KeySpec.SYMMETRIC_DEFAULT:
        return _CIPHER | _DATA_KEYS
    match record.key_usage:
        case KeyUsage.GENERATE_VERIFY_MAC:
            return frozenset({"GenerateMac", "VerifyMac"})
        case KeyUsage.SIGN_VERIFY:
            return _PUBLIC | {"Sign", "Verify"}
        case KeyUsage.KEY_AGREEMENT:
            return _PUBLIC | {"DeriveSharedSecret"}
        case KeyUsage.ENCAPSULATE_DECAPSULATE:
            return _PUBLIC | {"Encapsulate", "Decapsulate"}
        case KeyUsage.ENCRYPT_DECRYPT:
            return _PUBLIC | _CIPHER


def _with_id(service: Service, call: Call, grant: GrantRecord) -> GrantRecord:
    content = grant.to_json()
    if grant.name or call.object_name:
        del content["createdAt"]
        content["objectName"] = call.object_name
        grant_id = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    else:
        grant_id = service.random(32).hex()
    return GrantRecord.from_json({**grant.to_json(), "grantId": grant_id})


def build_entry(grant: GrantRecord, key_arn: str) -> dict[str, Any]:
    """Return a grant as lists show it; the token isn't among it."""
    entry: dict[str, Any] = {
        "KeyId": key_arn,
        "GrantId": grant.grant_id,
        "CreationDate": grant.created_at,
        "GranteePrincipal": grant.grantee,
        "IssuingAccount": grant.issuing_account,
        "Operations": sorted(grant.operations),
    }
    if grant.name:
        entry["Name"] = grant.name
    if grant.retiring_principal:
        entry["RetiringPrincipal"] = grant.retiring_principal
    if grant.context_equals is not None:
        entry["Constraints"] = {"EncryptionContextEquals": dict(grant.context_equals)}
    elif grant.context_subset is not None:
        entry["Constraints"] = {"EncryptionContextSubset": dict(grant.context_subset)}
    return entry
