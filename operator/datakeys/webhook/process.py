"""What the process asks of the system before it serves. Zone: no secrets."""

import ctypes
import resource
from typing import Final

#: One for each connection, and some for calls of the API server.
_OPEN_FILES: Final = 4096
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BLOCK_BYTES: Final = 128 * 1024


def allow_open_files() -> None:
    """Raise the soft limit of open files: many container runtimes start processes with 1,024.

    Source: getrlimit(2), RLIMIT_NOFILE.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_back_memory() -> None:
    """Let the C library give large bodies back to the system as soon as they are free.

    After the first of them it would keep up to 64 MiB. Without effect elsewhere than on Linux with glibc.
    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
