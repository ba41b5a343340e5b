"""The durable store: what it says it has written is there after a restart, sealed and authenticated."""

import base64
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import DependencyTimeoutError, IntegrityError, KmsError
from datakeys.keyservice.local.data_directory import DataDirectoryError
from datakeys.keyservice.local.sqlite_store import SqliteStore
from datakeys.keyservice.material.backing_key import SealedBackingKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.keyring import build_binding
from keyservice_rig import CONTROLLER, Rig, bound

SECRET = bytes(range(32))
GRANTEE = "system:serviceaccount:team-a:app"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.sqlite"


@pytest.fixture
def open_rig(path: Path) -> Callable[[], Rig]:
    """Give a function that opens the store anew, as a restarted process does."""

    def open_again() -> Rig:
        return Rig(store=SqliteStore(path, RootKey(SECRET)), root_secret=SECRET)

    return open_again


def store_of(rig: Rig) -> SqliteStore:
    assert isinstance(rig.store, SqliteStore)
    return rig.store


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change every stored record behind the store's back."""
    with sqlite3.connect(path) as database:
        for name, body in database.execute("SELECT name, body FROM records").fetchall():
            secret = json.loads(body)
            change(secret)
            database.execute("UPDATE records SET body = ? WHERE name = ?", (json.dumps(secret), name))
    database.close()


def test_everything_survives_a_restart(open_rig: Callable[[], Rig]) -> None:
    """Keys, states, aliases, grants and ciphertext are the same afterwards."""
    rig = open_rig()
    key = rig.create_key(Description="first", Tags=[{"TagKey": "a", "TagValue": "b"}])
    other = rig.create_key()
    rig.call("DisableKey", {"KeyId": other})
    rig.call("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": other})
    rig.call("UpdateAlias", {"AliasName": "alias/a", "TargetKeyId": key})
    grant = rig.grant(key, "Decrypt")
    blob = rig.data_key(key)
    before = [rig.call("DescribeKey", {"KeyId": it}) for it in (key, other, "alias/a")]
    grants = rig.call("ListGrants", {"KeyId": key})
    store_of(rig).close()
    rig = open_rig()
    assert [rig.call("DescribeKey", {"KeyId": it}) for it in (key, other, "alias/a")] == before
    assert rig.call("ListGrants", {"KeyId": key}) == grants
    assert grants["Grants"][0]["GrantId"] == grant["GrantId"]
    assert blob


