"""Run the local mode: one port, plain HTTP, until SIGTERM or SIGINT.

Zone: holds every part; decides nothing.
"""

import asyncio
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvloop

from datakeys.keyservice.local.arguments import Arguments, parse_arguments
from datakeys.keyservice.local.data_directory import DataDirectory, DataDirectoryError
from datakeys.keyservice.local.regions import Regions
from datakeys.keyservice.process import configure_logging, forbid_dumps
from datakeys.keyservice.server.health import Health
from datakeys.keyservice.server.http import HttpLimits, HttpRequest, HttpResponse, HttpServer
from datakeys.keyservice.server.metrics import RequestMetrics

_LOG: Final = logging.getLogger("datakeys.keyservice.local")
_WORKERS: Final = 4
#: For requests that are being answered when the process is told to end.
_GRACE_SECONDS: Final = 1.0
#: A key policy of 131,072 characters is the largest member.
_MAX_BODY_BYTES: Final = 192 * 1024


def main() -> int:
    """Run the local mode; return the exit code."""
    return run(sys.argv[1:])


def run(command_line: Sequence[str]) -> int:
    """Run the local mode with a command line; return the exit code.

    Raises:
        SystemExit: The command line is wrong, or asks for help.
    """
    arguments = parse_arguments(command_line)
    if sys.platform == "linux":
        forbid_dumps()
    os.umask(0o077)
    configure_logging("WARNING")
    directory = None
    try:
        if arguments.data_directory is not None:
            directory = DataDirectory(arguments.data_directory)
        return 0 if uvloop.run(LocalApp(arguments, directory).run()) else 1
    except (DataDirectoryError, OSError) as error:
        sys.stderr.write(f"can't start: {error}\n")
        return 1


class LocalApp:
    """The process of the local mode."""

    def __init__(self, arguments: Arguments, directory: DataDirectory | None) -> None:
        self._arguments = arguments
        self._directory = directory
        self._stopping = asyncio.Event()
        self._failed = False

    async def run(self) -> bool:
        """Serve until told to stop; False if a background task failed.

        Raises:
            DataDirectoryError: A database can't be opened.
            OSError: The address can't be bound.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="store")
        # There is no audit in the local mode: records would say nothing but "root".
        audit_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        metrics = RequestMetrics()
        regions = Regions(self._arguments, self._directory, audit_fd, metrics, executor, self._note_end)
        health = Health(metrics)
        health.ready = True

        def handle(request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
            return regions.handle(request) if request.method == "POST" else health.handle(request)

        server = HttpServer(handle, HttpLimits(max_body_bytes=_MAX_BODY_BYTES))
        host = await self._resolve_host()
        port = await server.start(host, self._arguments.listen.port)
        self._announce(host, port)
        await self._stopping.wait()
        await server.drain(_GRACE_SECONDS)
        executor.shutdown(wait=False, cancel_futures=True)
        regions.close()
        return not self._failed

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        """Stop the process if a background task fails: without it the service isn't right any more."""
        if not task.cancelled():
            _LOG.critical("background task failed", extra={"error_type": type(task.exception()).__name__})
            self._failed = True
            self._stopping.set()

    async def _resolve_host(self) -> str:
        """Return one address: a name with several would get another free port on each.

        Raises:
            OSError: The name isn't known.
        """
        listen = self._arguments.listen
        found = await asyncio.get_running_loop().getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM
        )
        return str(min(found)[4][0])

    def _announce(self, host: str, port: int) -> None:
        """Print the one line that a starter waits for."""
        arguments = self._arguments
        shown = f"[{host}]" if ":" in host else host
        line = {
            "event": "ready",
            "endpoint": f"http://{shown}:{port}",
            "port": port,
            "account": arguments.account,
            "region": arguments.region,
            "dataDir": None if arguments.data_directory is None else str(arguments.data_directory),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if not ipaddress.ip_address(host).is_loopback:
            _LOG.warning("anybody who can reach this address can use the keys", extra={"host": host})
