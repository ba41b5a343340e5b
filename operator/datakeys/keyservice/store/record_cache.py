"""The cluster's records in memory, fed by lists, watch events and a replica's own writes.

Zone: sealed material only; no I/O. Resource versions decide which of two states of a Secret is newer; a
deleted Secret's UID is remembered until the watch has said so too, so that a late event can't bring it back.
Source: Kubernetes API concepts, "Resource versions" (comparable as integers since 1.35).
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.errors import IntegrityError
from datakeys.keyservice.store.codec import KIND_KEY, LABEL_KEY_ID, LABEL_RECORD
from datakeys.keyservice.store.format_version import NewerFormatError
from datakeys.keyservice.store.index import RecordIndex
from datakeys.keyservice.store.records import Record

_LOG: Final = logging.getLogger("datakeys.keyservice.store")
_MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    version: int
    record: Record | None
    broken_key_id: str = ""
    cause: str = ""
    newer: bool = False


class RecordCache:
    """An index of records, and which Secret each came from."""

    def __init__(self, decode: Callable[[Mapping[str, Any]], Record]) -> None:
        self.index: Final = RecordIndex()
        self._decode = decode
        self._entries: dict[str, _Entry] = {}
        self._deleted_uids: set[str] = set()

    @property
    def record_count(self) -> int:
        """Return how many authentic records there are."""
        with self.index.lock:
            return sum(entry.record is not None for entry in self._entries.values())

    @property
    def broken_count(self) -> int:
        """Return how many records can't be read: they fail authentication, or are of a later version."""
        with self.index.lock:
            return sum(entry.record is None for entry in self._entries.values())

    @property
    def newer_count(self) -> int:
        """Return how many of the broken records only a later version of this service reads."""
        with self.index.lock:
            return sum(entry.newer for entry in self._entries.values())

    def apply(self, secret: Mapping[str, Any]) -> None:
        """Take over a Secret's state, unless a newer one is known."""
        _tell_broken(self._apply(secret))

    def _apply(self, secret: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Take over a Secret's state; return name and cause if that is new and can't be read."""
        metadata = secret["metadata"]
        name, uid, version = str(metadata["name"]), str(metadata["uid"]), int(metadata["resourceVersion"])
        with self.index.lock:
            old = self._entries.get(name)
            if uid in self._deleted_uids or (old is not None and old.uid == uid and version <= old.version):
                return []
            entry = self._read(secret, uid, version)
            if old is not None:
                self._retract(old, entry)
            self._entries[name] = entry
            if entry.record is not None:
                self.index.put(entry.record)
            elif entry.broken_key_id:
                self.index.mark_broken(entry.broken_key_id, entry.cause)
            return [(name, entry.cause)] if entry.record is None else []

    def remove(self, name: str, uid: str, *, confirmed: bool) -> None:
        """Forget a Secret; ``confirmed`` if the watch or a list said so, not only the own delete."""
        with self.index.lock:
            if confirmed:
                self._deleted_uids.discard(uid)
            else:
                self._deleted_uids.add(uid)
            old = self._entries.get(name)
            if old is not None and old.uid == uid:
                del self._entries[name]
                self._retract(old, None)

    def replace_all(self, secrets: Iterable[Mapping[str, Any]], version: str) -> None:
        """Take over a complete list made at a resource version; newer own writes stay."""
        listed_at = int(version)
        with self.index.lock:
            seen_names, seen_uids = set(), set()
            broken: list[tuple[str, str]] = []
            for secret in secrets:
                seen_names.add(secret["metadata"]["name"])
                seen_uids.add(secret["metadata"]["uid"])
                broken += self._apply(secret)
            for name, entry in list(self._entries.items()):
                if name not in seen_names and entry.version <= listed_at:
                    self.remove(name, entry.uid, confirmed=True)
            self._deleted_uids &= seen_uids
        _tell_broken(broken)

    def _read(self, secret: Mapping[str, Any], uid: str, version: int) -> _Entry:
        try:
            return _Entry(uid, version, self._decode(secret))
        except IntegrityError as error:
            labels = secret["metadata"].get("labels") or {}
            key_id = str(labels.get(LABEL_KEY_ID, "")) if labels.get(LABEL_RECORD) == KIND_KEY else ""
            newer = isinstance(error, NewerFormatError)
            return _Entry(uid, version, None, key_id, error.message, newer)

    def _retract(self, old: _Entry, new: _Entry | None) -> None:
        if old.record is None:
            self.index.unmark_broken(old.broken_key_id)
        elif new is None or new.record is None or not _same_identity(old.record, new.record):
            self.index.drop(old.record)


def _tell_broken(broken: list[tuple[str, str]]) -> None:
    """Log one line for each cause however many there are: under a wrong root key it is every record."""
    for cause in sorted({cause for _, cause in broken}):
        names = [name for name, of in broken if of == cause]
        _LOG.error(
            "stored records can't be read",
            extra={"cause": cause, "count": len(names), "secrets": names[:_MAX_NAMED]},
        )


def _same_identity(old: Record, new: Record) -> bool:
    return type(old) is type(new) and old.key_id == new.key_id
