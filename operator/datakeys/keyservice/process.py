"""What this process sets up for itself: no core dumps, logs as JSON.

Zone: no secrets. A core dump or a debugger of the same user could read key material, so both are switched
off. Source: prctl(2), PR_SET_DUMPABLE; setrlimit(2), RLIMIT_CORE.
"""

import ctypes
import json
import logging
import resource
import sys
import time
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_GET_DUMPABLE: Final = 3
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BLOCK_BYTES: Final = 128 * 1024
#: More than the server's connections and handshakes together.
_OPEN_FILES: Final = 8192
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))


def forbid_dumps() -> None:
    """Make the process undumpable: no core file and no other process of its user can read its memory.

    Raises:
        OSError: The kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process can't be made undumpable")


def give_back_memory() -> None:
    """Let the C library give large blocks back to the system as soon as they are free.

    The buffers of a TLS connection are 256 KiB each, of which little is used; kept for later, they would be
    filled bit by bit, and a flood of connections would leave its mark. Without effect elsewhere than on Linux
    with glibc. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def allow_open_files() -> None:
    """Raise the soft limit of open files: many container runtimes start processes with 1,024.

    Each connection is one. Without room for as many as the server admits, the slow would keep others out.
    Source: getrlimit(2), RLIMIT_NOFILE.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event and the record's extra fields.

    Tracebacks are shortened to type and place: an exception's text could quote a value.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {
            key: value for key, value in vars(record).items() if key not in _STANDARD and key != "message"
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error_type"] = record.exc_info[0].__name__
            line["frames"] = _frames(record.exc_info[2])
        return json.dumps(line, default=str)


def configure_logging(level: str) -> None:
    """Log to standard error. Libraries that log requests or headers stay at WARNING whatever the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("urllib3", "kubernetes", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _frames(traceback: object) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code  # type: ignore[attr-defined]
        frames.append(f"{code.co_filename}:{traceback.tb_lineno}")  # type: ignore[attr-defined]
        traceback = traceback.tb_next  # type: ignore[attr-defined]
    return frames
