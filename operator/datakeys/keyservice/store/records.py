"""What the key service remembers: keys with sealed material, aliases. Pure, to and from JSON.

Zone: sealed material only. No I/O, no clock: times are arguments, in seconds since the epoch.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from datakeys.contract.key_types import KeyOrigin, KeySpec, KeyState, KeyUsage
from datakeys.keyservice.store.format_version import (
    ALIAS_MEMBERS,
    KEY_MEMBERS,
    MATERIAL_MEMBERS,
    MEMBER_FORMAT_VERSION,
    RECORD_FORMAT_V1,
    add_unknown,
    check_format_version,
    keep_unknown,
)
from datakeys.keyservice.store.grant_record import GrantRecord


@dataclass(frozen=True, slots=True)
class MaterialRecord:
    """One version of a key's material.

    Attributes:
        material_id: 64 lower-case hex characters.
        sealed: See `SealedBackingKey`; empty if the imported material was deleted or has expired.
        created_at: Seconds since the epoch.
        rotated_at: When a rotation made it the current one; None for a key's first material.
        rotation_type: ``AUTOMATIC`` or ``ON_DEMAND``; empty for a key's first material.
        pending: Imported, but not current before the next rotation.
        imported: Whether it came from outside.
        valid_to: When imported material expires; None if it doesn't.
        description: The importer's words.
        fingerprint: Keyed fingerprint of imported material in hex: the same bytes must come back.
        unknown: Members of a later version, as JSON.
    """

    material_id: str
    sealed: bytes = field(repr=False)
    created_at: float
    rotated_at: float | None = None
    rotation_type: str = ""
    pending: bool = False
    imported: bool = False
    valid_to: float | None = None
    description: str = ""
    fingerprint: str = ""
    unknown: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        known = {
            "materialId": self.material_id,
            "sealed": base64.b64encode(self.sealed).decode(),
            "createdAt": self.created_at,
            "rotatedAt": self.rotated_at,
            "rotationType": self.rotation_type,
            "pending": self.pending,
            "imported": self.imported,
            "validTo": self.valid_to,
            "description": self.description,
            "fingerprint": self.fingerprint,
        }
        return add_unknown(known, self.unknown)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Parse the JSON form.

        Raises:
            KeyError, TypeError, ValueError: It isn't one.
        """
        try:
            sealed = base64.b64decode(data["sealed"], validate=True)
        except binascii.Error:
            raise ValueError("sealed material isn't base64") from None
        return cls(
            material_id=str(data["materialId"]),
            sealed=sealed,
            created_at=float(data["createdAt"]),
            rotated_at=_optional_float(data.get("rotatedAt")),
            rotation_type=str(data.get("rotationType", "")),
            pending=bool(data.get("pending", False)),
            imported=bool(data.get("imported", False)),
            valid_to=_optional_float(data.get("validTo")),
            description=str(data.get("description", "")),
            fingerprint=str(data.get("fingerprint", "")),
            unknown=keep_unknown(data, MATERIAL_MEMBERS),
        )


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One KMS key.

    Attributes:
        account: The namespace.
        object_name: The KmsKey it was made for, or empty.
        policy: The key policy's text; empty for the default policy.
        rotation_period_days: Days between automatic rotations; None if they are off.
        next_rotation_at: When the next automatic rotation is due; None if they are off.
        unknown: Members of a later version, as JSON.
    """

    key_id: str
    account: str
    key_spec: KeySpec
    key_usage: KeyUsage
    origin: KeyOrigin
    state: KeyState
    created_at: float
    description: str = ""
    object_name: str = ""
    deletion_at: float | None = None
    current_material_id: str | None = None
    materials: tuple[MaterialRecord, ...] = ()
    custom_key_store_id: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    policy: str = ""
    rotation_period_days: int | None = None
    next_rotation_at: float | None = None
    unknown: str = ""

    def find_material(self, material_id: str | None) -> MaterialRecord | None:
        """Return a version of the material, or None."""
        for material in self.materials:
            if material.material_id == material_id:
                return material
        return None

    def lacks_material(self) -> bool:
        """Return whether imported material is missing that the key can't do without; pending one isn't."""
        if self.origin is not KeyOrigin.EXTERNAL:
            return False
        needed = [material for material in self.materials if not material.pending]
        return not needed or any(not material.sealed for material in needed)

    def expires_at(self) -> float | None:
        """Return when the first of the imported materials that are still there expires."""
        dates = [it.valid_to for it in self.materials if it.sealed and it.valid_to is not None]
        return min(dates, default=None)

    def rotates_at(self) -> float | None:
        """Return when the next automatic rotation is due; None while the key isn't enabled."""
        return self.next_rotation_at if self.state is KeyState.ENABLED else None

    def next_event_at(self) -> float | None:
        """Return when something next happens to the key by itself: destruction, rotation or expiry."""
        dates = (self.deletion_at, self.rotates_at(), self.expires_at())
        return min((date for date in dates if date is not None), default=None)

    def is_due(self, now: float) -> bool:
        """Return whether the waiting period is over: the key must be destroyed and is usable for nothing."""
        return self.deletion_at is not None and self.deletion_at <= now

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        known = {
            MEMBER_FORMAT_VERSION: RECORD_FORMAT_V1,
            "keyId": self.key_id,
            "account": self.account,
            "keySpec": self.key_spec,
            "keyUsage": self.key_usage,
            "origin": self.origin,
            "state": self.state,
            "createdAt": self.created_at,
            "description": self.description,
            "objectName": self.object_name,
            "deletionAt": self.deletion_at,
            "currentMaterialId": self.current_material_id,
            "materials": [material.to_json() for material in self.materials],
            "customKeyStoreId": self.custom_key_store_id,
            "tags": [list(tag) for tag in self.tags],
            "policy": self.policy,
            "rotationPeriodDays": self.rotation_period_days,
            "nextRotationAt": self.next_rotation_at,
        }
        return add_unknown(known, self.unknown)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Parse the JSON form.

        Raises:
            KeyError, TypeError, ValueError: It isn't one.
        """
        check_format_version(data)
        period = data.get("rotationPeriodDays")
        return cls(
            key_id=str(data["keyId"]),
            account=str(data["account"]),
            key_spec=KeySpec(data["keySpec"]),
            key_usage=KeyUsage(data["keyUsage"]),
            origin=KeyOrigin(data["origin"]),
            state=KeyState(data["state"]),
            created_at=float(data["createdAt"]),
            description=str(data["description"]),
            object_name=str(data["objectName"]),
            deletion_at=_optional_float(data["deletionAt"]),
            current_material_id=data["currentMaterialId"],
            materials=tuple(MaterialRecord.from_json(item) for item in data["materials"]),
            custom_key_store_id=str(data["customKeyStoreId"]),
            tags=tuple((str(key), str(value)) for key, value in data["tags"]),
            policy=str(data.get("policy", "")),
            rotation_period_days=None if period is None else int(period),
            next_rotation_at=_optional_float(data.get("nextRotationAt")),
            unknown=keep_unknown(data, KEY_MEMBERS),
        )


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """One alias; ``name`` has its prefix ``alias/``; ``unknown``: members of a later version, as JSON."""

    account: str
    name: str
    key_id: str
    created_at: float
    updated_at: float
    unknown: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        known = {
            MEMBER_FORMAT_VERSION: RECORD_FORMAT_V1,
            "account": self.account,
            "name": self.name,
            "keyId": self.key_id,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }
        return add_unknown(known, self.unknown)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Parse the JSON form.

        Raises:
            KeyError, TypeError, ValueError: It isn't one.
        """
        check_format_version(data)
        return cls(
            str(data["account"]),
            str(data["name"]),
            str(data["keyId"]),
            float(data["createdAt"]),
            float(data["updatedAt"]),
            keep_unknown(data, ALIAS_MEMBERS),
        )


Record = KeyRecord | AliasRecord | GrantRecord


def _optional_float(value: Any) -> float | None:  # noqa: ANN401 - JSON
    return None if value is None else float(value)
