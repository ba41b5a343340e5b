"""The data directory: one process at a time, and the root key in a file.

Zone: the root key's bytes pass through `load_root_key` and nowhere else in this package. The directory is as
secret as the keys: whoever reads it has them.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.root_key import ROOT_KEY_BYTES, RootKey

LOCK_FILE: Final = "lock"
ROOT_KEY_FILE: Final = "root.key"
DATABASE_SUFFIX: Final = ".sqlite"

_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700
_OTHERS: Final = 0o077


class DataDirectoryError(RuntimeError):
    """The data directory can't be used; the text says why and what to do. It is made for people."""


class DataDirectory:
    """A directory that belongs to this process until it ends."""

    def __init__(self, path: Path) -> None:
        """Make the directory if needed and take its lock, which the kernel frees when the process ends.

        Raises:
            DataDirectoryError: Another process has it, or it can't be made.
        """
        self.path: Final = path
        try:
            path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
        except OSError as error:
            raise DataDirectoryError(f"{path} can't be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise DataDirectoryError(
                f"{path} is in use by another key service (process {holder}); "
                "stop it, or choose another --data-dir"
            ) from None
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the directory free."""
        os.close(self._lock)

    def database(self, region: str) -> Path:
        """Return the path of a Region's database."""
        return self.path / f"{region}{DATABASE_SUFFIX}"

    def list_regions(self) -> list[str]:
        """Return the Regions that have a database."""
        return sorted(path.stem for path in self.path.glob(f"*{DATABASE_SUFFIX}"))

    def load_root_key(self, random: RandomSource) -> RootKey:
        """Return the root key; make it in a directory that has no database yet.

        Raises:
            DataDirectoryError: It is missing though there are databases, malformed, or readable for others.
        """
        path = self.path / ROOT_KEY_FILE
        try:
            if not path.exists():
                if self.list_regions():
                    raise DataDirectoryError(
                        f"{path} is missing, and without it nothing in {self.path} can be read: restore it, "
                        "or choose an empty --data-dir"
                    )
                self._write_root_key(path, random(ROOT_KEY_BYTES))
            if path.stat().st_mode & _OTHERS:
                raise DataDirectoryError(f"{path} is open to other users: run chmod 600 {path}")
            return RootKey(path.read_bytes())
        except ValueError:
            raise DataDirectoryError(f"{path} doesn't hold a root key of {ROOT_KEY_BYTES} bytes") from None
        except OSError as error:
            raise DataDirectoryError(f"{path} can't be used: {error.strerror}") from None

    def _write_root_key(self, path: Path, secret: bytes) -> None:
        """Write the root key so that after a crash it is there whole or not at all."""
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
        try:
            os.write(file, secret)
            os.fsync(file)
        finally:
            os.close(file)
        draft.rename(path)
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
