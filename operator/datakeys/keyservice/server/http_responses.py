"""From an HttpResponse to bytes, and the fixed answers to protocol errors.

Zone: key service, network edge. Pure: no I/O, no clock (the date line is an argument). The texts here
are constants: nothing that a client sent is ever quoted back.
"""

import json
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from datakeys.keyservice.server.http_messages import HttpResponse

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_FINAL_STATUS: Final = 200
_LAST_STATUS: Final = 599
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a connection ends with an error answer."""

    status: HTTPStatus
    code: str
    message: str

    def build_response(self) -> HttpResponse:
        """Return the answer, with the AWS JSON error body (``__type`` and ``message``)."""
        return _build_error(self.status, self.code, self.message)


@lru_cache(maxsize=64)
def _build_error(status: HTTPStatus, code: str, message: str) -> HttpResponse:
    body = json.dumps({"__type": code, "message": message}, separators=(",", ":"))
    return HttpResponse(status, body.encode())


def _malformed(message: str) -> Fault:
    return Fault(HTTPStatus.BAD_REQUEST, "MalformedHttpRequestException", message)


MALFORMED: Final = _malformed("the request is not valid HTTP/1.1")
VERSION: Final = _malformed("only HTTP/1.1 and HTTP/1.0 are served")
HOST: Final = _malformed("HTTP/1.1 needs one Host header")
REPEATED: Final = _malformed("a header that must be single is repeated")
FRAMING: Final = _malformed("the body's length is ambiguous")
UPGRADE: Final = _malformed("upgrades and tunnels are not served")
EXPECTATION: Final = Fault(
    HTTPStatus.EXPECTATION_FAILED, "MalformedHttpRequestException", "only 100-continue may be expected"
)
TIMEOUT: Final = Fault(
    HTTPStatus.REQUEST_TIMEOUT, "RequestTimeoutException", "the request did not arrive in time"
)
BODY_TOO_LARGE: Final = Fault(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLargeException", "the body is too large"
)
HEADERS_TOO_LARGE: Final = Fault(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "RequestEntityTooLargeException",
    "the target and headers are too large",
)
OVERLOADED: Final = Fault(
    HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableException", "too many connections; try again"
)
INTERNAL: Final = Fault(HTTPStatus.INTERNAL_SERVER_ERROR, "KMSInternalException", "internal failure")


def build_date_line(epoch_seconds: float) -> bytes:
    """Return the ``date`` header line. Source: RFC 9110, 6.6.1 (AWS SDKs correct their clock by it)."""
    return b"date: " + formatdate(epoch_seconds, usegmt=True).encode() + b"\r\n"


@lru_cache(maxsize=256)
def _build_prefix(status: int, content_type: bytes) -> bytes:
    if not _FIRST_FINAL_STATUS <= status <= _LAST_STATUS:
        raise ValueError("not a final status")
    _require_one_line(content_type, 0)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {int(status)} {phrase}\r\n".encode() + b"content-type: " + content_type + b"\r\n"


def _require_one_line(block: bytes, line_count: int) -> None:
    if block.count(b"\n") != line_count or block.count(b"\r") != line_count:
        raise ValueError("line break in a header")


def _build_header_block(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    block = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    _require_one_line(block, len(headers))
    return block


def build_response_bytes(response: HttpResponse, date_line: bytes, *, head: bool, close: bool) -> bytes:
    """Return the answer as it goes over the wire.

    Args:
        response: what the handler returned.
        date_line: from ``build_date_line``.
        head: the request was HEAD: the same headers, no body (RFC 9110, 9.3.2).
        close: this is the connection's last answer.

    Raises:
        ValueError: the status isn't 200 to 599, or a header holds a line break.
    """
    head_block = _build_prefix(response.status, response.content_type) + date_line
    if response.headers:
        head_block += _build_header_block(response.headers)
    ending = b"connection: close\r\n\r\n" if close else b"\r\n"
    if response.status in _BODILESS:  # RFC 9110, 8.6: no content-length
        return head_block + ending
    body = response.body
    if head:
        return b"%bcontent-length: %d\r\n%b" % (head_block, len(body), ending)
    return b"%bcontent-length: %d\r\n%b%b" % (head_block, len(body), ending, body)
