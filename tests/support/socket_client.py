"""A client of the sidecar's Unix socket that reads while it sends, as clients of large bodies must."""

import base64
import http.client
import socket
import threading
from collections.abc import Iterable
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """The standard library's HTTP client on a Unix socket."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def post(
    path: Path,
    target: str,
    body: bytes | Iterable[bytes],
    associated_data: bytes = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Send a body, with its length if it is bytes, otherwise in chunks; return status and body.

    Raises:
        http.client.IncompleteRead, ConnectionError: The answer broke off.
    """
    connection = UnixConnection(path)
    connection.putrequest("POST", target)
    if isinstance(body, bytes):
        connection.putheader("Content-Length", str(len(body)))
    else:
        connection.putheader("Transfer-Encoding", "chunked")
    if associated_data:
        connection.putheader("Datakeys-Associated-Data", base64.b64encode(associated_data).decode())
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    # The response closes the connection's own socket object, not this one.
    out = connection.sock.dup()
    out.settimeout(60)
    sender = threading.Thread(target=_send, args=(out, body))
    sender.start()
    try:
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()
        sender.join()
        out.close()


def _send(out: socket.socket, body: bytes | Iterable[bytes]) -> None:
    try:
        if isinstance(body, bytes):
            out.sendall(body)
            return
        for chunk in body:
            out.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        out.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        return
