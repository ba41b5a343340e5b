"""The HTTP/1.1 server of the key service: listen, sweep timeouts, drain.

Zone: key service, network edge. It sees requests and answers pass, which may hold tokens and data keys;
it logs none, and keeps only the last head of each open connection. TLS is the caller's
``ssl.SSLContext``. See docs/adr/0003.
"""

import asyncio
import contextlib
import ssl
import time
from typing import Final

from datakeys.keyservice.server.http_connection import HttpConnection
from datakeys.keyservice.server.http_connection_life import ServerState
from datakeys.keyservice.server.http_deadlines import Deadlines, Phase
from datakeys.keyservice.server.http_listener import Listener
from datakeys.keyservice.server.http_messages import (
    Handler,
    HttpCounters,
    HttpLimits,
    HttpRequest,
    HttpResponse,
)
from datakeys.keyservice.server.http_responses import build_date_line

__all__ = ["Handler", "HttpCounters", "HttpLimits", "HttpRequest", "HttpResponse", "HttpServer"]

_CLOSE_SECONDS: Final = 2.0
_LONGEST_SWEEP_SECONDS: Final = 1.0
_SWEEPS_PER_TIMEOUT: Final = 8


def _build_durations(limits: HttpLimits) -> dict[Phase, float]:
    return {
        Phase.IDLE: limits.idle_timeout_seconds,
        Phase.HEADER: limits.header_timeout_seconds,
        Phase.BODY: limits.body_timeout_seconds,
        Phase.WRITE: limits.write_timeout_seconds,
        Phase.CLOSE: min(_CLOSE_SECONDS, limits.write_timeout_seconds),
    }


def _require_modern_tls(context: ssl.SSLContext | None) -> None:
    if context is not None and context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError("the TLS context must refuse versions before 1.2")


class HttpServer:
    """One listening socket with its connections.

    The server needs a running loop of uvloop for its speed, but works on any asyncio loop. All methods
    are for the loop's own thread.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        *,
        ssl_context: ssl.SSLContext | None = None,
        backlog: int = 1024,
    ) -> None:
        """Prepare a server that doesn't listen yet.

        Args:
            handler: called once per request, in the connection's order. What it raises becomes a 500.
            limits: what one client may cost.
            ssl_context: TLS 1.2 or later. A certificate loaded into it later serves new connections.
            backlog: connections that the kernel holds before they are accepted.

        Raises:
            ValueError: the context allows TLS before 1.2.
        """
        _require_modern_tls(ssl_context)
        self._backlog = backlog
        self._durations = _build_durations(limits)
        self._sweeper: asyncio.TimerHandle | None = None
        self._state = ServerState(
            handler=handler,
            limits=limits,
            counters=HttpCounters(),
            deadlines=Deadlines(self._durations, time.monotonic),
            date_line=build_date_line(time.time()),
        )
        self._listener = Listener(
            lambda: HttpConnection(self._state),
            ssl_context=ssl_context,
            handshake_seconds=limits.handshake_timeout_seconds,
            shutdown_seconds=_CLOSE_SECONDS,
            max_handshakes=limits.max_handshakes,
            on_dropped=self._count_dropped,
        )

    @property
    def counters(self) -> HttpCounters:
        """Return the live totals."""
        return self._state.counters

    @property
    def open_connections(self) -> int:
        """Return how many connections are open or still have a handler at work."""
        return len(self._state.connections)

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen on an address, and return the bound port (a new one if ``port`` is 0).

        Args:
            host: IP address to bind, or a name, of which the first address is bound.
            port: TCP port, or 0.
            reuse_port: several processes may share the port (SO_REUSEPORT).

        Raises:
            RuntimeError: the server was started before.
            OSError: the address can't be bound.
        """
        if self._listener.is_used:
            raise RuntimeError("the server was started before")
        bound = await self._listener.open(host, port, backlog=self._backlog, reuse_port=reuse_port)
        self._sweep()
        return bound

    async def drain(self, grace_seconds: float) -> None:
        """Stop accepting, finish what is in flight, close what is idle; then cut what is left.

        Args:
            grace_seconds: time for requests in flight. Handlers that still run after it are cancelled.
        """
        state = self._state
        state.draining = True
        self._listener.close()
        for connection in list(state.connections):
            connection.drain()
        await self._wait_until_empty(grace_seconds)
        self._listener.cut()
        for connection in list(state.connections):
            connection.cut()
        await self._wait_until_empty(_CLOSE_SECONDS)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _count_dropped(self) -> None:
        self._state.counters.evicted += 1

    async def _wait_until_empty(self, seconds: float) -> None:
        state = self._state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while state.connections:
                    state.emptied.clear()
                    await state.emptied.wait()

    def _sweep(self) -> None:
        """End what is overdue; the server's only timer. A timeout is late by at most an eighth of it."""
        state = self._state
        state.date_line = build_date_line(time.time())
        for connection, phase in state.deadlines.pop_due():
            connection.time_out(phase)
        interval = min(_LONGEST_SWEEP_SECONDS, min(self._durations.values()) / _SWEEPS_PER_TIMEOUT)
        self._sweeper = asyncio.get_running_loop().call_later(interval, self._sweep)
