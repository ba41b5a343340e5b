"""The end of a data key's lifetime, written where a restart of this container finds it again.

Zone: no secrets: names and times. A mark is a symbolic link to nowhere in the memory-backed volume; its text
is the time: it appears in one step, needs no page of the volume's limit, and goes with the pod.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH104, PTH108, PTH115, PTH211

import os
import time

#: A time that is always past.
OVER = 0.0
_MILLISECONDS = 1000


def read_boot_clock() -> float:
    """Return the seconds since the node's start, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_mark(directory: str, name: str) -> float | None:
    """Return the end of a lifetime in seconds since boot (CLOCK_BOOTTIME); None if it has none yet.

    What can't be read counts as over.
    """
    try:
        text = os.readlink(_build_path(directory, name))
    except FileNotFoundError:
        return None
    except OSError:
        return OVER
    return int(text) / _MILLISECONDS if text.isascii() and text.isdecimal() else OVER


def write_mark(directory: str, name: str, end: float) -> None:
    """Write the end of a lifetime, in seconds since boot, in place of an earlier one."""
    # A name never starts with these characters.
    temporary = f"{directory}/.+{name}"
    remove_file(temporary)
    os.symlink(str(int(end * _MILLISECONDS)), temporary)
    os.rename(temporary, _build_path(directory, name))


def remove_file(path: str) -> None:
    """Remove a file or link, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _build_path(directory: str, name: str) -> str:
    return f"{directory}/.~{name}"
