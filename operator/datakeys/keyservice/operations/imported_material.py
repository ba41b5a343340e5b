"""What an import does to a key: which material comes back or is new, and the state that follows.

Zone: sealed material only; pure. Source: kms-semantics sections 2.2 and 4.6; AWS KMS API, ImportKeyMaterial,
parameter ImportType.
"""

from dataclasses import replace
from typing import Final

from datakeys.contract.errors import IncorrectKeyMaterialError, KeyStateError, ValidationError
from datakeys.contract.key_types import KeyState
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord

NEW: Final = "NEW_KEY_MATERIAL"
EXISTING: Final = "EXISTING_KEY_MATERIAL"


def decide_known(
    record: KeyRecord, import_type: str, material_id: str, fingerprint: str
) -> MaterialRecord | None:
    """Return the material that comes back, or None if it is new to the key.

    Args:
        record: The key.
        import_type: As given, or empty: the first import is new, all others bring back.
        material_id: As given, or empty.
        fingerprint: Of the imported bytes.

    Raises:
        ValidationError: A material id is given for new material.
        IncorrectKeyMaterialError: New material is known, or existing material isn't.
        KeyStateError: Other material already waits for its rotation.
    """
    known = next((it for it in record.materials if it.fingerprint == fingerprint), None)
    if (import_type or (EXISTING if record.materials else NEW)) == NEW:
        if material_id:
            raise ValidationError("You cannot specify KeyMaterialId for new key material.")
        if known is not None:
            raise IncorrectKeyMaterialError("The key material is already associated with this KMS key.")
        if any(material.pending for material in record.materials):
            raise KeyStateError("The key already has key material in state PENDING_ROTATION.")
        return None
    if known is None or material_id not in ("", known.material_id):
        raise IncorrectKeyMaterialError(
            "The key material is not the one that was imported into this KMS key before."
        )
    return known


def put_material(record: KeyRecord, material: MaterialRecord) -> KeyRecord:
    """Return the key with imported material: in its old place, as the first one, or pending rotation."""
    if record.find_material(material.material_id) is not None:
        materials = tuple(
            material if it.material_id == material.material_id else it for it in record.materials
        )
        changed = replace(record, materials=materials)
    elif record.current_material_id is None:
        changed = replace(record, materials=(material,), current_material_id=material.material_id)
    else:
        changed = replace(record, materials=(*record.materials, replace(material, pending=True)))
    if changed.state is KeyState.PENDING_IMPORT and not changed.lacks_material():
        return replace(changed, state=KeyState.ENABLED)
    return changed
