"""The store whose truth is in Secrets of the system namespace.

Zone: sealed material only. Reads come from the cache. Writes read the newest version first, then write with
its resource version, so two replicas can't overwrite each other; the own write is in the cache before it
returns. Source: Kubernetes API concepts, "Resource versions" and "Preconditions".
"""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from datakeys.contract.errors import (
    AlreadyExistsError,
    DependencyTimeoutError,
    IntegrityError,
    NotFoundError,
)
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store import codec
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.interface import AliasChange, KeyChange
from datakeys.keyservice.store.objects_api import ObjectsApi
from datakeys.keyservice.store.record_cache import RecordCache
from datakeys.keyservice.store.records import AliasRecord, KeyRecord, Record

MAX_TRIES: Final = 8
REFRESH_INTERVAL_SECONDS: Final = 0.05
_CONFLICTS: Final = "too many concurrent changes of the same record"

R = TypeVar("R", KeyRecord, AliasRecord, GrantRecord)


class KubernetesStore:
    """Implements `KeyStore` on Secrets. Its write methods block."""

    def __init__(
        self, objects: ObjectsApi, root_key: RootKey, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache: Final = RecordCache(lambda secret: codec.decode(root_key, secret))
        self._objects = objects
        self._root_key = root_key
        self._monotonic = monotonic
        self._refreshed_at = float("-inf")
        index = self.cache.index
        self.find_key = index.find_key
        self.find_key_by_object = index.find_key_by_object
        self.find_alias = index.find_alias
        self.find_grant = index.find_grant
        self.list_aliases = index.list_aliases
        self.list_keys = index.list_keys
        self.list_grants = index.list_grants
        self.list_retirable_grants = index.list_retirable_grants
        self.count_keys = index.count_keys
        self.list_scheduled = index.list_scheduled

    def refresh_key(self, key_id: str) -> KeyRecord | None:
        """Look for a key in the cluster; at most every 50 ms.

        Raises:
            IntegrityError: The stored record fails authentication.
            DependencyTimeoutError: The API can't be reached.
        """
        now = self._monotonic()
        if now - self._refreshed_at < REFRESH_INTERVAL_SECONDS:
            return self.find_key(key_id)
        self._refreshed_at = now
        self._fetch_key(key_id)
        return self.find_key(key_id)

    def refresh_grant(self, key_id: str, grant_id: str) -> GrantRecord | None:
        """Look for a grant in the cluster.

        Raises:
            IntegrityError: The stored record fails authentication.
            DependencyTimeoutError: The API can't be reached.
        """
        secret = self._objects.get(codec.build_grant_name(key_id, grant_id))
        return None if secret is None else self._take(secret, GrantRecord)

    def create_key(self, record: KeyRecord) -> KeyRecord:
        """Create a key, or return the one of the same object.

        Raises:
            IntegrityError: The object's record fails authentication.
            DependencyTimeoutError: The API can't be reached.
        """
        return self._create_or_get(record)

    def update_key(self, key_id: str, change: KeyChange) -> KeyRecord:
        """Change a key.

        Raises:
            NotFoundError: No such key.
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        known = self.find_key(key_id) or self._fetch_key(key_id)

        def change_same(current: KeyRecord) -> KeyRecord:
            if current.key_id != key_id:
                raise NotFoundError(f"Key '{key_id}' does not exist")
            return change(current)

        changed = None if known is None else self._update(codec.build_name(known), KeyRecord, change_same)
        if changed is None:
            raise NotFoundError(f"Key '{key_id}' does not exist")
        return changed

    def destroy_key(self, key_id: str, condition: Callable[[KeyRecord], bool]) -> bool:
        """Delete a key, after its aliases and grants; a crash in between leaves a key that is still due.

        Raises:
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        known = self.find_key(key_id)
        if known is None:
            return False
        for _ in range(MAX_TRIES):
            secret = self._objects.get(codec.build_name(known))
            current = None if secret is None else codec.decode(self._root_key, secret)
            if secret is None or not isinstance(current, KeyRecord) or current.key_id != key_id:
                return False
            if not condition(current):
                self.cache.apply(secret)
                return False
            self._delete_dependants(key_id)
            if self._delete(secret):
                return True
        raise DependencyTimeoutError(_CONFLICTS)

    def create_alias(self, record: AliasRecord) -> AliasRecord:
        """Create an alias.

        Raises:
            AlreadyExistsError: The name is taken.
            DependencyTimeoutError: The API can't be reached.
        """
        created = self._objects.create(self._encode(record))
        if created is None:
            raise AlreadyExistsError(f"An alias with the name {record.name} already exists")
        self.cache.apply(created)
        return record

    def update_alias(self, account: str, name: str, change: AliasChange) -> AliasRecord:
        """Change an alias.

        Raises:
            NotFoundError: No such alias.
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        changed = self._update(codec.build_alias_name(account, name), AliasRecord, change)
        if changed is None:
            raise NotFoundError(f"Alias {name} is not found.")
        return changed

    def delete_alias(self, account: str, name: str) -> None:
        """Delete an alias.

        Raises:
            NotFoundError: No such alias.
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        if not self._delete_by_name(codec.build_alias_name(account, name)):
            raise NotFoundError(f"Alias {name} is not found.")

    def create_grant(self, record: GrantRecord) -> GrantRecord:
        """Create a grant, or return the one with the same id.

        Raises:
            DependencyTimeoutError: The API can't be reached.
        """
        return self._create_or_get(record)

    def delete_grant(self, key_id: str, grant_id: str) -> None:
        """Delete a grant.

        Raises:
            NotFoundError: No such grant.
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        if not self._delete_by_name(codec.build_grant_name(key_id, grant_id)):
            raise NotFoundError(f"Grant ID {grant_id} not found")

    def _encode(self, record: Record) -> dict[str, Any]:
        return codec.encode(self._root_key, record, self._objects.namespace)

    def _create_or_get(self, record: R) -> R:
        body = self._encode(record)
        for _ in range(MAX_TRIES):
            created = self._objects.create(body)
            if created is not None:
                self.cache.apply(created)
                return record
            existing = self._objects.get(body["metadata"]["name"])
            if existing is not None:
                return self._take(existing, type(record))
        raise DependencyTimeoutError(_CONFLICTS)

    def _take(self, secret: dict[str, Any], kind: type[R]) -> R:
        record = codec.decode(self._root_key, secret)
        if not isinstance(record, kind):
            raise IntegrityError("a stored record is of another kind")
        self.cache.apply(secret)
        return record

    def _update(self, name: str, kind: type[R], change: Callable[[R], R]) -> R | None:
        """Change the newest version; None if the record is gone."""
        for _ in range(MAX_TRIES):
            secret = self._objects.get(name)
            if secret is None:
                return None
            current = self._take(secret, kind)
            changed = change(current)
            if changed == current:
                return current
            body = self._encode(changed)
            for field in ("uid", "resourceVersion"):
                body["metadata"][field] = secret["metadata"][field]
            replaced = self._objects.replace(body)
            if replaced is not None:
                self.cache.apply(replaced)
                return changed
        raise DependencyTimeoutError(_CONFLICTS)

    def _fetch_key(self, key_id: str) -> KeyRecord | None:
        selector = f"{codec.LABEL_RECORD}={codec.KIND_KEY},{codec.LABEL_KEY_ID}={key_id}"
        for secret in self._objects.list_all(selector)[0]:
            self.cache.apply(secret)
        return self.find_key(key_id)

    def _delete_dependants(self, key_id: str) -> None:
        for kind in (codec.KIND_ALIAS, codec.KIND_GRANT):
            selector = f"{codec.LABEL_RECORD}={kind},{codec.LABEL_KEY_ID}={key_id}"
            for secret in self._objects.list_all(selector)[0]:
                self._delete(secret)

    def _delete_by_name(self, name: str) -> bool:
        for _ in range(MAX_TRIES):
            secret = self._objects.get(name)
            if secret is None:
                return False
            if self._delete(secret):
                return True
        raise DependencyTimeoutError(_CONFLICTS)

    def _delete(self, secret: dict[str, Any]) -> bool:
        metadata = secret["metadata"]
        done = self._objects.delete(
            metadata["name"], uid=metadata["uid"], resource_version=metadata["resourceVersion"]
        )
        if done:
            self.cache.remove(metadata["name"], metadata["uid"], confirmed=False)
        return done
