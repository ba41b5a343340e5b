"""JSON lines on standard error. Zone: names and reasons; no level prints a body."""

import logging
import sys
from typing import Final

from pythonjsonlogger.json import JsonFormatter

#: Below INFO these print bodies of objects and of requests.
_NEVER_BELOW_INFO: Final = ("kopf", "aiohttp", "asyncio", "kubernetes")


def configure_logging(level: str) -> None:
    """Send all log lines to standard error as JSON; ``level`` is for this project's own lines."""
    formatter = JsonFormatter(
        "{asctime}{levelname}{name}{message}",
        style="{",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    logging.getLogger("datakeys").setLevel(level)
    for name in _NEVER_BELOW_INFO:
        logging.getLogger(name).setLevel(logging.INFO)
