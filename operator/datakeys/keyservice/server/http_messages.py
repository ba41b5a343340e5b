"""The words of the HTTP layer: request, response, handler, limits and counters.

Zone: key service, network edge. Types only, no I/O. A request's ``body`` and ``headers`` hold the
caller's token and may hold plaintext, a response's ``body`` may hold a data key: their ``repr`` leaves
both out, so that no log or traceback can quote them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class HttpRequest:
    """One complete request.

    Attributes:
        method: upper case, such as ``POST``.
        target: path with query, as sent by the client (not decoded).
        headers: lower-case names; repeated list headers are joined by a comma in their order.
        body: at most ``HttpLimits.max_body_bytes`` bytes, chunks joined.
        peer: ``address:port`` of the TCP peer, empty if unknown.
    """

    method: str
    target: bytes
    headers: Mapping[bytes, bytes] = field(repr=False)
    body: bytes = field(repr=False)
    peer: str


@dataclass(slots=True)
class HttpResponse:
    """One answer. The server itself adds ``content-length``, ``date`` and ``connection``.

    Attributes:
        status: 200 to 599.
        body: sent as it is; left out for HEAD and for 204 and 304.
        headers: further headers; a CR or LF in one turns the answer into a 500.
    """

    status: int
    body: bytes = field(repr=False)
    content_type: bytes = b"application/x-amz-json-1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ()


#: A plain result is written at once, with no task; an awaitable runs as a task of its own.
Handler = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client may cost. The defaults fit requests of a few KiB.

    Attributes:
        max_header_bytes: target and headers (and trailers) of one request, in bytes.
        max_body_bytes: body of one request, in bytes.
        header_timeout_seconds: from a request's first byte (or the connection's start) to its last header.
        body_timeout_seconds: from the last header to the body's end.
        idle_timeout_seconds: between two requests.
        write_timeout_seconds: for a client that doesn't read its answers.
        handshake_timeout_seconds: for the TLS handshake.
        max_connections: open at once; for a further one the one goes that has asked for nothing for longest.
        max_handshakes: TLS handshakes at once, beside the connections; of more the oldest is dropped.
        max_held_bytes: bodies of all connections that are not handled yet; above it the slowest are cut.
        max_pipelined: parsed requests that wait in one connection before it is no longer read.
        max_requests_per_connection: answers before ``connection: close``; 0 is unlimited.
    """

    max_header_bytes: int = 16 * 1024
    max_body_bytes: int = 512 * 1024
    header_timeout_seconds: float = 10.0
    body_timeout_seconds: float = 20.0
    idle_timeout_seconds: float = 75.0
    write_timeout_seconds: float = 20.0
    handshake_timeout_seconds: float = 5.0
    max_connections: int = 4_000
    max_handshakes: int = 512
    max_held_bytes: int = 32 * 1024 * 1024
    max_pipelined: int = 16
    max_requests_per_connection: int = 0

    def __post_init__(self) -> None:
        """Refuse limits that would switch a guard off.

        Raises:
            ValueError: a limit is zero or negative (only ``max_requests_per_connection`` may be 0).
        """
        for name in self.__slots__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name != "max_requests_per_connection"):
                raise ValueError(f"{name} must be positive")


@dataclass(slots=True)
class HttpCounters:
    """Totals since the start, for metrics. They only grow.

    Attributes:
        accepted: connections, refused ones included; with TLS only after the handshake.
        refused: connections beyond ``max_connections``, while none of the others could go.
        evicted: connections and handshakes ended to make room for others.
        requests: complete requests given to the handler.
        timeouts: connections ended since a header, body, answer or close took too long.
        idle_closed: keep-alive connections ended after ``idle_timeout_seconds``.
        protocol_errors: connections ended for 400, 413, 417 or 431.
        handler_failures: handlers that raised, or returned something that can't be sent.
    """

    accepted: int = 0
    refused: int = 0
    evicted: int = 0
    requests: int = 0
    timeouts: int = 0
    idle_closed: int = 0
    protocol_errors: int = 0
    handler_failures: int = 0
