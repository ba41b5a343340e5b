"""What the demo prints."""

import sys
import time

STEPS = 9
_START = time.monotonic()
_COLOUR = sys.stdout.isatty()


def _paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOUR else text


def step(number: int, title: str) -> None:
    """Announce a step, with the seconds since the start."""
    print(_paint("1;36", f"\n[{number}/{STEPS}] {title}  ({time.monotonic() - _START:.0f} s)"), flush=True)


def show(text: str) -> None:
    """Print real output, indented."""
    for line in text.rstrip().splitlines():
        print(f"    {line}", flush=True)


def good(text: str) -> None:
    """Print something that was proven."""
    print(_paint("32", f"  ✓ {text}"), flush=True)


def fail(text: str) -> None:
    """Print why the demo stopped."""
    print(_paint("1;31", f"\n  ✗ {text}"), file=sys.stderr, flush=True)


def done(text: str) -> None:
    """Print the closing words."""
    print(_paint("1;32", f"\nDone in {time.monotonic() - _START:.0f} s."), flush=True)
    print(text, flush=True)
