"""Looks for bytes in the memory of a process, as somebody who has taken over its node could."""

import os
import re
from pathlib import Path

_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ \S+ *(.*)")
_STEP = 1 << 22


def find_in_memory(pid: int, needle: bytes) -> list[str]:
    """Return the name (or protection, if it has none) of every readable mapping that holds the bytes.

    Raises:
        OSError: There is no such process, or this one may not read it.
    """
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = _MAP.match(line)
            if match and match[3].startswith("r") and match[4] not in ("[vvar]", "[vsyscall]"):
                start, end = int(match[1], 16), int(match[2], 16)
                if _holds(memory.fileno(), start, end, needle):
                    found.append(match[4] or match[3])
    return found


def read_proportional_size(pid: int) -> int:
    """Return the proportional set size of a process in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))


def find_children(pid: int) -> list[int]:
    """Return the children of a process with one thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _holds(fd: int, start: int, end: int, needle: bytes) -> bool:
    kept = b""
    for offset in range(start, end, _STEP):
        try:
            data = os.pread(fd, min(_STEP, end - offset), offset)
        except OSError:
            # The mapping went, or has no pages behind it.
            return False
        if needle in kept + data:
            return True
        kept = data[1 - len(needle) :]
    return False
