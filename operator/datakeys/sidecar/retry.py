"""How long to wait before a data key is asked for again; pure. Zone: no secrets, no clock, no randomness.

Nothing is given up: a human can repair a final error (a grant, an enabled key) while the app still waits.
"""

#: The outcome of one attempt: delivered; a file isn't there yet; may pass by itself; somebody must act.
OK = "ok"
WAIT = "wait"
RETRY = "retry"
FINAL = "final"

#: Outcome -> first delay and longest delay, in seconds.
_DELAYS = {WAIT: (0.1, 2.0), RETRY: (0.25, 10.0), FINAL: (5.0, 30.0)}
_MAX_DOUBLINGS = 16


def decide_delay(outcome: str, attempt: int, *, jitter: float) -> float:
    """Return the delay in seconds before the next attempt.

    Args:
        outcome: ``wait``, ``retry`` or ``final``; anything else counts as ``retry``.
        attempt: How many attempts in a row had this outcome, from 1.
        jitter: 0..1; spreads pods that were started together over half of the delay.
    """
    first, longest = _DELAYS.get(outcome, _DELAYS[RETRY])
    delay = min(longest, first * (1 << min(attempt - 1, _MAX_DOUBLINGS)))
    return delay * (0.5 + 0.5 * jitter)
