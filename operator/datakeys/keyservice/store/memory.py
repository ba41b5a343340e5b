"""A store that lives in memory: for tests and for a local mode.

Zone: sealed material only.
"""

from collections.abc import Callable, Sequence
from typing import Final

from datakeys.contract.errors import AlreadyExistsError, NotFoundError
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.index import RecordIndex
from datakeys.keyservice.store.interface import AliasChange, KeyChange
from datakeys.keyservice.store.records import AliasRecord, KeyRecord, Record


class MemoryStore:
    """Implements `KeyStore`; every write holds the index's lock and goes through `_commit`."""

    def __init__(self) -> None:
        self.index: Final = RecordIndex()

    def find_key(self, key_id: str) -> KeyRecord | None:
        """Return a key, or None."""
        return self.index.find_key(key_id)

    def refresh_key(self, key_id: str) -> KeyRecord | None:
        """Return a key, or None: memory is all there is."""
        return self.index.find_key(key_id)

    def find_key_by_object(self, account: str, object_name: str) -> KeyRecord | None:
        """Return the key that was made for an object, or None."""
        return self.index.find_key_by_object(account, object_name)

    def find_alias(self, account: str, name: str) -> AliasRecord | None:
        """Return an alias, or None."""
        return self.index.find_alias(account, name)

    def find_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Return a grant, or None."""
        return self.index.find_grant(key_id, grant_id)

    def list_aliases(self, account: str) -> Sequence[AliasRecord]:
        """Return an account's aliases."""
        return self.index.list_aliases(account)

    def list_keys(self, account: str) -> Sequence[KeyRecord]:
        """Return an account's keys."""
        return self.index.list_keys(account)

    def list_grants(self, key_id: str) -> Sequence[GrantRecord]:
        """Return a key's grants."""
        return self.index.list_grants(key_id)

    def list_retirable_grants(self, principal: str) -> Sequence[GrantRecord]:
        """Return all grants that a principal may retire."""
        return self.index.list_retirable_grants(principal)

    def refresh_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Return a grant, or None: memory is all there is."""
        return self.index.find_grant(key_id, grant_id)

    def count_keys(self, account: str) -> int:
        """Return how many keys an account has."""
        return self.index.count_keys(account)

    def list_scheduled(self) -> Sequence[KeyRecord]:
        """Return all keys that something will happen to by itself."""
        return self.index.list_scheduled()

    def create_key(self, record: KeyRecord) -> KeyRecord:
        """Create a key, or return the one of the same object."""
        with self.index.lock:
            if record.object_name:
                existing = self.index.find_key_by_object(record.account, record.object_name)
                if existing is not None:
                    return existing
            self._commit(puts=[record])
            return record

    def update_key(self, key_id: str, change: KeyChange) -> KeyRecord:
        """Change a key.

        Raises:
            NotFoundError: No such key.
        """
        with self.index.lock:
            record = self.index.find_key(key_id)
            if record is None:
                raise NotFoundError(f"Key '{key_id}' does not exist")
            changed = change(record)
            self._commit(puts=[changed])
            return changed

    def destroy_key(self, key_id: str, condition: Callable[[KeyRecord], bool]) -> bool:
        """Delete a key, its aliases and its grants."""
        with self.index.lock:
            record = self.index.find_key(key_id)
            if record is None or not condition(record):
                return False
            aliases = [alias for alias in self.index.list_aliases(record.account) if alias.key_id == key_id]
            self._commit(drops=[*aliases, *self.index.list_grants(key_id), record])
            return True

    def create_alias(self, record: AliasRecord) -> AliasRecord:
        """Create an alias.

        Raises:
            AlreadyExistsError: The name is taken.
        """
        with self.index.lock:
            if self.index.find_alias(record.account, record.name) is not None:
                raise AlreadyExistsError(f"An alias with the name {record.name} already exists")
            self._commit(puts=[record])
            return record

    def update_alias(self, account: str, name: str, change: AliasChange) -> AliasRecord:
        """Change an alias.

        Raises:
            NotFoundError: No such alias.
        """
        with self.index.lock:
            changed = change(self._existing_alias(account, name))
            self._commit(puts=[changed])
            return changed

    def delete_alias(self, account: str, name: str) -> None:
        """Delete an alias.

        Raises:
            NotFoundError: No such alias.
        """
        with self.index.lock:
            self._commit(drops=[self._existing_alias(account, name)])

    def create_grant(self, record: GrantRecord) -> GrantRecord:
        """Create a grant, or return the one with the same id."""
        with self.index.lock:
            existing = self.index.find_grant(record.key_id, record.grant_id)
            if existing is None:
                self._commit(puts=[record])
            return existing or record

    def delete_grant(self, key_id: str, grant_id: str) -> None:
        """Delete a grant.

        Raises:
            NotFoundError: No such grant.
        """
        with self.index.lock:
            existing = self.index.find_grant(key_id, grant_id)
            if existing is None:
                raise NotFoundError(f"Grant ID {grant_id} not found")
            self._commit(drops=[existing])

    def _existing_alias(self, account: str, name: str) -> AliasRecord:
        existing = self.index.find_alias(account, name)
        if existing is None:
            raise NotFoundError(f"Alias {name} is not found.")
        return existing

    def _commit(self, *, puts: Sequence[Record] = (), drops: Sequence[Record] = ()) -> None:
        """Make one write visible; a durable store writes it down before. Needs the index's lock."""
        for record in drops:
            self.index.drop(record)
        for record in puts:
            self.index.put(record)
