"""CreateAlias, UpdateAlias, DeleteAlias, ListAliases: names for keys, unique per account.

Zone: no key material. Source: AWS KMS API; kms-semantics section 4.1.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from datakeys.contract.arn import (
    MAX_ALIAS_LENGTH,
    MAX_KEY_ID_LENGTH,
    RESERVED_ALIAS_PREFIX,
)
from datakeys.contract.errors import (
    AlreadyExistsError,
    KeyStateError,
    LimitExceededError,
    NotAuthorizedError,
    NotFoundError,
    ValidationError,
)
from datakeys.keyservice.operations.access import authorize, read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.key_lookup import find_key, find_record
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import AliasRecord, KeyRecord

MAX_ALIASES_PER_KEY: Final = 50
_MODEL_PATTERN: Final = re.compile(r"^[a-zA-Z0-9:/_-]+$")


def create_alias(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object.

    Raises:
        ValidationError: A constraint is broken, or TargetKeyId is an alias.
        NotAuthorizedError: The name is reserved.
        NotFoundError: No such key.
        AccessDeniedError: Not allowed.
        KeyStateError: The key is pending deletion.
        LimitExceededError: The key has 50 aliases.
        AlreadyExistsError: The name is taken.
    """
    name, target = _read(call, with_target=True)
    record = resolve(service, call, "CreateAlias", target, alias_allowed=False)
    _require_own(call, record)
    _check_quota(service.store.list_aliases(call.account), record)
    now = service.clock()
    try:
        service.store.create_alias(AliasRecord(call.account, name, record.key_id, now, now))
    except AlreadyExistsError:
        arn = service.realm.alias_arn(call.account, name)
        raise AlreadyExistsError(f"An alias with the name {arn} already exists") from None
    return {}


def update_alias(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object. Old and new key need the same type and usage.

    Raises:
        ValidationError: A constraint is broken, or the keys don't match.
        NotFoundError: No such alias or key.
        AccessDeniedError: Not allowed.
        KeyStateError: The new key is pending deletion.
        LimitExceededError: The new key has 50 aliases.
    """
    name, target = _read(call, with_target=True)
    record = find_key(service, call, target, alias_allowed=False)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    authorize(call, "UpdateAlias", service, record)
    _require_own(call, record)
    alias = _find_alias(service, call, name)
    require_state(call, "UpdateAlias", record)
    old = find_record(service, call, alias.key_id)
    if old is not None and (old.key_spec, old.key_usage) != (record.key_spec, record.key_usage):
        raise ValidationError("The current and the new KMS key must be of the same type and key usage.")
    if alias.key_id != record.key_id:
        _check_quota(service.store.list_aliases(call.account), record)
    now = service.clock()
    service.store.update_alias(
        call.account, name, lambda current: replace(current, key_id=record.key_id, updated_at=now)
    )
    return {}


def delete_alias(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; the key stays.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such alias.
        AccessDeniedError: Not allowed.
    """
    name, _ = _read(call, with_target=False)
    authorize(call, "DeleteAlias", service, None)
    alias = service.store.find_alias(call.account, name)
    if alias is not None:
        call.audit.key_arn = service.key_arn(call.account, alias.key_id)
    try:
        service.store.delete_alias(call.account, name)
    except NotFoundError:
        raise _not_found(service, call, name) from None
    return {}


def list_aliases(service: Service, call: Call) -> dict[str, Any]:
    """Answer Aliases, sorted by name; with KeyId only those of that key.

    Raises:
        ValidationError: A constraint is broken.
        InvalidMarkerError: The marker isn't valid.
        NotFoundError: No such key.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = members.string("KeyId", minimum=1, maximum=MAX_KEY_ID_LENGTH)
    page = read_page(members)
    members.finish()
    record = find_key(service, call, key_id, alias_allowed=False) if members.has("KeyId") else None
    authorize(call, "ListAliases", service, record)
    aliases: Sequence[AliasRecord] = service.store.list_aliases(call.account)
    if record is not None:
        aliases = [alias for alias in aliases if alias.key_id == record.key_id]

    def entry(alias: AliasRecord) -> dict[str, Any]:
        return {
            "AliasName": alias.name,
            "AliasArn": service.realm.alias_arn(alias.account, alias.name),
            "TargetKeyId": alias.key_id,
            "CreationDate": alias.created_at,
            "LastUpdatedDate": alias.updated_at,
        }

    return build_page(aliases, page, member="Aliases", sort_key=lambda alias: alias.name, entry=entry)


def _read(call: Call, *, with_target: bool) -> tuple[str, str]:
    members = Members(call.body)
    name = members.required_string("AliasName", maximum=MAX_ALIAS_LENGTH, pattern=_MODEL_PATTERN)
    target = read_key_id(members, "TargetKeyId") if with_target else ""
    members.finish()
    if name.startswith(RESERVED_ALIAS_PREFIX):
        raise NotAuthorizedError
    if not name.startswith("alias/") or name == "alias/":
        raise ValidationError("Invalid identifier")
    if ":" in name:
        raise ValidationError(f"{name} contains invalid characters for an alias")
    if target.startswith("alias/") or ":alias/" in target:
        raise ValidationError("Aliases must refer to keys. Not aliases")
    return name, target


def _find_alias(service: Service, call: Call, name: str) -> AliasRecord:
    alias = service.store.find_alias(call.account, name)
    if alias is None:
        raise _not_found(service, call, name)
    return alias


def _not_found(service: Service, call: Call, name: str) -> NotFoundError:
    return NotFoundError(f"Alias {service.realm.alias_arn(call.account, name)} is not found.")


def _check_quota(aliases: Sequence[AliasRecord], record: KeyRecord) -> None:
    if sum(alias.key_id == record.key_id for alias in aliases) >= MAX_ALIASES_PER_KEY:
        raise LimitExceededError("The KMS key has reached its quota of aliases.")


def _require_own(call: Call, record: KeyRecord) -> None:
    # The policy chain lets nobody here with a key of another account; this holds if a rule is added.
    if record.account != call.account:
        raise KeyStateError("An alias and its KMS key must be in the same account.")
