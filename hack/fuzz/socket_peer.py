"""The other end of a socket: sends bytes, ends its side, and reads the answer as a strict client does."""

import http.client
import socket

from fuzz.target import Finding

CLIENT_SECONDS = 5.0


def read_all(peer: socket.socket) -> bytes:
    """Return all that was answered. Nobody writes any more, so what isn't there will not come."""
    peer.settimeout(CLIENT_SECONDS)
    parts = []
    try:
        while part := peer.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:  # with bytes of the request unread
        pass
    except TimeoutError:
        raise Finding("the connection wasn't closed") from None
    return b"".join(parts)


def parse_answer(raw: bytes, *, method: str) -> tuple[int, bytes | None]:
    """Return status and body of one answer; None for a body that broke off.

    Raises:
        Finding: It is none of HTTP.
    """
    here, there = socket.socketpair()
    with here, there:
        there.sendall(raw)
        there.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(here, method=method)
        try:
            response.begin()
            with response:
                return response.status, response.read()
        except http.client.IncompleteRead:
            return response.status, None
        except http.client.HTTPException:
            raise Finding(f"no answer of HTTP: {raw[:200]!r}") from None
