"""A store that is written through to SQLite: reads come from memory, a write is on the disk before it counts.

Zone: sealed material only; a record has the same form and MAC as in a cluster. Source: SQLite, "Write-Ahead
Logging" and "PRAGMA synchronous": with FULL a commit survives a crash of the process and of the machine.
"""

import json
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from datakeys.contract.errors import DependencyTimeoutError, IntegrityError
from datakeys.keyservice.local.data_directory import DataDirectoryError
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store import codec
from datakeys.keyservice.store.format_version import NewerFormatError
from datakeys.keyservice.store.memory import MemoryStore
from datakeys.keyservice.store.records import Record

_LOG: Final = logging.getLogger("datakeys.keyservice.local")
_FORMAT: Final = 1
#: Where a cluster's record has its namespace.
_NAMESPACE: Final = "local"


class SqliteStore(MemoryStore):
    """Implements `KeyStore` on one database file, which no other process may use meanwhile."""

    def __init__(self, path: Path, root_key: RootKey) -> None:
        """Open or make the database, and load its records.

        Raises:
            DataDirectoryError: It can't be opened, has another format, or the root key opens none of it.
        """
        super().__init__()
        self._root_key = root_key
        try:
            # Autocommit, with explicit transactions; used by many threads, but only with the index's lock.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare(path)
            self._load(path)
        except sqlite3.Error as error:
            raise DataDirectoryError(f"{path} can't be used: {error}") from None

    def close(self) -> None:
        """Close the database."""
        with self.index.lock:
            self._database.close()

    def _prepare(self, path: Path) -> None:
        run = self._database.execute
        found = run("PRAGMA user_version").fetchone()[0]
        if found not in (0, _FORMAT):
            raise DataDirectoryError(
                f"{path} has format {found}; this version reads format {_FORMAT} only: "
                "run the version that wrote it; nothing was changed"
            )
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID")
        run(f"PRAGMA user_version = {_FORMAT}")

    def _load(self, path: Path) -> None:
        good = broken = newer = 0
        for name, body in self._database.execute("SELECT name, body FROM records"):
            try:
                self.index.put(self._decode(name, body))
                good += 1
            except IntegrityError as error:
                broken += 1
                newer += isinstance(error, NewerFormatError)
                _LOG.error("stored record can't be read", extra={"record": name, "cause": error.message})
                self._mark_broken(body, error.message)
        if newer and not good:
            raise DataDirectoryError(
                f"{newer} records in {path} have a later format version than this version reads: "
                "run the version that wrote them; nothing was changed"
            )
        if broken and not good:
            raise DataDirectoryError(
                f"none of the {broken} records in {path} is authentic under the root key beside it: "
                "it isn't the one that sealed them; restore the right one"
            )

    def _decode(self, name: str, body: str) -> Record:
        try:
            secret = json.loads(body)
            if secret["metadata"]["name"] != name:
                raise IntegrityError("a stored record is under a wrong name")
        except (ValueError, TypeError, KeyError):
            raise IntegrityError("a stored record is malformed") from None
        return codec.decode(self._root_key, secret)

    def _mark_broken(self, body: str, cause: str) -> None:
        try:
            labels = json.loads(body)["metadata"]["labels"]
            if labels[codec.LABEL_RECORD] == codec.KIND_KEY:
                self.index.mark_broken(str(labels[codec.LABEL_KEY_ID]), cause)
        except (ValueError, TypeError, KeyError):
            return

    def _commit(self, *, puts: Sequence[Record] = (), drops: Sequence[Record] = ()) -> None:
        """Write one change down in one transaction, then make it visible.

        Raises:
            DependencyTimeoutError: It can't be written; nothing has changed.
        """
        rows = [
            (codec.build_name(record), json.dumps(codec.encode(self._root_key, record, _NAMESPACE)))
            for record in puts
        ]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "DELETE FROM records WHERE name = ?", [(codec.build_name(record),) for record in drops]
            )
            self._database.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            _LOG.error("write failed", extra={"cause": str(error)})
            raise DependencyTimeoutError("the data directory can't be written") from None
        super()._commit(puts=puts, drops=drops)
