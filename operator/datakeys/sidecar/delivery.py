"""Where a data key lies: one file per request in the pod's memory-backed volume.

Zone: the volume holds this pod's plaintext, this process only descriptors of it. The child writes the bytes,
the kernel moves them; nothing here reads them. With delivery ``socket`` the file has no name from the start,
so it ends with the process.

A data key may have an end: by time, or by its first read. Then it is overwritten, and a mark that holds no
secret keeps it from coming back, even after a restart of this container.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH104, PTH123

import os
import stat

from datakeys.sidecar.lifetime import OVER, remove_file, write_mark

_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC


class Slot:
    """A place for one data key: empty, being written by the child, delivered, or gone.

    Attributes:
        ready: It is delivered, and can be read from ``fd``.
        gone: Its lifetime is over: this process never delivers it again.
    """

    __slots__ = ("directory", "fd", "file_mode", "gone", "name", "named", "reads_once", "ready", "size")

    def __init__(
        self, directory: str, name: str, *, named: bool, file_mode: int = 0o400, reads_once: bool = False
    ) -> None:
        self.directory = directory
        self.name = name
        self.named = named
        self.file_mode = file_mode
        self.reads_once = reads_once
        self.fd = -1
        self.size = 0
        self.ready = False
        self.gone = False

    @property
    def path(self) -> str:
        """Return the path the app reads."""
        return f"{self.directory}/{self.name}"

    @property
    def _temporary_path(self) -> str:
        # A request name never starts with a dot.
        return f"{self.directory}/.{self.name}"

    def open(self) -> int:
        """Make an empty file that its owner alone can read and return its inheritable descriptor."""
        self.close()
        remove_file(self._temporary_path)
        self.fd = os.open(self._temporary_path, _CREATE, 0o400)
        os.set_inheritable(self.fd, True)  # noqa: FBT003 - takes it by position only
        if not self.named:
            remove_file(self._temporary_path)
        return self.fd

    def publish(self) -> bool:
        """Show the written file to the app in one step; return False if there is no key in it to show."""
        self.size = os.fstat(self.fd).st_size
        if not self.size:
            return False
        os.set_inheritable(self.fd, False)  # noqa: FBT003
        if self.named:
            if self.reads_once and not _take_lease(self.fd):
                return False
            os.fchmod(self.fd, self.file_mode)
            os.rename(self._temporary_path, self.path)
        self.ready = True
        return True

    def note_read(self) -> None:
        """Take notice that the app got the whole data key over the socket; ends it if it may be read once."""
        if self.reads_once:
            self.end()

    def hide(self) -> None:
        """Take the file's name away, so that only those who have opened it read it; mark it as read."""
        # The mark comes first: a kill in between costs the app its key, not the promise.
        write_mark(self.directory, self.name, OVER)
        remove_file(self.path)

    def end(self) -> None:
        """End the lifetime: overwrite the data key, and mark it so that it never comes back."""
        write_mark(self.directory, self.name, OVER)
        self.close()
        self.gone = True

    def close(self) -> None:
        """Overwrite and drop what was written and not (or no longer) delivered."""
        if self.fd < 0:
            return
        if self.named:
            remove_file(self.path if self.ready else self._temporary_path)
        _overwrite(self.fd)
        os.close(self.fd)
        self.fd, self.size, self.ready = -1, 0, False


def remove_leftovers(directory: str, names: list[str]) -> None:
    """Overwrite and remove what a killed predecessor of this container has left under these names.

    Not called at start for a data key that still lives: the app may be running, and a new file replaces the
    old one by rename.
    """
    for path in [f"{directory}/{prefix}{name}" for name in names for prefix in ("", ".")]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        remove_file(path)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
            writable = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
            _overwrite(writable)
            os.close(writable)
        os.close(fd)


def is_memory_backed(directory: str, mounts: str) -> bool:
    """Return whether a folder lies on a tmpfs.

    Args:
        directory: Absolute path without symbolic links.
        mounts: Text of ``/proc/self/mounts``. Source: proc(5).
    """
    return _find_mount(directory, mounts)[0] == "tmpfs"


def is_swappable(directory: str, mounts: str, swaps: str) -> bool:
    """Return whether a tmpfs may be written to a swap area of the node.

    Args:
        directory: Absolute path without symbolic links.
        mounts: Text of ``/proc/self/mounts``.
        swaps: Text of ``/proc/swaps``: a heading, then one line per area. Source: proc(5).
    """
    return len(swaps.splitlines()) > 1 and "noswap" not in _find_mount(directory, mounts)[1].split(",")


def check_directory(directory: str) -> str:
    """Check that plaintext put here stays in memory.

    Returns:
        What a person should do about it nevertheless, or "".

    Raises:
        ValueError: The folder isn't on a tmpfs, or this user can't write to it.
    """
    path, mounts = os.path.realpath(directory), _read_text("/proc/self/mounts")
    if not is_memory_backed(path, mounts):
        raise ValueError(f"{directory} is not a memory-backed volume (tmpfs)")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ValueError(f"user {os.getuid()} can't write to {directory}")
    if is_swappable(path, mounts, _read_text("/proc/swaps")):
        return "turn swap off on this node, or use Linux 6.3 or newer, which can keep the volume out of swap"
    return ""


def _find_mount(directory: str, mounts: str) -> tuple[str, str]:
    """Return file system and options of the mount that a folder lies on."""
    best, kind, options = "", "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:  # noqa: PLR2004
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        covers = point in ("/", directory) or directory.startswith(point + "/")
        # Of two mounts at one place the later one is on top.
        if covers and len(point) >= len(best):
            best, kind, options = point, fields[2], fields[3]
    return kind, options


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _take_lease(fd: int) -> bool:
    # Imported here: only data keys that may be read once pay for it.
    from datakeys.sidecar.lease import take_lease  # noqa: PLC0415

    return take_lease(fd)


def _overwrite(fd: int) -> None:
    """Overwrite a file of at most one page, which is more than a data key has, and leave it empty.

    The file is shortened first, and the kernel itself zeroes the rest of the page: an app that still has it
    open finds too few bytes, and never takes zeros for its key. Source: truncate(2).
    """
    if os.fstat(fd).st_size:
        os.ftruncate(fd, 1)
        os.pwrite(fd, b"\0", 0)
        os.ftruncate(fd, 0)
