"""A client's bytes at the HTTP server of the key service: however they are cut, they mean the same.

The first byte says how they are cut.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from typing import Any, Final

from datakeys.keyservice.server.http import HttpCounters, HttpLimits, HttpRequest, HttpResponse
from datakeys.keyservice.server.http_connection import HttpConnection
from datakeys.keyservice.server.http_connection_life import ConnectionLife, ServerState
from datakeys.keyservice.server.http_deadlines import Deadlines
from datakeys.keyservice.server.http_responses import CONTINUE, build_date_line
from fuzz.target import Target, require

_BODY: Final = b'{"KeyId":"alias/a"}'
_HEAD: Final = b"POST / HTTP/1.1\r\nHost: kms\r\nX-Amz-Target: TrentService.DescribeKey\r\n"
_SEEDS: Final = (
    _HEAD + b"Content-Length: 19\r\n\r\n" + _BODY,
    2 * (_HEAD + b"Content-Length: 19\r\n\r\n" + _BODY),
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n13;a=b\r\n" + _BODY + b"\r\n0\r\nT: x\r\n\r\n",
    _HEAD + b"Content-Length: 19\r\nExpect: 100-continue\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 19\r\nTransfer-Encoding: chunked\r\n\r\n" + _BODY,
    _HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\nmore",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /" + b"a" * 3000 + b"?b HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
)


_ANSWER: Final = b"HTTP/1.1 "


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False

    def write(self, data: Any) -> None:  # noqa: ANN401 - the base class's
        require(not self.ended, "it wrote after the end")
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None:
        """Go on: what is fed next waits in the connection."""

    def resume_reading(self) -> None:
        """Go on."""


class HttpConnectionTarget(Target):
    """``HttpConnection.data_received``."""

    words = (
        *("Content-Length: ", "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close"),
        *("\r\n\r\n", "0\r\n\r\n", "HTTP/1.0", "HTTP/1.1", "Host: ", "Upgrade: ", "\r\n ", "\n"),
    )

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Give back what it holds."""
        self._loop.close()

    def seeds(self) -> Iterator[bytes]:
        """Return requests, good ones and those that two parsers could read in two ways."""
        for number, seed in enumerate(_SEEDS):
            yield bytes([number]) + seed
        for request in (_SEEDS[0], _HEAD + b"Content-Length: 0\r\n\r\n", b"\r\n" + _SEEDS[0]):
            # Each piece is a whole request with the head of the one before.
            other = request[:-2] + b"b}" if request.endswith(b"}") else request
            yield bytes([len(request) - 1]) + request + other + request

    def run(self, data: bytes) -> None:
        """Send the bytes at once and in pieces."""
        size, stream = 1 + (data[0] if data else 0), data[1:]
        whole = self._loop.run_until_complete(_exchange([stream]))
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        require(self._loop.run_until_complete(_exchange(pieces)) == whole, "another cut, another meaning")


async def _exchange(pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the requests that were handled, and whether the rest was refused.

    Not for what: of two faults in one stream either may be seen first.
    """
    seen: list[tuple[Any, ...]] = []

    async def handle_later() -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse(204, b"")

    def handle(request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        seen.append((request.method, request.target, dict(request.headers), request.body))
        return handle_later() if request.method == "GET" else HttpResponse(204, b"")

    counters = HttpCounters()
    deadlines: Deadlines[ConnectionLife] = Deadlines({}, time.monotonic)
    state = ServerState(handle, HttpLimits(), counters, deadlines, build_date_line(0.0))
    connection, transport = HttpConnection(state), _Transport()
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    while connection._task or connection._unfed:  # noqa: ASYNC110, SLF001 - nothing else tells
        await asyncio.sleep(0)
    connection.connection_lost(None)
    require(not state.connections, "the connection is still known")
    require(counters.handler_failures == 0, "an internal error")
    require(len(seen) == counters.requests, "requests were miscounted")
    answered = bytes(transport.written).replace(CONTINUE, b"")
    require(not answered or answered.startswith(_ANSWER), "no answer of HTTP", answered[:80])
    return seen, answered.count(_ANSWER) > len(seen)


def build() -> HttpConnectionTarget:
    """Return the target."""
    return HttpConnectionTarget()
