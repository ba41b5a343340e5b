"""One call, one answer: HTTP/1.1 over kept connections to one server (docs/adr/0019).

Streams aren't its business. Zone: tokens and bodies pass through; nothing here logs them. Sources: RFC 9110,
RFC 9112; the tokenizer is llhttp (by httptools) in its strict mode.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

#: A page of a list has a few MiB.
_MAX_ANSWER_BYTES: Final = 128 * 1024 * 1024
_MAX_HEAD_BYTES: Final = 64 * 1024
#: To open a connection to one address, TLS included.
_CONNECT_SECONDS: Final = 5.0
_FIRST_FINAL_STATUS: Final = 200


class NoAnswerError(ConnectionError):
    """There is no answer, or none that can be read."""


class ClosedError(NoAnswerError):
    """The other side closed the connection before an answer; whether the call took effect is unknown."""


class Answer(NamedTuple):
    """An answer, whatever its status."""

    status: int
    body: bytes


class HttpClient:
    """A pool of connections, each with one call at a time; there are as many as calls under way.

    Args:
        url: The server, ``http`` or ``https``; its path is put before that of every call.
        tls: Gives the context to use; connections under a former one aren't used any more.
        idle_seconds: A connection that was idle for longer isn't used; shorter than the server keeps it.
    """

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext], *, idle_seconds: float) -> None:
        parts = urlsplit(url)
        self._tls = tls if parts.scheme == "https" else None
        self._host, self._authority = parts.hostname or "", parts.netloc
        self._port = parts.port or (80 if self._tls is None else 443)
        self._prefix = parts.path.rstrip("/")
        self._idle_seconds = idle_seconds
        self._idle: dict[_Connection, None] = {}  # the latest is the last
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Open the pool, which has no connection yet."""
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool; calls that are under way close theirs."""
        self._is_open = False
        while self._idle:
            self._idle.popitem()[0].close()

    async def call(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> Answer:
        """Send a call (not HEAD or CONNECT) and return its answer.

        Args:
            method: For example GET.
            path: With its query, quoted.
            headers: All but Host and those of the framing.
            body: What is sent.
            seconds: For everything, from the look for a connection to the last byte of the answer.

        Raises:
            ClosedError: The connection was closed without an answer, as a kept one may be at any time.
            OSError: There is no answer: ``NoAnswerError``, ``TimeoutError``, ``ssl.SSLError`` and so on.
            ValueError: The path or a header has a character that can't be sent.
        """
        if not self._is_open:
            raise RuntimeError("HttpClient is used outside its context")
        message = _build_head(method, self._authority, self._prefix + path, headers, len(body)) + body
        async with asyncio.timeout(seconds):
            tls = None if self._tls is None else self._tls()
            connection = self._take(tls) or await self._connect(tls)
            try:
                return await connection.send(message)
            finally:
                if connection.is_reusable and self._is_open:
                    self._idle[connection] = None
                else:
                    connection.close()

    def _take(self, tls: ssl.SSLContext | None) -> "_Connection | None":
        oldest = time.monotonic() - self._idle_seconds
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.tls is tls and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, tls: ssl.SSLContext | None) -> "_Connection":
        loop, name = asyncio.get_running_loop(), None if tls is None else self._host
        failure: OSError = NoAnswerError("the server has no address")
        for *_, address in await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    _, connection = await loop.create_connection(
                        lambda: _Connection(tls, lambda gone: self._idle.pop(gone, None)),
                        *address[:2],
                        ssl=tls,
                        server_hostname=name,
                    )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure


class _Connection(asyncio.Protocol):
    """One connection; the event loop calls it, and the tokenizer (names that begin with ``on_``)."""

    _transport: asyncio.Transport
    _parser: HttpResponseParser

    def __init__(self, tls: ssl.SSLContext | None, forget: Callable[["_Connection"], object]) -> None:
        self.tls = tls
        self.idle_since = 0.0
        #: No answer is under way, none broke off, and the other side expects another call.
        self.is_reusable = True
        self._forget = forget
        self._loop = asyncio.get_running_loop()  # asking for it is a system call
        self._answer: asyncio.Future[Answer] | None = None

    async def send(self, message: bytes) -> Answer:
        """Send a call and return its answer; one at a time."""
        if not self.is_reusable:
            raise ClosedError("the connection was closed")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer, self._parser, self._body = answer, HttpResponseParser(self), bytearray()
        self._size, self._in_body, self.is_reusable = 0, False, False
        self._transport.write(message)
        return await answer

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.is_reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self._fail(NoAnswerError("something came that nobody asked for"))
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(NoAnswerError("what came isn't an answer"))
        if self._size > (_MAX_ANSWER_BYTES if self._in_body else _MAX_HEAD_BYTES):
            self._fail(NoAnswerError("the answer is too long"))

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(ClosedError("the connection was closed"))
        self._forget(self)

    def on_message_begin(self) -> None:
        if self._answer is None:  # a second answer
            self.is_reusable = False

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:  # an interim one
            self._in_body = False
        elif self._answer is not None:
            answer, self._answer = self._answer, None
            self.idle_since = time.monotonic()
            self.is_reusable = self._parser.should_keep_alive()
            if not answer.done():
                answer.set_result(Answer(status, bytes(self._body)))

    def _fail(self, error: NoAnswerError) -> None:
        self.close()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)


def _build_head(method: str, authority: str, path: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: datakeys-controller",
        *[f"{name}: {value}" for name, value in headers.items()],
        f"Content-Length: {body_bytes}",
        "\r\n",
    ]
    head = "\r\n".join(lines)
    if not head.isascii() or " " in path or not len(lines) == head.count("\r") == head.count("\n"):
        raise ValueError("a path or a header has a character that can't be sent")
    return head.encode()
