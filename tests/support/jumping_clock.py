"""A clock that a test moves while a process runs. Zone: tests.

By libfaketime of the Debian package faketime: the process asks the C library for the time, which answers what
a file says. Only the wall clock is moved, as when somebody sets a machine's time; monotonic clocks go on.
"""

from pathlib import Path
from typing import Final

import pytest

from live_files import replace_text

_LIBRARIES: Final = "usr/lib/*/faketime/libfaketimeMT.so.1"


class JumpingClock:
    """The clock of one process, which is started with ``environment``."""

    def __init__(self, file: Path) -> None:
        found = sorted(Path("/").glob(_LIBRARIES))
        if not found:
            pytest.skip("libfaketime isn't installed: python -m testcluster packages")
        self._file = file
        self.jump(0)
        self.environment: Final = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: int) -> None:
        """Set the clock this much ahead of the right time, or behind it."""
        replace_text(self._file, f"{seconds:+d}\n")
