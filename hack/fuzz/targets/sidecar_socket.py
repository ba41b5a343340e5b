"""Whatever an app sends to the sidecar's Unix socket: what the resident and the cipher process make of it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from typing import Final

from datakeys.sidecar.cipher import build_states
from datakeys.sidecar.cipher_process import answer
from datakeys.sidecar.cipher_stream import Client
from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.libcrypto import load_library
from datakeys.sidecar.primitives import Socket
from datakeys.sidecar.reactor import Reactor
from datakeys.sidecar.socket_server import SocketServer
from fuzz.socket_peer import CLIENT_SECONDS, parse_answer, read_all
from fuzz.target import Target, require
from streaming_aead_reference import encrypt

_KEY: Final = bytes(range(32))
_PLAINTEXT: Final = b"what the app stores"
_MAX_TURNS: Final = 10
_POST: Final = b"POST /v1/data-keys/orders/%s HTTP/1.1\r\nHost: a\r\n"


class _InlineCipher:
    """Does in this process what the cipher process does with a client."""

    def __init__(self, slots: list[Slot]) -> None:
        self._slots = slots
        self._library = load_library()

    def hand_over(self, client: Socket) -> bool:
        """Answer a client whose POST was read; the connection here is closed by the server."""
        own = Client(socket(fileno=os.dup(client.fileno())))
        try:
            with suppress(OSError):
                answer(own, build_states(self._slots), self._library)
        finally:
            own.close()
        return True

    def expire(self, now: float) -> float | None:  # noqa: ARG002 - as the process
        """Return no deadline."""
        return None

    def close(self) -> None:
        """Return: there is no process."""


class SidecarSocketTarget(Target):
    """``SocketServer`` on a real socket."""

    words = (
        *(
            "GET /v1/data-keys/",
            "POST /v1/data-keys/",
            "/encrypt",
            "/decrypt",
            " HTTP/1.1\r\n",
            "@1",
            "orders",
        ),
        *(
            "Content-Length: ",
            "Transfer-Encoding: chunked\r\n",
            "Datakeys-Associated-Data: ",
            "\r\n0\r\n\r\n",
        ),
        *("Expect: 100-continue\r\n", "/healthz"),
    )

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = str(Path(self._folder.name) / "s")
        slots = [
            Slot(self._folder.name, name, named=False) for name in ("orders", "orders@1", "late", "over")
        ]
        for slot in slots[:2]:
            os.write(slot.open(), _KEY)
            slot.publish()
            slot.ready = True
        slots[3].gone = True
        self._server = SocketServer(self._path, slots, Reactor())
        self._server._cipher = _InlineCipher(slots)  # type: ignore[assignment]  # noqa: SLF001 - no second process

    def close(self) -> None:
        """Give back what it holds."""
        self._server.close()
        for slot in self._server.slots:
            slot.close()
        self._folder.cleanup()

    def seeds(self) -> Iterator[bytes]:
        """Return requests of every kind."""
        for name in ("orders", "orders@1", "late", "over", "none"):
            yield f"GET /v1/data-keys/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        yield b"GET /healthz HTTP/1.0\r\n\r\n"
        yield b"HEAD / HTTP/1.1\r\n\r\n"
        for operation, body in ((b"encrypt", _PLAINTEXT), (b"decrypt", encrypt(_KEY, _PLAINTEXT))):
            head = _POST % operation
            yield head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            chunk = b"%x;a=b\r\n%s\r\n0\r\nT: x\r\n\r\n" % (len(body), body)
            yield head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
        yield _POST % b"encrypt" + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na"
        yield _POST % b"encrypt" + b"Datakeys-Associated-Data: YQ==\r\nContent-Length: 0\r\n\r\n"
        yield b"POST /v1/data-keys/late/decrypt HTTP/1.1\r\nContent-Length: 0\r\n\r\n"

    def run(self, data: bytes) -> None:
        """Send a request to the end and judge the answer."""
        with socket(AF_UNIX) as peer:
            peer.settimeout(CLIENT_SECONDS)
            peer.connect(self._path)
            peer.sendall(data)
            peer.shutdown(SHUT_WR)
            self._serve()
            received = read_all(peer).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not received:
            require(not data, "a request got no answer")
            return
        method = data.partition(b" ")[0].decode("latin-1")
        status, body = parse_answer(received, method="GET")
        require(status < 500 or status in (501, 503, 505), "an internal error", status)  # noqa: PLR2004 - HTTP
        if method == "GET" and status == 200 and body:  # noqa: PLR2004 - HTTP
            require(body == _KEY and b"/v1/data-keys/orders" in data, "not the key that was asked for")
        if b"/decrypt " in data.partition(b"\r\n")[0] and status == 200 and body:  # noqa: PLR2004 - HTTP
            require(body == _PLAINTEXT, "something else than the plaintext was decrypted", body)

    def _serve(self) -> None:
        self._server.handle()
        for _ in range(_MAX_TURNS):
            for connection in list(self._server._connections):  # noqa: SLF001 - the reactor's part
                connection.handle()
        require(not self._server._connections, "a client is kept that has ended")  # noqa: SLF001


def build() -> SidecarSocketTarget:
    """Return the target."""
    return SidecarSocketTarget()
