"""Structured logs: one JSON object per line. Zone: no secrets; never a pod's body, only its names."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

_FIELDS: Final = "datakeys_fields"

logger: Final = logging.getLogger("datakeys.webhook")


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON; of an exception only the type, since a message could quote a body."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str) -> None:
    """Send this process's logs to standard output; libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # It calls each stranger's bad HTTP an error; what goes wrong here is caught and logged in `admission`.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logger.setLevel(logging.getLevelNamesMapping().get(level, logging.INFO))


def log_event(event: str, *, level: int = logging.INFO, **fields: str | int | None) -> None:
    """Log one event with fields."""
    logger.log(level, event, extra={_FIELDS: fields})
