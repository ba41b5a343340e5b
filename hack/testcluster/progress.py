"""What the person at the terminal sees: one line per step, with the time it took."""

import sys
import time
from collections.abc import Callable, Iterator
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
    say(f"{title} …")
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{title}: FAILED after {time.monotonic() - started:.1f} s")
        raise
    say(f"{title}: {time.monotonic() - started:.1f} s")


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented, for an error message."""
    if not log.exists():
        return f"    (no log at {log})"
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line[:300]}" for line in text) + f"\n    (from {log})"


def wait_until(
    what: str, holds: Callable[[], bool], within_seconds: float, otherwise: Callable[[], str]
) -> None:
    """Poll until a condition holds.

    Raises:
        TestclusterError: It does not hold in time; `otherwise` gives the details for the message.
    """
    deadline = time.monotonic() + within_seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TestclusterError(f"{what}: not within {within_seconds:.0f} s\n{otherwise()}")
        time.sleep(0.1)
