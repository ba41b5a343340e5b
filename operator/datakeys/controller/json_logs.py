"""JSON lines on standard error. Zone: names and reasons; no level prints a body.

Fields are allowed one by one: what a framework attaches to its records (settings, objects) is left out.
"""

import logging
import sys
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

#: The fields that log calls of this project may give with ``extra``.
FIELDS: Final = (
    "attempt",
    "error",
    "identity",
    "kinds",
    "namespace",
    "object",
    "reason",
    "resource",
)
#: Below INFO these print bodies of objects and of requests; kopf tells about every call of a handler at INFO.
_LEVELS: Final = {
    "kopf": logging.INFO,
    "kopf.objects": logging.WARNING,
    "aiohttp": logging.INFO,
    "asyncio": logging.INFO,
    "kubernetes": logging.INFO,
}
_EXCEPTION_FIELDS: Final = ("exc_info", "stack_info")


class AllowedFieldsFormatter(JsonFormatter):
    """Formats the message and the allowed fields."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Drop every field that isn't allowed."""
        allowed = {"time", "level", "logger", "message", *FIELDS, *_EXCEPTION_FIELDS}
        return {name: value for name, value in log_data.items() if name in allowed}


def build_formatter() -> logging.Formatter:
    """Return the formatter of all log lines."""
    return AllowedFieldsFormatter(
        "{asctime}{levelname}{name}{message}",
        style="{",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


def configure_logging(level: str) -> None:
    """Send all log lines to standard error as JSON; ``level`` is for this project's own lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(build_formatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    logging.getLogger("datakeys").setLevel(level)
    for name, floor in _LEVELS.items():
        logging.getLogger(name).setLevel(floor)
