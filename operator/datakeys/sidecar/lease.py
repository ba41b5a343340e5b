"""A file's write lease: the kernel holds up whoever opens the file until its holder gives way.

Zone: descriptors only. ``fcntl`` is all it takes; inotify would need ``ctypes``, and tells of an open only
after it has happened. Source: fcntl(2), section "Leases".
"""

import errno
import fcntl
import os

from datakeys.sidecar.lifetime import remove_file


def take_lease(fd: int) -> bool:
    """Take the lease of a file; return False if anybody else has it open or mapped.

    Raises:
        OSError: The file system or the kernel grants no leases.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise
    return True


def is_broken(fd: int) -> bool:
    """Return whether somebody waits for the lease, or has waited in vain until the kernel took it away."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK


def release_lease(fd: int) -> None:
    """Let those who wait open the file."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def check_leases(directory: str) -> None:
    """Check that leases are granted here.

    Raises:
        ValueError: They aren't: delivery can't tell who reads a file.
    """
    path = f"{directory}/.+"
    remove_file(path)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        take_lease(fd)
    except OSError as error:
        raise ValueError(
            f"DATAKEYS_READS once needs file leases, which {directory} doesn't grant ({error.strerror}): "
            "use delivery socket"
        ) from None
    finally:
        os.close(fd)
        remove_file(path)
