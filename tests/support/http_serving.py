"""Serve on a free port of loopback, and send bytes there. Zone: tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from datakeys.keyservice.server.http import Handler, HttpLimits, HttpServer

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    handler: Handler, limits: HttpLimits, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[HttpServer, int]]:
    """Serve, and drain in the end; whatever happened, no connection and no byte is left."""
    server = HttpServer(handler, limits, ssl_context=context)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.drain(0.05)
    assert server.open_connections == 0
    assert server._state.held_bytes == 0


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Stream]:
    """Open a connection, and close it in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(port: int, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Send everything, and return all that comes until the server closes; nothing if it cuts."""
    async with connected(port, context) as (reader, writer):
        writer.write(data)
        try:
            return await reader.read(-1)
        except ConnectionResetError:
            return b""


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Let the loop run until something holds.

    Raises:
        TimeoutError: It doesn't within so many seconds.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
