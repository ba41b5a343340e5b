"""CreateKey: a new KMS key, or the one that was made for the same object before.

Zone: new key material, sealed before it leaves this file. Source: AWS KMS API, CreateKey; kms-semantics
sections 2.2 and 4.7; idempotency by object name: docs/architecture.md, "Wire protocol".
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from datakeys.contract.errors import (
    AlreadyExistsError,
    DependencyTimeoutError,
    LimitExceededError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.contract.key_types import ALLOWED_USAGES, KeyOrigin, KeySpec, KeyState, KeyUsage
from datakeys.keyservice.material.backing_key import BackingKey
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.identifiers import new_key_id, new_material_id
from datakeys.keyservice.material.mac_key import MAC_KEY_BYTES, MacKey
from datakeys.keyservice.material.private_key import PrivateKey
from datakeys.keyservice.operations.access import authorize
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.key_metadata import build_key_metadata
from datakeys.keyservice.operations.key_policies import check_policy, read_policy
from datakeys.keyservice.operations.keyring import build_binding
from datakeys.keyservice.operations.tags import check_tags, read_tags
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord

NAME: Final = "CreateKey"
MAX_KEYS_PER_ACCOUNT: Final = 100_000
MAX_DESCRIPTION: Final = 8192

_STORE_ORIGINS: Final = frozenset({KeyOrigin.AWS_CLOUDHSM, KeyOrigin.EXTERNAL_KEY_STORE})

#: Source: AWS KMS API, shape XksKeyIdType.
_XKS_KEY_ID: Final = re.compile(r"^[a-zA-Z0-9-_.]+$")


@dataclass(frozen=True, slots=True)
class _Request:
    key_spec: KeySpec
    key_usage: KeyUsage
    origin: KeyOrigin
    description: str
    custom_key_store_id: str
    tags: tuple[tuple[str, str], ...]
    policy: str
    bypasses_lockout_check: bool


def create_key(service: Service, call: Call) -> dict[str, Any]:
    """Answer the KeyMetadata of the key.

    Raises:
        SerializationError: A member has the wrong JSON type.
        ValidationError: Constraints are broken, or spec and usage don't fit.
        AccessDeniedError: Not the controller.
        MalformedPolicyDocumentError: Policy isn't a key policy, or it locks the caller out.
        UnsupportedOperationError: Something this service doesn't offer.
        LimitExceededError: The account has 100,000 keys, or Policy is longer than 32,768 bytes.
        AlreadyExistsError: The object has a key of another spec, usage or origin.
        DependencyTimeoutError: The store can't be reached, or the object's old key is being destroyed.
    """
    request = _parse(call)
    authorize(call, NAME, service, None)
    existing = _find_existing(service, call)
    if existing is not None:
        # Made before: no material for nothing, which for RSA takes up to seconds.
        record = _adopt(service, existing, request)
        call.audit.key_arn = service.key_arn(record.account, record.key_id)
        return {"KeyMetadata": build_key_metadata(record, call.audit.key_arn)}
    if service.store.count_keys(call.account) >= MAX_KEYS_PER_ACCOUNT:
        raise LimitExceededError("The account has reached its quota of KMS keys.")
    new = _build_record(service, call, request)
    if new.policy:
        check_policy(service, call, new, new.policy, bypass=request.bypasses_lockout_check)
    record = service.store.create_key(new)
    if record.key_id != new.key_id:
        record = _adopt(service, record, request)
    call.audit.key_arn = service.key_arn(record.account, record.key_id)
    return {"KeyMetadata": build_key_metadata(record, call.audit.key_arn)}


def _parse(call: Call) -> _Request:
    members = Members(call.body)
    description = members.string("Description", maximum=MAX_DESCRIPTION)
    specs = tuple(KeySpec)
    old_spec = members.enum("CustomerMasterKeySpec", specs)
    new_spec = members.enum("KeySpec", specs)
    usage = members.enum("KeyUsage", tuple(KeyUsage))
    origin = members.enum("Origin", tuple(KeyOrigin), KeyOrigin.AWS_KMS)
    store_id = members.string("CustomKeyStoreId", minimum=1, maximum=64)
    policy = read_policy(members)
    bypass = members.boolean("BypassPolicyLockoutSafetyCheck")
    multi_region = members.boolean("MultiRegion")
    external_id = members.string("XksKeyId", minimum=1, maximum=128, pattern=_XKS_KEY_ID)
    tags = read_tags(members)
    members.finish()
    check_tags(tags)
    if old_spec and new_spec:
        raise ValidationError(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "
            "CustomerMasterKeySpec is deprecated."
        )
    spec = KeySpec(new_spec or old_spec or KeySpec.SYMMETRIC_DEFAULT)
    if multi_region:
        raise UnsupportedOperationError("Multi-Region keys are not supported.")
    if external_id:
        raise UnsupportedOperationError("XksKeyId is not supported: no external key store is connected.")
    if origin in _STORE_ORIGINS and spec is not KeySpec.SYMMETRIC_DEFAULT:
        raise UnsupportedOperationError("A custom key store holds only symmetric encryption keys.")
    return _Request(
        spec, _decide_usage(spec, usage), KeyOrigin(origin), description, store_id, tags, policy, bypass
    )


def _decide_usage(spec: KeySpec, usage: str) -> KeyUsage:
    allowed = ALLOWED_USAGES[spec]
    if not usage:
        if spec is KeySpec.SYMMETRIC_DEFAULT:
            return KeyUsage.ENCRYPT_DECRYPT
        kind = "HMAC" if KeyUsage.GENERATE_VERIFY_MAC in allowed else "asymmetric"
        raise ValidationError(f"You must specify a KeyUsage value for an {kind} CMK.")
    if usage not in allowed and spec is KeySpec.SYMMETRIC_DEFAULT:
        raise ValidationError(
            f"The operation failed because the KeyUsage value of the CMK is {usage}. To perform this "
            "operation, the KeyUsage value must be ENCRYPT_DECRYPT."
        )
    if usage not in allowed:
        raise ValidationError(f"KeyUsage {usage} is not compatible with KeySpec {spec}")
    return KeyUsage(usage)


def _find_existing(service: Service, call: Call) -> KeyRecord | None:
    """Return the key of the same object, if memory has it and it isn't due for destruction."""
    if not call.object_name:
        return None
    record = service.store.find_key_by_object(call.account, call.object_name)
    return None if record is None or record.is_due(service.clock()) else record


