"""Imported material that expires: gone at its date, for readers at once, in the store soon after.

Zone: sealed material only. Source: AWS KMS Developer Guide, "Importing key material", expiration: any
permanently associated material that is missing makes the key PendingImport.
"""

from collections.abc import Callable
from dataclasses import replace

from datakeys.contract.key_types import KeyState
from datakeys.keyservice.store.interface import KeyStore
from datakeys.keyservice.store.records import KeyRecord, MaterialRecord
from datakeys.keyservice.store.schedule import Chore

_USABLE = (KeyState.ENABLED, KeyState.DISABLED)


def drop_expired(record: KeyRecord, now: float) -> KeyRecord:
    """Return the key as it is at a time: without what has expired. The same object if nothing has."""
    expires_at = record.expires_at()
    if expires_at is None or expires_at > now:
        return record
    for material in record.materials:
        if material.sealed and material.valid_to is not None and material.valid_to <= now:
            record = drop_material(record, material)
    return record


def drop_material(record: KeyRecord, material: MaterialRecord) -> KeyRecord:
    """Return the key without the bytes of a material.

    A material that waits for its rotation goes altogether. Of the others the fingerprint stays, so that only
    the same bytes can come back.
    """
    if material.pending:
        return replace(record, materials=tuple(it for it in record.materials if it != material))
    emptied = replace(material, sealed=b"")
    changed = replace(record, materials=tuple(emptied if it == material else it for it in record.materials))
    if changed.state in _USABLE:
        return replace(changed, state=KeyState.PENDING_IMPORT)
    return changed


def build_expiry(store: KeyStore, clock: Callable[[], float]) -> Chore:
    """Return the chore that removes expired material from the store."""

    def expire(record: KeyRecord) -> bool:
        now, done = clock(), False

        def change(current: KeyRecord) -> KeyRecord:
            nonlocal done
            changed = drop_expired(current, now)
            done = changed is not current
            return changed

        store.update_key(record.key_id, change)
        return done

    return Chore("expiry", "key material expired", KeyRecord.expires_at, expire)
