"""Just enough HTTP/1.1 over TLS for the key service; ``http.client`` would double the child's start time.

Zone: this pod's token and plaintext pass through, inside the child process only. Source: RFC 9112.
"""

import socket
import ssl
from typing import Final

_TIMEOUT_SECONDS: Final = 5.0
_MAX_HEAD_BYTES: Final = 16384
_MAX_BODY_BYTES: Final = 65536
_END_OF_HEAD: Final = b"\r\n\r\n"


class ProtocolError(Exception):
    """The peer's answer isn't HTTP/1.1 with a length."""


class HttpsConnection:
    """One connection that sends one request at a time."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        host, port = parse_address(url)
        self._host_field = url.removeprefix("https://").partition("/")[0]
        self._received = b""
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

    def post(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Send a POST to ``/``; return status and body.

        Raises:
            OSError: The connection failed, or the peer took more than 5 seconds for the next bytes.
            ProtocolError: The answer is malformed or larger than 64 KiB.
        """
        fields = {"Host": self._host_field, **headers, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._socket.sendall(f"POST / HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
        while _END_OF_HEAD not in self._received:
            self._receive(_MAX_HEAD_BYTES)
        raw_head, _, self._received = self._received.partition(_END_OF_HEAD)
        status, length = parse_head(raw_head)
        while len(self._received) < length:
            self._receive(_MAX_BODY_BYTES)
        answer, self._received = self._received[:length], self._received[length:]
        return status, answer

    def _receive(self, limit: int) -> None:
        chunk = self._socket.recv(16384)
        if not chunk:
            raise ConnectionResetError
        self._received += chunk
        if len(self._received) > limit + _MAX_BODY_BYTES:
            raise ProtocolError


def parse_address(url: str) -> tuple[str, int]:
    """Return host and port of an https URL; the default port is 443."""
    address = url.removeprefix("https://").partition("/")[0]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        host, port = address, "443"
    return host.strip("[]"), int(port)


def parse_head(head: bytes) -> tuple[int, int]:
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
    return _parse_number(words[1], limit=999), _parse_number(lengths.pop(), limit=_MAX_BODY_BYTES)


def _parse_number(text: str, *, limit: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(limit)) and int(text) <= limit):
        raise ProtocolError
    return int(text)
