"""The disk under the data directory is full: writes are refused clearly, reads go on, nothing is lost."""

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from local_mode import LocalProcess, Starter, start

SIZE: Final = 2 * 1024 * 1024
#: More than fits on the disk.
MOST_KEYS: Final = 2000
NO_LIMIT: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@dataclass(frozen=True)
class Disk:
    """A data directory on a disk that can be filled to the last byte while the process runs."""

    directory: Path
    fill: Callable[[LocalProcess], None]
    free: Callable[[LocalProcess], None]


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """Mount a small disk; a file beside the data takes what is left of it."""
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "datakeys-test", path],
        capture_output=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip(f"only root can mount a small disk: {mounting.stderr.decode()}")
    filler = path / "filler"

    def fill(_: LocalProcess) -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    try:
        yield Disk(path / "data", fill, lambda _: filler.unlink())
    finally:
        subprocess.run(["umount", path], check=True)


@contextlib.contextmanager
def limited_files(path: Path) -> Iterator[Disk]:
    """Let no file of the process grow: every user can have a full disk that way."""

    def fill(local: LocalProcess) -> None:
        largest = max(file.stat().st_size for file in path.iterdir())
        resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    def free(local: LocalProcess) -> None:
        if local.process.poll() is None:
            resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE, NO_LIMIT)

    yield Disk(path, fill, free)


@pytest.fixture(params=[small_disk, limited_files])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """Give a disk that can be filled."""
    with request.param(tmp_path) as disk:
        yield disk


def write_until_refused(kms: Any) -> tuple[list[str], ClientError]:
    """Make keys until one is refused; return those that were acknowledged, and the refusal."""
    acknowledged = []
    for _ in range(MOST_KEYS):
        try:
            acknowledged.append(kms.create_key()["KeyMetadata"]["KeyId"])
        except ClientError as error:
            return acknowledged, error
    raise AssertionError("the disk never got full")


def list_keys(kms: Any) -> set[str]:
    """Return the ids of all keys."""
    pages = kms.get_paginator("list_keys").paginate()
    return {key["KeyId"] for page in pages for key in page["Keys"]}


def test_full_disk_refuses_writes_and_loses_nothing(disk: Disk, start_local: Starter) -> None:
    """Refused writes left no trace, reads and decryption went on, writes do once there is room."""
    local = start_local("--data-dir", disk.directory)
    kms = local.client()
    first = kms.create_key()["KeyMetadata"]["KeyId"]
    data = kms.generate_data_key(KeyId=first, KeySpec="AES_256")
    disk.fill(local)
    acknowledged, refusal = write_until_refused(kms)
    answer = refusal.response
    assert answer["Error"] == {
        "Code": "DependencyTimeoutException",
        "Message": "the data directory can't be written",
    }
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 500
    with pytest.raises(ClientError):
        kms.disable_key(KeyId=first)
    assert kms.describe_key(KeyId=first)["KeyMetadata"]["KeyState"] == "Enabled"
    assert list_keys(kms) == {first, *acknowledged}
    assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"])["Plaintext"] == data["Plaintext"]
    made_while_full = kms.generate_data_key(KeyId=first, KeySpec="AES_256")
    disk.free(local)
    kms.disable_key(KeyId=first)
    later = [kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(3)]
    kms.enable_key(KeyId=first)
    local.kill()
    kms = start_local("--data-dir", disk.directory).client()
    assert list_keys(kms) == {first, *acknowledged, *later}
    for made in (data, made_while_full):
        assert kms.decrypt(CiphertextBlob=made["CiphertextBlob"])["Plaintext"] == made["Plaintext"]


def test_a_process_killed_on_a_full_disk_starts_once_there_is_room(disk: Disk, start_local: Starter) -> None:
    """All that was acknowledged before the disk was full is there."""
    local = start_local("--data-dir", disk.directory)
    kms = local.client()
    before = {kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(5)}
    disk.fill(local)
    acknowledged, _ = write_until_refused(kms)
    local.kill()
    disk.free(local)
    assert list_keys(start_local("--data-dir", disk.directory).client()) == {*before, *acknowledged}


def test_a_start_on_a_full_disk_is_refused_in_one_line(tmp_path: Path, start_local: Starter) -> None:
    """It names the database and the cause; with room it starts with all keys."""
    with small_disk(tmp_path) as disk:
        local = start_local("--data-dir", disk.directory)
        key = local.client().create_key()["KeyMetadata"]["KeyId"]
        local.kill()
        disk.fill(local)
        second = start("--listen", "127.0.0.1:0", "--data-dir", disk.directory)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert errors.startswith(f"can't start: {disk.directory}/us-east-1.sqlite can't be used: ")
        assert errors.count("\n") == 1
        assert "full" in errors
        disk.free(local)
        third = start_local("--data-dir", disk.directory)
        assert list_keys(third.client()) == {key}
        assert third.stop() == 0
