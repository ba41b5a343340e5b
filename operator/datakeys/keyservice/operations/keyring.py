"""Opened key material, kept for as long as its record stays what it was.

Zone: key material, as opaque handles. A changed or swapped record is unsealed again and so authenticated
again.
"""

from dataclasses import dataclass
from typing import Final

from datakeys.contract.errors import KeyStateError
from datakeys.keyservice.material.backing_key import SealBinding, SealedBackingKey
from datakeys.keyservice.material.encryption import EncryptionKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store.records import KeyRecord


def build_binding(record: KeyRecord, material_id: str) -> SealBinding:
    """Return what a version of a key's material is bound to."""
    return SealBinding(
        record.key_id, material_id, record.account, record.key_spec, record.key_usage, record.origin
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    record: KeyRecord
    key: EncryptionKey


class Keyring:
    """Opens material on first use. Threads may share it: it uses single dictionary operations only."""

    def __init__(self, root_key: RootKey) -> None:
        self._root_key: Final = root_key
        self._opened: Final[dict[str, dict[str, _Opened]]] = {}

    def open(self, record: KeyRecord, material_id: str | None) -> EncryptionKey:
        """Return the encryption key of a version of a key's material.

        Raises:
            KeyStateError: The key doesn't have this material (any more).
            IntegrityError: The sealed material doesn't belong to this record.
        """
        of_key = self._opened.get(record.key_id)
        if of_key is not None and material_id is not None:
            opened = of_key.get(material_id)
            if opened is not None and opened.record is record:
                return opened.key
        return self._open(record, material_id)

    def forget(self, key_id: str) -> None:
        """Drop everything that was opened of a key."""
        self._opened.pop(key_id, None)

    def _open(self, record: KeyRecord, material_id: str | None) -> EncryptionKey:
        material = record.find_material(material_id)
        if material is None or material_id is None:
            raise KeyStateError("the key material isn't available")
        binding = build_binding(record, material_id)
        backing_key = self._root_key.unseal(SealedBackingKey.from_bytes(material.sealed), binding)
        key = EncryptionKey(record.key_id, material_id, backing_key)
        self._opened.setdefault(record.key_id, {})[material_id] = _Opened(record, key)
        return key
