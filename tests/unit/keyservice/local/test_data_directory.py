"""The data directory: privacy, one process at a time, the root key."""

import os
from pathlib import Path

import pytest

from datakeys.keyservice.local.data_directory import DataDirectory, DataDirectoryError


def random(count: int) -> bytes:
    return bytes(range(count))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "data"


def test_all_is_private(path: Path) -> None:
    """Neither the directory nor a file in it is open to others."""
    directory = DataDirectory(path)
    directory.load_root_key(os.urandom)
    assert path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}


def test_root_key_is_made_once(path: Path) -> None:
    """The second load gives the same key."""
    directory = DataDirectory(path)
    first = directory.load_root_key(os.urandom).mac_record(b"x")
    assert directory.load_root_key(random).mac_record(b"x") == first
    assert sorted(file.name for file in path.iterdir()) == ["lock", "root.key"]


def test_draft_of_a_crashed_start_is_replaced(path: Path) -> None:
    """What a start left behind while it wrote the root key doesn't matter."""
    path.mkdir(parents=True)
    (path / "root.new").write_bytes(b"half")
    DataDirectory(path).load_root_key(random)
    assert (path / "root.key").read_bytes() == random(32)


def test_second_process_is_told_who_has_it(path: Path) -> None:
    """Only one has the directory; the other learns which process that is."""
    first = DataDirectory(path)
    with pytest.raises(DataDirectoryError, match=rf"in use by another key service \(process {os.getpid()}\)"):
        DataDirectory(path)
    first.close()
    DataDirectory(path).close()


def test_root_key_is_not_made_anew_beside_databases(path: Path) -> None:
    """A lost root key is an error: a new one could read nothing."""
    directory = DataDirectory(path)
    directory.database("us-east-1").touch()
    with pytest.raises(DataDirectoryError, match=r"root\.key is missing"):
        directory.load_root_key(random)
    assert not (path / "root.key").exists()


def test_open_root_key_is_refused(path: Path) -> None:
    """As ssh does: a key that others may read isn't used, and the text says what to do."""
    directory = DataDirectory(path)
    directory.load_root_key(random)
    (path / "root.key").chmod(0o644)
    with pytest.raises(DataDirectoryError, match="run chmod 600"):
        directory.load_root_key(random)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_malformed_root_key_is_refused(path: Path, content: bytes) -> None:
    """Another length than 32 bytes is no root key."""
    directory = DataDirectory(path)
    directory.load_root_key(random)
    (path / "root.key").write_bytes(content)
    with pytest.raises(DataDirectoryError, match="doesn't hold a root key of 32 bytes"):
        directory.load_root_key(random)


def test_path_that_is_a_file(tmp_path: Path) -> None:
    """A file in the directory's place is a clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="can't be used"):
        DataDirectory(tmp_path / "file")


def test_regions_are_the_databases(path: Path) -> None:
    """Each Region has one database."""
    directory = DataDirectory(path)
    for region in ("us-east-1", "eu-west-1"):
        directory.database(region).touch()
    assert directory.list_regions() == ["eu-west-1", "us-east-1"]
