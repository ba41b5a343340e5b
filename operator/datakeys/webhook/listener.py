"""A listening socket with bounds of number, time and memory before aiohttp's HTTP server.

Zone: no secrets; any pod may connect here. Source: accept(2), "Error handling"; asyncio, "Transports and
Protocols".
"""

import asyncio
import contextlib
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Coroutine
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from datakeys.webhook.connections import Connections, Limits, Place

HANDSHAKE_SECONDS: Final = 5.0
#: From a request's first byte to its last, however steadily it drips; and until an answer is read.
REQUEST_SECONDS: Final = 20.0
#: Between two requests, and before the first. An API server closes its idle connections after 90 s: it, not
#: the webhook, so that none of its reviews meets a connection that is just closed.
IDLE_SECONDS: Final = 120.0
_FINISH_SECONDS: Final = 10.0
#: What is read at once, and so the buffer of a TLS connection.
_READ_BYTES: Final = 32 * 1024
_BACKLOG: Final = 1024
#: How long nothing is accepted after the kernel couldn't: it would say so at once again.
_PAUSE_SECONDS: Final = 0.25

# asyncio gives each TLS connection a buffer of 256 KiB, and offers no other way to ask for less.
sslproto.SSLProtocol.max_size = _READ_BYTES


class Connection(asyncio.Protocol):
    """One accepted socket: counts and bounds, and passes everything on to the HTTP protocol behind it."""

    def __init__(
        self, listener: "Listener", place: Place, build_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._build_protocol = build_protocol
        self._http: asyncio.Protocol = asyncio.Protocol()
        self._transport: asyncio.BaseTransport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.place = place
        #: From a request's last byte to its answer.
        self.has_asked = False

    @property
    def is_made(self) -> bool:
        """Return whether its handshake has succeeded: then it leaves its place by itself."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with HTTP; the handshake is over."""
        self._transport = transport
        self.place.end = cast("asyncio.Transport", transport).abort
        self._listener.connected[transport] = self
        self._http = self._build_protocol()
        self._http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count, and pass on."""
        if self.has_asked:
            # Another request before the answer to the last: no API server does that.
            self.place.end()
            return
        if not self.place.held_bytes:
            self.set_deadline()
        self._listener.connections.hold(self.place, len(data))
        if self.place.is_taken:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """Pass on; the peer has some time to read its answer."""
        self.set_deadline()
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self.clear_deadline()
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        self.clear_deadline()
        if self._transport:
            self._listener.connected.pop(self._transport, None)
        self._listener.connections.leave(self.place)
        self._http.connection_lost(exc)

    def set_deadline(self) -> None:
        """End it if nothing clears this in time."""
        self.clear_deadline()
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self.place.end)

    def clear_deadline(self) -> None:
        """Give it all the time again."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


class Listener:
    """One port, one application."""

    def __init__(
        self,
        application: web.Application,
        limits: Limits,
        on_ended: Callable[[], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; ``on_ended`` is called for each connection that is ended or refused for want of room."""
        self.connections = Connections(limits, on_ended)
        self.connected: dict[asyncio.BaseTransport, Connection] = {}
        self._ssl_context = ssl_context
        application.middlewares.append(self._take_turns)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_FINISH_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=2048,
            max_field_size=4096,
            max_headers=32,
            lingering_time=2.0,
            read_bufsize=_READ_BYTES,
            auto_decompress=False,
            handler_cancellation=True,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> None:
        """Listen on the first address of a name.

        Raises:
            OSError: The address can't be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        await self._runner.setup()
        listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the library's own
        self._start(self._accept(listening))

    async def close(self) -> None:
        """Accept nobody any more, let requests end, and close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                # With many at the door this never waits by itself, and nothing else would be done.
                await asyncio.sleep(0)
                try:
                    client, address = await loop.sock_accept(listening)
                except ConnectionAbortedError:
                    continue
                except OSError:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                place = self.connections.admit(address[0])
                if place is None:
                    client.close()
                else:
                    place.end = self._start(self._connect(client, place)).cancel

    async def _connect(self, client: socket.socket, place: Place) -> None:
        """Shake hands; from then on the connection lives without a task of this module."""
        connection = Connection(self, place, self._build_protocol)
        seconds = HANDSHAKE_SECONDS if self._ssl_context else None
        try:
            # No TLS, too late, ended, or gone: whoever it was has asked for nothing.
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    client,
                    ssl=self._ssl_context,
                    ssl_handshake_timeout=seconds,
                    ssl_shutdown_timeout=seconds,
                )
        finally:
            if not connection.is_made:
                self.connections.leave(place)

    def _build_protocol(self) -> asyncio.Protocol:
        return cast("web.Server", self._runner.server)()

    @web.middleware
    async def _take_turns(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Read a request whole, then let it be answered when it is its address' turn."""
        connection = self.connected.get(request.transport) if request.transport else None
        if connection is None:
            raise web.HTTPServiceUnavailable  # It has gone meanwhile: nobody reads this.
        length = request.content_length or 0
        if length > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, length)
        await request.read()
        connection.clear_deadline()
        connection.has_asked = True
        try:
            async with connection.place.share.turns:
                self.connections.begin_work(connection.place)
                return await handler(request)
        finally:
            connection.has_asked = False
            self.connections.end_work(connection.place)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
