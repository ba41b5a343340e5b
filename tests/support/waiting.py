"""Waits for what is the case a little later. Zone: tests.

The limits are for a machine that is many times slower than ours; who waits goes on as soon as it can.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

WAIT_SECONDS: Final = 120.0
#: How long nothing may happen before something counts as being at rest.
REST_SECONDS: Final = 2.0
T = TypeVar("T")


def eventually(check: Callable[[], bool], seconds: float = WAIT_SECONDS) -> bool:
    """Return whether something becomes so within a time, in seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return check()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It isn't so in time.
    """
    if not eventually(condition):
        raise TimeoutError(f"not after {WAIT_SECONDS:.0f} seconds: {what}")


def read_at_rest(read: Callable[[], T]) -> T:
    """Return what is read once that stays the same for a while.

    Raises:
        TimeoutError: It never does.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    former = read()
    while time.monotonic() < deadline:
        time.sleep(REST_SECONDS)
        if (present := read()) == former:
            return present
        former = present
    raise TimeoutError(f"not at rest after {WAIT_SECONDS:.0f} seconds: {former}")
