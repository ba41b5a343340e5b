"""ListKeyRotations: which materials a key has had, oldest first.

Zone: no key material. Source: AWS KMS API, ListKeyRotations, shape RotationsListEntry; kms-semantics section
4.5.
"""

from typing import Any, Final

from datakeys.contract.key_types import KeyOrigin
from datakeys.keyservice.operations.access import read_key_id, require_state, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.rotation import require_rotation
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord

NAME: Final = "ListKeyRotations"
ALL_KEY_MATERIAL: Final = "ALL_KEY_MATERIAL"
ROTATIONS_ONLY: Final = "ROTATIONS_ONLY"


def list_key_rotations(service: Service, call: Call) -> dict[str, Any]:
    """Answer Rotations, Truncated and NextMarker.

    ``ALL_KEY_MATERIAL`` adds the first material and the one that waits for its rotation.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
        UnsupportedOperationError: This kind of key doesn't rotate.
        InvalidMarkerError: The marker isn't one of this service.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    included = members.enum("IncludeKeyMaterial", (ALL_KEY_MATERIAL, ROTATIONS_ONLY), ROTATIONS_ONLY)
    page = read_page(members)
    members.finish()
    record = resolve(service, call, NAME, key_id, alias_allowed=False, state_checked=False)
    require_rotation(call, record)
    require_state(call, NAME, record)
    shown = [
        (f"{place:08d}", material)
        for place, material in enumerate(record.materials)
        if included == ALL_KEY_MATERIAL or material.rotation_type
    ]
    return build_page(
        shown,
        page,
        member="Rotations",
        sort_key=lambda item: item[0],
        entry=lambda item: _build_entry(record, item[1]),
    )


def _build_entry(record: KeyRecord, material: MaterialRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "KeyId": record.key_id,
        "KeyMaterialId": material.material_id,
        "KeyMaterialState": _state(record, material),
    }
    if material.rotation_type:
        entry |= {"RotationDate": material.rotated_at, "RotationType": material.rotation_type}
    if record.origin is KeyOrigin.EXTERNAL:
        entry |= _build_import_facts(material)
    return entry


def _state(record: KeyRecord, material: MaterialRecord) -> str:
    if material.pending:
        return "PENDING_ROTATION"
    return "CURRENT" if material.material_id == record.current_material_id else "NON_CURRENT"


def _build_import_facts(material: MaterialRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {"ImportState": "IMPORTED" if material.sealed else "PENDING_IMPORT"}
    if material.description:
        facts["KeyMaterialDescription"] = material.description
    if material.valid_to is None:
        return {**facts, "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    return {**facts, "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": material.valid_to}
