"""How long to wait before the next attempt. Zone: no secrets, no I/O; randomness is an argument."""

from typing import Final

#: Attempts that fail quietly: a blip of the key service or a lagging watch makes no write.
QUIET_ATTEMPTS: Final = 4
QUIET_BASE_SECONDS: Final = 0.1
BASE_SECONDS: Final = 1.0
CAP_SECONDS: Final = 300.0


def is_quiet(attempt: int) -> bool:
    """Return whether a failed attempt, counted from 1, is still kept in memory only."""
    return attempt <= QUIET_ATTEMPTS


def backoff_seconds(attempt: int, fraction: float) -> float:
    """Return the pause after a failed attempt, in seconds.

    It doubles from attempt to attempt up to 5 minutes; the upper half is random, so that many requests
    that failed together don't come back together.

    Args:
        attempt: The attempt that failed, counted from 1.
        fraction: A random number in 0..1.
    """
    if is_quiet(attempt):
        full = QUIET_BASE_SECONDS * 2.0**attempt
    else:
        full = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempt - QUIET_ATTEMPTS, 16))
    return full * (0.5 + fraction / 2)
