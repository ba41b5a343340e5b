"""Just enough HTTP/1.1 over TLS for the key service; ``http.client`` would double the child's start time.

Zone: this pod's token and plaintext pass through, inside the child process only. Source: RFC 9112.
"""

import select
import socket
import ssl
import time
from typing import Final

_TIMEOUT_SECONDS: Final = 5.0
_MAX_HEAD_BYTES: Final = 16384
_MAX_BODY_BYTES: Final = 65536
_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_REQUEST_ID_CHARACTERS: Final = 128


class ProtocolError(Exception):
    """The peer's answer isn't HTTP/1.1 with a length."""


class Answer:
    """One answer of the key service."""

    __slots__ = ("body", "closes", "request_id", "status")

    def __init__(self, status: int, body: bytes, *, request_id: str, closes: bool) -> None:
        self.status = status
        self.body = body
        self.request_id = request_id
        self.closes = closes


class HttpsConnection:
    """One connection that sends one request at a time."""

    def __init__(self, url: str, context: ssl.SSLContext, *, max_body_bytes: int = _MAX_BODY_BYTES) -> None:
        host, port = parse_address(url)
        self._host_field = url.removeprefix("https://").partition("/")[0]
        self._max_body_bytes = max_body_bytes
        self._received = bytearray()
        plain = socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def has_input(self) -> bool:
        """Return whether the peer has sent anything that wasn't taken: between requests, that is its end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(self._received or self._socket.pending() or poll.poll(0))

    def post(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Send a POST to ``/``; return status and body.

        Raises:
            OSError: The connection failed, or the peer took more than 5 seconds for the next bytes.
            ProtocolError: The answer is malformed or larger than 64 KiB.
        """
        answer = self.exchange(headers, body)
        return answer.status, answer.body

    def exchange(self, headers: dict[str, str], body: bytes, *, deadline: float | None = None) -> Answer:
        """Send a POST to ``/``; return the answer.

        Args:
            headers: Names and values, all of them ASCII without line breaks.
            body: At most what the peer takes.
            deadline: For the whole exchange, in monotonic seconds; None: 5 seconds for each next bytes.

        Raises:
            OSError: The connection failed, or the time is over.
            ProtocolError: The answer is malformed or larger than ``max_body_bytes``.
        """
        fields = {"Host": self._host_field, **headers, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._await_at_most(deadline)
        self._socket.sendall(f"POST / HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
        while _END_OF_HEAD not in self._received:
            self._receive(_MAX_HEAD_BYTES, deadline)
        raw_head, _, rest = bytes(self._received).partition(_END_OF_HEAD)
        self._received = bytearray(rest)
        status, length = parse_head(raw_head, max_body_bytes=self._max_body_bytes)
        while len(self._received) < length:
            self._receive(self._max_body_bytes, deadline)
        answer = bytes(self._received[:length])
        del self._received[:length]
        return Answer(
            status,
            answer,
            request_id=find_request_id(raw_head),
            closes=find_field(raw_head, "connection").lower() == "close",
        )

    @property
    def has_answer_begun(self) -> bool:
        """Return whether a part of an answer is there."""
        return bool(self._received)

    def _await_at_most(self, deadline: float | None) -> None:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)

    def _receive(self, limit: int, deadline: float | None) -> None:
        self._await_at_most(deadline)
        chunk = self._socket.recv(16384)
        if not chunk:
            raise ConnectionResetError
        self._received += chunk
        if len(self._received) > limit + self._max_body_bytes:
            raise ProtocolError


def parse_address(url: str) -> tuple[str, int]:
    """Return host and port of an https URL; the default port is 443."""
    address = url.removeprefix("https://").partition("/")[0]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        host, port = address, "443"
    return host.strip("[]"), int(port)


def parse_head(head: bytes, *, max_body_bytes: int = _MAX_BODY_BYTES) -> tuple[int, int]:
    """Return status and length of the body.

    Raises:
        ProtocolError: No status line of HTTP/1.1, no length or more than one, or too much.
    """
    status_line, *fields = head.decode("latin-1").split("\r\n")
    words = status_line.split(" ", 2)
    lengths = {
        value.strip()
        for name, _, value in (field.partition(":") for field in fields)
        if name.lower() == "content-length"
    }
    coded = any(field.lower().startswith("transfer-encoding:") for field in fields)
    if words[0] != "HTTP/1.1" or len(words) == 1 or coded or len(lengths) != 1:
        raise ProtocolError
    return _parse_number(words[1], limit=999), _parse_number(lengths.pop(), limit=max_body_bytes)


def find_field(head: bytes, name: str) -> str:
    """Return the first value of a header field, or ""; ``name`` is in lower case."""
    for line in head.decode("latin-1").split("\r\n")[1:]:
        field, _, value = line.partition(":")
        if field.lower() == name:
            return value.strip()
    return ""


def find_request_id(head: bytes) -> str:
    """Return the answer's ``x-amzn-RequestId``, or "" if it isn't a plain id of at most 128 characters."""
    text = find_field(head, "x-amzn-requestid")
    plain = text.replace("-", "").isalnum() and text.isascii() and len(text) <= _MAX_REQUEST_ID_CHARACTERS
    return text if plain else ""


def _parse_number(text: str, *, limit: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(limit)) and int(text) <= limit):
        raise ProtocolError
    return int(text)
