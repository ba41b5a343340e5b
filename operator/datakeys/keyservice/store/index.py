"""The records in memory, by every name they are asked for. Used by all stores.

Zone: sealed material only. Reads take no lock: every map is changed by single dictionary operations, and the
inner maps are replaced, never edited. Writes take the lock.
"""

import threading
from collections.abc import Callable, Sequence

from datakeys.contract.errors import IntegrityError
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import AliasRecord, KeyRecord, Record


class RecordIndex:
    """All records that are known, and the ids of keys whose record can't be read."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._keys: dict[str, KeyRecord] = {}
        self._scheduled: dict[str, KeyRecord] = {}
        #: Key id -> why its record can't be read.
        self._broken_keys: dict[str, str] = {}
        self._by_object: dict[tuple[str, str], str] = {}
        self._aliases: dict[str, dict[str, AliasRecord]] = {}
        self._grants: dict[str, dict[str, GrantRecord]] = {}
        self._key_counts: dict[str, int] = {}
        #: Called with the key id after a key's record changed or went; must not block.
        self.listeners: list[Callable[[str], None]] = []
        #: Called with the key id after an alias of the key was made, pointed to it or went; must not block.
        self.alias_listeners: list[Callable[[str], None]] = []

    def find_key(self, key_id: str) -> KeyRecord | None:
        """Return a key, or None.

        Raises:
            IntegrityError: Its stored record fails authentication, or is of a later version.
        """
        record = self._keys.get(key_id)
        if record is None:
            cause = self._broken_keys.get(key_id)
            if cause is not None:
                raise IntegrityError(cause)
        return record

    def find_key_by_object(self, account: str, object_name: str) -> KeyRecord | None:
        """Return the key that was made for an object, or None."""
        key_id = self._by_object.get((account, object_name))
        return None if key_id is None else self._keys.get(key_id)

    def find_alias(self, account: str, name: str) -> AliasRecord | None:
        """Return an alias, or None."""
        aliases = self._aliases.get(account)
        return None if aliases is None else aliases.get(name)

    def find_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Return a grant on a key, or None."""
        grants = self._grants.get(key_id)
        return None if grants is None else grants.get(grant_id)

    def list_aliases(self, account: str) -> Sequence[AliasRecord]:
        """Return an account's aliases, sorted by name."""
        return sorted(self._aliases.get(account, {}).values(), key=lambda alias: alias.name)

    def list_keys(self, account: str) -> Sequence[KeyRecord]:
        """Return an account's keys, in no order."""
        with self.lock:
            return [record for record in self._keys.values() if record.account == account]

    def list_grants(self, key_id: str) -> Sequence[GrantRecord]:
        """Return a key's grants, in no order."""
        grants = self._grants.get(key_id)
        return () if grants is None else tuple(grants.values())

    def list_retirable_grants(self, principal: str) -> Sequence[GrantRecord]:
        """Return all grants that a principal may retire, in no order."""
        with self.lock:
            of_keys = list(self._grants.values())
        return [g for grants in of_keys for g in grants.values() if g.retiring_principal == principal]

    def count_keys(self, account: str) -> int:
        """Return how many keys an account has."""
        return self._key_counts.get(account, 0)

    def list_scheduled(self) -> Sequence[KeyRecord]:
        """Return all keys that something will happen to by itself, in no order."""
        with self.lock:
            return list(self._scheduled.values())

    def put(self, record: Record) -> None:
        """Add a record, or replace the one of the same identity."""
        with self.lock:
            if isinstance(record, KeyRecord):
                self._put_key(record)
            elif isinstance(record, AliasRecord):
                self._aliases[record.account] = {**self._aliases.get(record.account, {}), record.name: record}
                self._notify(record.key_id, self.alias_listeners)
            else:
                grants = self._grants.get(record.key_id, {})
                self._grants[record.key_id] = {**grants, record.grant_id: record}

    def drop(self, record: Record) -> None:
        """Remove a record."""
        with self.lock:
            if isinstance(record, KeyRecord):
                self._drop_key(record)
            elif isinstance(record, AliasRecord):
                aliases = {**self._aliases.get(record.account, {})}
                aliases.pop(record.name, None)
                self._aliases[record.account] = aliases
                self._notify(record.key_id, self.alias_listeners)
            else:
                grants = {**self._grants.get(record.key_id, {})}
                grants.pop(record.grant_id, None)
                self._grants[record.key_id] = grants

    def mark_broken(self, key_id: str, cause: str) -> None:
        """Remember why a key's record can't be read."""
        with self.lock:
            self._broken_keys[key_id] = cause

    def unmark_broken(self, key_id: str) -> None:
        """Forget a broken record that is gone."""
        with self.lock:
            self._broken_keys.pop(key_id, None)

    def _put_key(self, record: KeyRecord) -> None:
        if record.key_id not in self._keys:
            self._key_counts[record.account] = self.count_keys(record.account) + 1
        self._keys[record.key_id] = record
        if record.next_event_at() is None:
            self._scheduled.pop(record.key_id, None)
        else:
            self._scheduled[record.key_id] = record
        self._broken_keys.pop(record.key_id, None)
        if record.object_name:
            self._by_object[record.account, record.object_name] = record.key_id
        self._notify(record.key_id, self.listeners)

    def _drop_key(self, record: KeyRecord) -> None:
        if self._keys.pop(record.key_id, None) is None:
            return
        self._scheduled.pop(record.key_id, None)
        self._key_counts[record.account] = self.count_keys(record.account) - 1
        if self._by_object.get((record.account, record.object_name)) == record.key_id:
            del self._by_object[record.account, record.object_name]
        self._notify(record.key_id, self.listeners)

    def _notify(self, key_id: str, listeners: Sequence[Callable[[str], None]]) -> None:
        for listener in listeners:
            listener(key_id)
