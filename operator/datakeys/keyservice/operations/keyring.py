"""Opened key material, kept for as long as its record stays what it was.

Zone: key material, as opaque handles. A changed or swapped record is unsealed again and so authenticated
again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from datakeys.contract.errors import KeyStateError
from datakeys.keyservice.material.backing_key import SealBinding, SealedBackingKey
from datakeys.keyservice.material.encryption import EncryptionKey
from datakeys.keyservice.material.mac_key import MacKey
from datakeys.keyservice.material.private_key import PrivateKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store.records import KeyRecord

T = TypeVar("T")


def build_binding(record: KeyRecord, material_id: str) -> SealBinding:
    """Return what a version of a key's material is bound to."""
    return SealBinding(
        record.key_id, material_id, record.account, record.key_spec, record.key_usage, record.origin
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    record: KeyRecord
    key: Any


class Keyring:
    """Opens material on first use. Threads may share it: it uses single dictionary operations only."""

    def __init__(self, root_key: RootKey) -> None:
        self._root_key: Final = root_key
        self._opened: Final[dict[str, dict[str, _Opened]]] = {}

    def open(self, record: KeyRecord, material_id: str | None) -> EncryptionKey:
        """Return the encryption key of a version of a symmetric key's material.

        Raises:
            KeyStateError: The key doesn't have this material (any more).
            IntegrityError: The sealed material doesn't belong to this record.
        """

        def unseal(sealed: SealedBackingKey, binding: SealBinding) -> EncryptionKey:
            return EncryptionKey(record.key_id, binding.material_id, self._root_key.unseal(sealed, binding))

        return self._find(record, material_id, unseal)

    def open_private_key(self, record: KeyRecord) -> PrivateKey:
        """Return the private key of an asymmetric key.

        Raises:
            KeyStateError: The key doesn't have its material.
            IntegrityError: The sealed material doesn't belong to this record.
        """
        unseal = self._root_key.unseal_private_key
        return self._find(
            record,
            record.current_material_id,
            lambda sealed, binding: unseal(sealed, binding, record.key_spec),
        )

    def open_mac_key(self, record: KeyRecord) -> MacKey:
        """Return the key of an HMAC key.

        Raises:
            KeyStateError: The key doesn't have its material.
            IntegrityError: The sealed material doesn't belong to this record.
        """
        unseal = self._root_key.unseal_mac_key
        return self._find(
            record,
            record.current_material_id,
            lambda sealed, binding: unseal(sealed, binding, record.key_spec),
        )

    def forget(self, key_id: str) -> None:
        """Drop everything that was opened of a key."""
        self._opened.pop(key_id, None)

    def _find(
        self,
        record: KeyRecord,
        material_id: str | None,
        unseal: Callable[[SealedBackingKey, SealBinding], T],
    ) -> T:
        of_key = self._opened.get(record.key_id)
        opened = None if of_key is None or material_id is None else of_key.get(material_id)
        if opened is not None and opened.record is record:
            found: T = opened.key
            return found
        material = record.find_material(material_id)
        if material is None or material_id is None or not material.sealed:
            raise KeyStateError("the key material isn't available")
        key = unseal(SealedBackingKey.from_bytes(material.sealed), build_binding(record, material_id))
        self._opened.setdefault(record.key_id, {})[material_id] = _Opened(record, key)
        return key
