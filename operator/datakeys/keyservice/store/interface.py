"""What the operations need of a store. Reads come from memory and never block; writes may.

Zone: sealed material only.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import AliasRecord, KeyRecord

#: Returns the changed record, or raises a `KmsError`. It can run more than once.
KeyChange = Callable[[KeyRecord], KeyRecord]
AliasChange = Callable[[AliasRecord], AliasRecord]


class KeyStore(Protocol):
    """Keys, aliases and grants of all accounts."""

    def find_key(self, key_id: str) -> KeyRecord | None:
        """Return a key, or None.

        Raises:
            IntegrityError: The stored record fails authentication.
        """

    def find_key_by_object(self, account: str, object_name: str) -> KeyRecord | None:
        """Return the key that was made for an object, or None."""

    def find_alias(self, account: str, name: str) -> AliasRecord | None:
        """Return an alias, or None."""

    def find_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Return a grant on a key, or None."""

    def list_aliases(self, account: str) -> Sequence[AliasRecord]:
        """Return an account's aliases, sorted by name."""

    def list_keys(self, account: str) -> Sequence[KeyRecord]:
        """Return an account's keys, in no order; takes time with the number of all keys."""

    def list_grants(self, key_id: str) -> Sequence[GrantRecord]:
        """Return a key's grants, in no order."""

    def list_retirable_grants(self, principal: str) -> Sequence[GrantRecord]:
        """Return all grants that a principal may retire, in no order."""

    def count_keys(self, account: str) -> int:
        """Return how many keys an account has, those pending deletion included."""

    def list_scheduled(self) -> Sequence[KeyRecord]:
        """Return all keys that something will happen to by itself; see `KeyRecord.next_event_at`."""

    def refresh_key(self, key_id: str) -> KeyRecord | None:
        """Look for a key that memory doesn't have yet. May block.

        Raises:
            IntegrityError: The stored record fails authentication.
            DependencyTimeoutError: The store can't be reached.
        """

    def refresh_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Look for a grant that memory doesn't have yet. May block.

        Raises:
            IntegrityError: The stored record fails authentication.
            DependencyTimeoutError: The store can't be reached.
        """

    def create_key(self, record: KeyRecord) -> KeyRecord:
        """Create a key; if another has its account and object name, return that one instead.

        Raises:
            DependencyTimeoutError: The store can't be reached.
        """

    def update_key(self, key_id: str, change: KeyChange) -> KeyRecord:
        """Change a key atomically, on the newest version.

        Raises:
            NotFoundError: No such key.
            DependencyTimeoutError: The store can't be reached, or too many conflicts.
        """

    def destroy_key(self, key_id: str, condition: Callable[[KeyRecord], bool]) -> bool:
        """Delete a key and its aliases and grants, if its newest version meets the condition.

        Raises:
            DependencyTimeoutError: The store can't be reached, or too many conflicts.
        """

    def create_alias(self, record: AliasRecord) -> AliasRecord:
        """Create an alias.

        Raises:
            AlreadyExistsError: The name is taken in the account.
            DependencyTimeoutError: The store can't be reached.
        """

    def update_alias(self, account: str, name: str, change: AliasChange) -> AliasRecord:
        """Change an alias atomically.

        Raises:
            NotFoundError: No such alias.
            DependencyTimeoutError: The store can't be reached, or too many conflicts.
        """

    def delete_alias(self, account: str, name: str) -> None:
        """Delete an alias.

        Raises:
            NotFoundError: No such alias.
            DependencyTimeoutError: The store can't be reached.
        """

    def create_grant(self, record: GrantRecord) -> GrantRecord:
        """Create a grant, or return the one with the same id.

        Raises:
            DependencyTimeoutError: The store can't be reached.
        """

    def delete_grant(self, key_id: str, grant_id: str) -> None:
        """Delete a grant.

        Raises:
            NotFoundError: No such grant on this key.
            DependencyTimeoutError: The store can't be reached.
        """
