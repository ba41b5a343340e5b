"""GetParametersForImport, ImportKeyMaterial and DeleteImportedKeyMaterial: material from outside.

Zone: key material as opaque handles, sealed before it leaves this file. Only symmetric encryption keys have
more than one material; asymmetric and HMAC keys keep their first one for ever. Source: AWS KMS API;
kms-semantics section 4.6.
"""

import base64
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from datakeys.contract.errors import (
    NotFoundError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.contract.key_types import KeyOrigin, KeySpec
from datakeys.keyservice.material.identifiers import new_material_id
from datakeys.keyservice.material.import_wrapping import (
    IMPORTABLE,
    ImportedKey,
    WrappingAlgorithm,
    WrappingKey,
    WrappingKeySpec,
)
from datakeys.keyservice.operations.access import read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.import_tokens import (
    MAX_TOKEN_BYTES,
    VALID_SECONDS,
    ImportParameters,
    build_import_token,
    open_import_token,
)
from datakeys.keyservice.operations.imported_material import EXISTING, NEW, decide_known, put_material
from datakeys.keyservice.operations.keyring import build_binding
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.expiry import drop_expired, drop_material
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord

MAX_WRAPPED_BYTES: Final = 6144
MAX_VALID_SECONDS: Final = 365 * 86_400
MAX_DESCRIPTION: Final = 256
MATERIAL_ID_LENGTH: Final = 64
EXPIRES: Final = "KEY_MATERIAL_EXPIRES"
DOES_NOT_EXPIRE: Final = "KEY_MATERIAL_DOES_NOT_EXPIRE"

#: Source: AWS KMS API, shapes WrappingKeySpec and AlgorithmSpec.
_KEY_SPECS: Final = (*WrappingKeySpec, "SM2")
_ALGORITHMS: Final = ("RSAES_PKCS1_V1_5", *WrappingAlgorithm, "SM2PKE")
_MATERIAL_ID: Final = re.compile(r"^[a-f0-9]+$")
_DESCRIPTION: Final = re.compile(r"^[a-zA-Z0-9:/_\s.-]+$", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Import:
    """The members of ImportKeyMaterial; ``description`` is None if it isn't given."""

    key_id: str
    token: bytes
    wrapped: bytes
    valid_to: float | None
    import_type: str
    material_id: str
    description: str | None


def get_parameters_for_import(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId (the key ARN), PublicKey, ImportToken and ParametersValidTo, 24 hours from now.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: The key takes no import, or such wrapping isn't offered.
        KeyStateError: The key's state forbids it.
    """
    operation = "GetParametersForImport"
    members = Members(call.body)
    key_id = read_key_id(members)
    algorithm = _read_enum(members, "WrappingAlgorithm", _ALGORITHMS)
    spec = _read_enum(members, "WrappingKeySpec", _KEY_SPECS)
    members.finish()
    record = _resolve(service, call, operation, key_id)
    require_state(call, operation, record)
    if algorithm not in tuple(WrappingAlgorithm) or spec not in tuple(WrappingKeySpec):
        raise UnsupportedOperationError(f"{algorithm} with a wrapping key {spec} is not supported.")
    private, public = WrappingKey.generate(WrappingKeySpec(spec))
    valid_to = service.clock() + VALID_SECONDS
    parameters = ImportParameters(WrappingAlgorithm(algorithm), private)
    token = build_import_token(service.root_key, record.key_id, parameters, valid_to, service.random)
    return {
        "KeyId": call.audit.key_arn,
        "ImportToken": base64.b64encode(token).decode(),
        "PublicKey": base64.b64encode(public).decode(),
        "ParametersValidTo": valid_to,
    }


def import_key_material(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId (the key ARN) and KeyMaterialId.

    The first material makes the key Enabled. Later the same bytes may come again, with another expiry; other
    bytes wait as PENDING_ROTATION for a rotation on demand.

    Raises:
        ValidationError: A constraint is broken, or members don't fit each other.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: The key takes no import.
        KeyStateError: The key's state forbids it, or other material already waits for its rotation.
        InvalidImportTokenError: The token isn't for this key.
        ExpiredImportTokenError: The token's time is over.
        InvalidCiphertextError: The material isn't wrapped as the token says.
        IncorrectKeyMaterialError: Not the material that is expected.
    """
    operation = "ImportKeyMaterial"
    now = service.clock()
    request = _parse_import(call, now)
    record = _resolve(service, call, operation, request.key_id)
    require_state(call, operation, record)
    _check_members(record, request)
    parameters = open_import_token(service.root_key, record.key_id, request.token, now)
    key = parameters.wrapping_key.unwrap(parameters.algorithm, request.wrapped, record.key_spec)
    fingerprint = service.root_key.fingerprint_import(record.key_id, key)
    fresh_id = new_material_id(service.random)

    def change(current: KeyRecord) -> KeyRecord:
        current = drop_expired(current, now)
        require_state(call, operation, current)
        known = decide_known(current, request.import_type, request.material_id, fingerprint)
        target = known or MaterialRecord(fresh_id, b"", now, imported=True, fingerprint=fingerprint)
        sealed = _seal(service, current, target.material_id, key)
        description = target.description if request.description is None else request.description
        return put_material(
            current, replace(target, sealed=sealed, valid_to=request.valid_to, description=description)
        )

    changed = service.store.update_key(record.key_id, change)
    answer = {"KeyId": call.audit.key_arn}
    if record.key_spec is KeySpec.SYMMETRIC_DEFAULT:
        answer["KeyMaterialId"] = next(
            it.material_id for it in changed.materials if it.fingerprint == fingerprint
        )
    return answer


def delete_imported_key_material(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyId (the key ARN), and KeyMaterialId if there was any; it may be repeated.

    The key is PendingImport then, unless it is pending deletion or the material only waited for a rotation.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key or material; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: The key takes no import.
        KeyStateError: The key's state forbids it.
    """
    operation = "DeleteImportedKeyMaterial"
    members = Members(call.body)
    key_id = read_key_id(members)
    material_id = _read_material_id(members)
    members.finish()
    record = _resolve(service, call, operation, key_id)
    deleted_id: str | None = None

    def change(current: KeyRecord) -> KeyRecord:
        nonlocal deleted_id
        current = drop_expired(current, service.clock())
        require_state(call, operation, current)
        material = current.find_material(material_id or current.current_material_id)
        if material is None and material_id:
            raise NotFoundError(f"The key has no key material {material_id}.")
        deleted_id = None if material is None else material.material_id
        return current if material is None or not material.sealed else drop_material(current, material)

    service.store.update_key(record.key_id, change)
    answer = {"KeyId": call.audit.key_arn}
    if deleted_id is None or record.key_spec is not KeySpec.SYMMETRIC_DEFAULT:
        return answer
    return {**answer, "KeyMaterialId": deleted_id}


def _parse_import(call: Call, now: float) -> _Import:
    members = Members(call.body)
    key_id = read_key_id(members)
    token = members.blob("ImportToken", maximum=MAX_TOKEN_BYTES)
    wrapped = members.blob("EncryptedKeyMaterial", maximum=MAX_WRAPPED_BYTES)
    valid_to = members.timestamp("ValidTo")
    model = members.enum("ExpirationModel", (EXPIRES, DOES_NOT_EXPIRE), EXPIRES)
    import_type = members.enum("ImportType", (NEW, EXISTING))
    description = members.string("KeyMaterialDescription", maximum=MAX_DESCRIPTION, pattern=_DESCRIPTION)
    material_id = _read_material_id(members)
    members.finish()
    _check_validity(model, valid_to, now)
    if material_id and import_type == NEW:
        raise ValidationError("You cannot specify KeyMaterialId for new key material.")
    given = members.has("KeyMaterialDescription")
    return _Import(key_id, token, wrapped, valid_to, import_type, material_id, description if given else None)


def _check_members(record: KeyRecord, request: _Import) -> None:
    given = request.import_type or request.material_id or request.description is not None
    if given and record.key_spec is not KeySpec.SYMMETRIC_DEFAULT:
        raise ValidationError(
            "ImportType, KeyMaterialId and KeyMaterialDescription are for symmetric encryption keys only."
        )


def _check_validity(model: str, valid_to: float | None, now: float) -> None:
    if model == DOES_NOT_EXPIRE:
        if valid_to is not None:
            raise ValidationError(f"ValidTo must not be given when ExpirationModel is {DOES_NOT_EXPIRE}.")
        return
    if valid_to is None:
        raise ValidationError(f"ValidTo must be given when ExpirationModel is {EXPIRES}.")
    if not now < valid_to <= now + MAX_VALID_SECONDS:
        raise ValidationError("ValidTo must be in the future and at most 365 days away.")


def _read_material_id(members: Members) -> str:
    return members.string(
        "KeyMaterialId", minimum=MATERIAL_ID_LENGTH, maximum=MATERIAL_ID_LENGTH, pattern=_MATERIAL_ID
    )


def _read_enum(members: Members, name: str, values: tuple[str, ...]) -> str:
    if not members.has(name):
        members.fail_null(name)
    return members.enum(name, values)


def _resolve(service: Service, call: Call, operation: str, key_id: str) -> KeyRecord:
    """Find the key and check access and kind; its state is left to the caller."""
    record = resolve(service, call, operation, key_id, alias_allowed=False, state_checked=False)
    if record.origin is not KeyOrigin.EXTERNAL:
        raise UnsupportedOperationError(
            f"{call.audit.key_arn} origin is {record.origin} which is not valid for this operation."
        )
    if record.key_spec not in IMPORTABLE:
        raise UnsupportedOperationError(
            f"{call.audit.key_arn} key spec is {record.key_spec} which takes no imports."
        )
    return record


def _seal(service: Service, record: KeyRecord, material_id: str, key: ImportedKey) -> bytes:
    binding = build_binding(record, material_id)
    return service.root_key.seal(key, binding, service.random).to_bytes()