def test_deletes_survive_a_restart(open_rig: Callable[[], Rig]) -> None:
    """A destroyed key takes its aliases and grants with it, for ever; another key's stay."""
    rig = open_rig()
    key, other = rig.create_key(), rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": key})
    rig.call("CreateAlias", {"AliasName": "alias/b", "TargetKeyId": other})
    rig.call("CreateAlias", {"AliasName": "alias/c", "TargetKeyId": other})
    rig.call("DeleteAlias", {"AliasName": "alias/c"})
    rig.grant(key, "Decrypt")
    rig.call("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
    assert rig.store.destroy_key(key.rpartition("/")[2], lambda _: True)
    store_of(rig).close()
    rig = open_rig()
    assert [alias.name for alias in rig.store.list_aliases("team-a")] == ["alias/b"]
    assert rig.store.count_keys("team-a") == 1
    assert rig.store.list_grants(key.rpartition("/")[2]) == ()


def test_no_material_in_the_clear(open_rig: Callable[[], Rig], path: Path) -> None:
    """The files hold neither the root key nor any key's material."""
    rig = open_rig()
    key = rig.create_key()
    rig.data_key(key)
    record = rig.store.find_key(key.rpartition("/")[2])
    assert record is not None
    material = record.materials[0]
    sealed, binding = (
        SealedBackingKey.from_bytes(material.sealed),
        build_binding(record, material.material_id),
    )
    secrets = [SECRET, rig.root_key.unseal(sealed, binding).reveal()]
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    for secret in secrets:
        assert len(secret) == 32
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in stored


def test_edited_record_is_refused(open_rig: Callable[[], Rig], path: Path) -> None:
    """A record that was changed in the file fails authentication; the others work."""
    rig = open_rig()
    broken, good = rig.create_key(Description="before"), None
    store_of(rig).close()

    def damage(secret: dict[str, Any]) -> None:
        record = json.loads(base64.b64decode(secret["data"]["record.json"]))
        record["state"] = "Disabled"
        secret["data"]["record.json"] = base64.b64encode(json.dumps(record).encode()).decode()

    edit(path, damage)
    database = sqlite3.connect(path)
    rows = database.execute("SELECT name, body FROM records").fetchall()
    database.execute("DELETE FROM records")
    database.commit()
    rig = open_rig()
    good = rig.create_key()
    database.executemany("INSERT INTO records VALUES (?, ?)", rows)
    database.commit()
    database.close()
    store_of(rig).close()
    rig = open_rig()
    assert rig.call("DescribeKey", {"KeyId": good})
    with pytest.raises(IntegrityError):
        rig.call("DescribeKey", {"KeyId": broken})


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", '{"metadata": 1}', '{"metadata": {"name": "x"}}'])
def test_malformed_record_is_refused(open_rig: Callable[[], Rig], path: Path, body: str) -> None:
    """Garbage in the table doesn't break the start, as long as something is authentic."""
    rig = open_rig()
    key = rig.create_key()
    store_of(rig).close()
    database = sqlite3.connect(path)
    database.execute("INSERT INTO records VALUES ('x', ?)", (body,))
    database.commit()
    database.close()
    assert open_rig().call("DescribeKey", {"KeyId": key})


def test_record_under_another_name_is_refused(open_rig: Callable[[], Rig], path: Path) -> None:
    """A record can't be moved to another name."""
    rig = open_rig()
    rig.create_key()
    store_of(rig).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE records SET name = 'kmskey-other'")
    database.commit()
    database.close()
    with pytest.raises(DataDirectoryError, match="none of the 1 records"):
        open_rig()


def test_another_root_key_is_refused(open_rig: Callable[[], Rig], path: Path) -> None:
    """A root key that opens nothing stops the start."""
    rig = open_rig()
    rig.create_key()
    store_of(rig).close()
    with pytest.raises(DataDirectoryError, match="isn't the one that sealed them"):
        SqliteStore(path, RootKey(bytes(32)))


def test_other_format_is_refused(path: Path) -> None:
    """A database of a later version isn't touched."""
    SqliteStore(path, RootKey(SECRET)).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(DataDirectoryError, match="has format 2"):
        SqliteStore(path, RootKey(SECRET))


def test_no_database_is_refused(path: Path) -> None:
    """A file that isn't a database is a clear error."""
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(DataDirectoryError, match="can't be used"):
        SqliteStore(path, RootKey(SECRET))


def test_failed_write_changes_nothing(open_rig: Callable[[], Rig], path: Path) -> None:
    """If it can't be written, the caller gets a retryable error, and memory stays as the file is."""
    rig = open_rig()
    key = rig.create_key()
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    store_of(rig)._database.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(DependencyTimeoutError) as caught:
        rig.call("DisableKey", {"KeyId": key})
    assert caught.value.message == "the data directory can't be written"
    assert rig.call("DescribeKey", {"KeyId": key})["KeyMetadata"]["KeyState"] == "Enabled"
    other.rollback()
    other.close()
    rig.call("DisableKey", {"KeyId": key})
    store_of(rig).close()
    assert open_rig().call("DescribeKey", {"KeyId": key})["KeyMetadata"]["KeyState"] == "Disabled"


def test_failed_operation_writes_nothing(open_rig: Callable[[], Rig], path: Path) -> None:
    """An operation that ends in an error leaves no trace in the file."""
    rig = open_rig()
    key = rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": key})
    stored = list(sqlite3.connect(path).execute("SELECT * FROM records ORDER BY name"))
    for operation, body in (
        ("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": key}),
        ("CancelKeyDeletion", {"KeyId": key}),
        ("DeleteAlias", {"AliasName": "alias/b"}),
    ):
        with pytest.raises(KmsError):
            rig.call(operation, body, by=CONTROLLER)
    assert list(sqlite3.connect(path).execute("SELECT * FROM records ORDER BY name")) == stored
    assert bound()


def test_commits_are_synchronous(open_rig: Callable[[], Rig]) -> None:
    """The database syncs every commit: WAL, synchronous FULL."""
    run = store_of(open_rig())._database.execute
    assert run("PRAGMA journal_mode").fetchone() == ("wal",)
    assert run("PRAGMA synchronous").fetchone() == (2,)