def _build_record(service: Service, call: Call, request: _Request) -> KeyRecord:
    now = service.clock()
    record = KeyRecord(
        key_id=new_key_id(service.random),
        account=call.account,
        key_spec=request.key_spec,
        key_usage=request.key_usage,
        origin=request.origin,
        state=KeyState.PENDING_IMPORT if request.origin is KeyOrigin.EXTERNAL else KeyState.ENABLED,
        created_at=now,
        description=request.description,
        object_name=call.object_name,
        custom_key_store_id=request.custom_key_store_id,
        tags=request.tags,
        policy=request.policy,
    )
    if request.origin is not KeyOrigin.AWS_KMS:
        return record
    material_id = new_material_id(service.random)
    key = _generate(request.key_spec, service.random)
    sealed = service.root_key.seal(key, build_binding(record, material_id), service.random)
    material = MaterialRecord(material_id, sealed.to_bytes(), now)
    return replace(record, current_material_id=material_id, materials=(material,))


def _generate(key_spec: KeySpec, random: RandomSource) -> BackingKey | MacKey | PrivateKey:
    if key_spec is KeySpec.SYMMETRIC_DEFAULT:
        return BackingKey.generate(random)
    if key_spec in MAC_KEY_BYTES:
        return MacKey.generate(key_spec, random)
    return PrivateKey.generate(key_spec)


def _adopt(service: Service, record: KeyRecord, request: _Request) -> KeyRecord:
    """Return the object's existing key; if it is pending deletion, it is taken back and enabled."""
    if (record.key_spec, record.key_usage, record.origin) != (
        request.key_spec,
        request.key_usage,
        request.origin,
    ):
        raise AlreadyExistsError("The object already has a KMS key with another KeySpec, KeyUsage or Origin.")
    if record.state is not KeyState.PENDING_DELETION:
        return record
    now = service.clock()

    def revive(current: KeyRecord) -> KeyRecord:
        if current.is_due(now):
            raise DependencyTimeoutError("The object's former KMS key is being destroyed; try again.")
        if current.state is not KeyState.PENDING_DELETION:
            return current
        state = KeyState.PENDING_IMPORT if current.lacks_material() else KeyState.ENABLED
        return replace(current, state=state, deletion_at=None)

    return service.store.update_key(record.key_id, revive)
