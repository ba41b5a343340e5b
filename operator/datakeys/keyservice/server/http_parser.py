"""From a client's bytes to complete requests: framing, limits and smuggling guards.

Zone: key service, network edge; all input here is hostile. Pure: no I/O, no clock, no logging. The
tokenizer is llhttp (by httptools) in its strict mode. This module adds what a message must satisfy as
a whole, and says the framing rules once more itself, so that a later, laxer tokenizer can't lift them.

A client that keeps its connection sends the same head again and again. The head of the last request is
remembered, token included, until the connection ends, and isn't tokenized anew: what follows from the same
bytes is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_messages import HttpLimits, HttpRequest

#: Repeated, these would mean something else to different readers.
SINGLE_HEADERS: Final = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"x-amz-content-sha256",
        b"x-amz-date",
        b"x-amz-security-token",
        b"x-amz-target",
    }
)
_LINE_OVERHEAD_BYTES: Final = 4  # ": " and CRLF
_MAX_FRAMING_FACTOR: Final = 8  # raw bytes per body byte: a chunk of one byte costs six
_WHITESPACE: Final = b" \t"
_HEAD_END: Final = b"\r\n\r\n"
#: Longer heads aren't remembered: thousands of connections must not hold much. One with a token has 1.5 KiB.
_MAX_KNOWN_HEAD_BYTES: Final = 2048
#: Nor are many small headers, which take ten times their bytes. SDKs send about a dozen.
_MAX_KNOWN_HEADERS: Final = 32


@dataclass(frozen=True, slots=True)
class _KnownHead:
    """A request line with its headers, and what the tokenizer made of it; ``size`` counts the body too."""

    raw: bytes = field(repr=False)
    size: int
    method: str
    target: bytes
    headers: Mapping[bytes, bytes] = field(repr=False)


class _StopParsingError(Exception):
    """Leaves the tokenizer; the reason is in ``RequestParser.fault``."""


class RequestParser:
    """Collects the requests of one connection.

    Attributes:
        ready: complete requests in their order; the owner takes them from the front.
        fault: why parsing stopped for good, or None. It comes after all of ``ready``.
        finished: the last of ``ready`` asked for ``connection: close``; later bytes are ignored.
        in_headers: a request line has begun and its headers are not complete.
        in_body: the headers are complete and the body isn't.
        wants_continue: the client waits for ``100 Continue`` before it sends its body.
        message_count: requests begun so far.
    """

    __slots__ = (
        "_body",
        "_headers",
        "_is_1_0",
        "_known",
        "_max_body_bytes",
        "_max_header_bytes",
        "_peer",
        "_raw_bytes",
        "_size",
        "_target",
        "_tokenizer",
        "fault",
        "finished",
        "in_body",
        "in_headers",
        "message_count",
        "ready",
        "wants_continue",
    )

    def __init__(self, limits: HttpLimits, peer: str) -> None:
        self._max_header_bytes = limits.max_header_bytes
        self._max_body_bytes = limits.max_body_bytes
        self._peer = peer
        self._tokenizer: HttpRequestParser | None = HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._target = b""
        self._body: bytes | bytearray = b""
        self._size = 0
        self._raw_bytes = 0
        self._is_1_0 = False
        self._known: _KnownHead | None = None
        self.ready: list[HttpRequest] = []
        self.fault: responses.Fault | None = None
        self.finished = False
        self.in_headers = False
        self.in_body = False
        self.wants_continue = False
        self.message_count = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes, at most ``max_header_bytes`` of them in one call.

        The result doesn't depend on how the stream is cut. One exception: a request whose padding
        (optional white space, chunk extensions) alone exceeds the limits may pass if it comes whole.
        """
        if self._tokenizer is None or self.fault is not None or self.finished:
            return
        between = not (self.in_headers or self.in_body)
        if between and self._take_known(data):
            return
        count = self.message_count
        try:
            self._tokenizer.feed_data(data)
        except HttpParserUpgrade:
            self.fault = self.fault or responses.UPGRADE
        except HttpParserError:
            if not self.finished:
                self.fault = self.fault or responses.MALFORMED
        if self.in_headers or self.in_body:
            self._bound_unfinished(len(data))
        elif between and self.message_count == count + 1 and self.fault is None:
            self._remember(data, self.ready[-1])

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all bodies, of complete requests and of the one that is arriving."""
        return len(self._body) + self.ready_bytes

    @property
    def ready_bytes(self) -> int:
        """Return the bytes of the complete requests' bodies."""
        return sum(len(request.body) for request in self.ready)

    def close(self) -> None:
        """Drop all state, and the reference cycle with the tokenizer. The parser is of no use after."""
        self._tokenizer = None
        self.ready.clear()
        self._headers = {}
        self._body = b""
        self._known = None

    def _take_known(self, data: bytes | memoryview) -> bool:
        """Take a whole request whose head is the one before it, byte by byte."""
        known = self._known
        if known is None or len(data) != known.size or type(data) is not bytes:
            return False
        if not data.startswith(known.raw):
            return False
        self.message_count += 1
        body = data[len(known.raw) :]
        self.ready.append(HttpRequest(known.method, known.target, known.headers, body, self._peer))
        return True

    def _remember(self, data: bytes | memoryview, request: HttpRequest) -> None:
        """Remember the head of a request that came whole and alone, if its length says all of its framing."""
        headers = request.headers
        start = len(data) - len(request.body)
        if (
            type(data) is bytes
            and start <= _MAX_KNOWN_HEAD_BYTES
            and len(headers) <= _MAX_KNOWN_HEADERS
            and not self.finished
            and b"content-length" in headers
            and b"expect" not in headers
            # The first empty line ends the head, so nothing but head and body is in these bytes.
            and data.find(_HEAD_END) + len(_HEAD_END) == start
        ):
            self._known = _KnownHead(data[:start], len(data), request.method, request.target, headers)

    def _bound_unfinished(self, fed_bytes: int) -> None:
        """Bound what the tokenizer itself may hold back: a header value without end, endless padding."""
        self._raw_bytes += fed_bytes
        bound = 2 * self._max_header_bytes
        if self.in_body:
            bound += _MAX_FRAMING_FACTOR * self._max_body_bytes
        if self._raw_bytes > bound and self.fault is None:
            self.fault = responses.BODY_TOO_LARGE if self.in_body else responses.HEADERS_TOO_LARGE

    def _stop(self, fault: responses.Fault) -> _StopParsingError:
        self.fault = fault
        return _StopParsingError()

    # What follows is called by the tokenizer.

    def on_message_begin(self) -> None:
        """Start a request."""
        self._headers = {}
        self._target = b""
        self._body = b""
        self._size = 0
        self._raw_bytes = 0
        self.in_headers = True
        self.message_count += 1

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target = self._target + piece if self._target else piece
        self._size += len(piece)
        if self._size > self._max_header_bytes:
            raise self._stop(responses.HEADERS_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is counted and dropped (RFC 9110, 6.5.1)."""
        # The hottest lines of the server: counted here without a call of its own.
        size = self._size = self._size + len(name) + len(value) + _LINE_OVERHEAD_BYTES
        if size > self._max_header_bytes:
            raise self._stop(responses.HEADERS_TOO_LARGE)
        if self.in_body:
            return
        name = name.lower()
        headers = self._headers
        if name not in headers:
            headers[name] = value.rstrip(_WHITESPACE)
        elif name in SINGLE_HEADERS:
            raise self._stop(responses.HOST if name == b"host" else responses.REPEATED)
        else:
            headers[name] += b"," + value.rstrip(_WHITESPACE)

    def on_headers_complete(self) -> None:
        """Decide whether the message as a whole may be read on."""
        tokenizer = self._tokenizer
        headers = self._headers
        if tokenizer is None:
            return
        version = tokenizer.get_http_version()
        self._is_1_0 = version == "1.0"
        if version != "1.1" and not self._is_1_0:
            raise self._stop(responses.VERSION)
        if b"host" not in headers and not self._is_1_0:  # RFC 9112, 3.2
            raise self._stop(responses.HOST)
        if tokenizer.should_upgrade():
            raise self._stop(responses.UPGRADE)
        self._check_framing()
        if b"expect" in headers:
            self._check_expectation()
        self.in_headers = False
        self.in_body = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self.wants_continue = False
        if len(self._body) + len(piece) > self._max_body_bytes:
            raise self._stop(responses.BODY_TOO_LARGE)
        if not self._body:
            self._body = piece
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += piece

    def on_message_complete(self) -> None:
        """Hand the request over."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            return
        self.in_body = False
        self.wants_continue = False
        self.finished = self._is_1_0 or not tokenizer.should_keep_alive()
        method = tokenizer.get_method().decode("ascii")
        body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        self.ready.append(HttpRequest(method, self._target, self._headers, body, self._peer))
        self._headers = {}
        self._body = b""

    def _check_framing(self) -> None:
        """Refuse what two HTTP parsers could cut differently. Source: RFC 9112, 6.1 to 6.3."""
        headers = self._headers
        length = headers.get(b"content-length")
        encoding = headers.get(b"transfer-encoding")
        if encoding is not None and (length is not None or self._is_1_0 or encoding.lower() != b"chunked"):
            raise self._stop(responses.FRAMING)
        if length is None:
            return
        if not length.isdigit():
            raise self._stop(responses.FRAMING)
        if int(length) > self._max_body_bytes:
            raise self._stop(responses.BODY_TOO_LARGE)

    def _check_expectation(self) -> None:
        if self._headers[b"expect"].lower() != b"100-continue":
            raise self._stop(responses.EXPECTATION)
        self.wants_continue = not self._is_1_0
