"""What the person at the terminal sees: one line per step, with the time it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TestclusterError(Exception):
    """A step failed; the text is meant for the person at the terminal."""

    __test__ = False  # the name looks like a test class to pytest


def say(text: str) -> None:
    """Print a line to standard error: standard output is for answers such as paths."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step and report its duration, also when it fails."""
    print(f"{title} … ", end="", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"FAILED after {time.monotonic() - started:.1f} s")
        raise
    say(f"{time.monotonic() - started:.1f} s")


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented, for an error message."""
    if not log.exists():
        return f"    (no log at {log})"
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line[:300]}" for line in text) + f"\n    (from {log})"
