"""One JSON line per event on standard output. Zone: no secrets: names, codes and advice only.

Written by hand, since ``json`` and ``logging`` cost the resident process more memory than its own code.
"""

import os
import time

INFO = 20
WARNING = 30
ERROR = 40
_LEVEL_NAMES = {INFO: "info", WARNING: "warning", ERROR: "error"}


def format_event(event: str, fields: dict[str, str | int], *, level: int, now: float) -> str:
    """Return the line without its line feed; ``now`` is in seconds since the epoch."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    pairs: dict[str, str | int] = {
        "time": stamp,
        "level": _LEVEL_NAMES.get(level, "info"),
        "event": event,
        **fields,
    }
    return "{" + ", ".join(f'"{_clean(key)}": {_format_value(value)}' for key, value in pairs.items()) + "}"


def _format_value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f'"{_clean(value)}"'


def _clean(text: str) -> str:
    """Return the text with everything replaced that JSON would have to escape."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)


class EventLog:
    """Writes events of at least one level to a file descriptor."""

    __slots__ = ("fd", "level")

    def __init__(self, level: int, fd: int = 1) -> None:
        self.level = level
        self.fd = fd

    def write(self, event: str, level: int = INFO, **fields: str | int) -> None:
        """Write one event; a closed log never stops a delivery."""
        if level < self.level:
            return
        try:
            os.write(self.fd, format_event(event, fields, level=level, now=time.time()).encode() + b"\n")
        except OSError:
            return
