"""Delivery over a Unix socket: serves data keys to processes of the same user.

Zone: maps this pod's plaintext for the moment in which the kernel copies it into the socket; holds no copy.
Requests to encrypt or decrypt go to the cipher process before any of their body is read.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH101, PTH108

import mmap
import os
import stat
import time

from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.http_protocol import (
    MAX_HEAD_BYTES,
    POST,
    build_head,
    decide_allowed,
    decide_target,
    is_complete,
    parse_head,
)
from datakeys.sidecar.primitives import Socket, accept, listen, read_peer_uid
from datakeys.sidecar.reactor import READABLE, WRITABLE, Handler, Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datakeys.sidecar.cipher import CipherProcess

#: More clients wait in the kernel's queue.
MAX_CONNECTIONS = 16
_BACKLOG = 64
#: A client gets this long for its request, and again for taking the response.
CLIENT_SECONDS = 5.0


class Connection(Handler):
    """One client: reads a head, sends one response."""

    __slots__ = ("_head", "_offset", "_output", "_server", "_slot", "deadline", "socket")

    def __init__(self, server: "SocketServer", connection: Socket) -> None:
        self.socket = connection
        self.deadline = time.monotonic() + CLIENT_SECONDS
        self._server = server
        self._head = b""
        self._output = b""
        self._slot: Slot | None = None
        self._offset = 0

    def handle(self) -> None:
        """Read on or send on; a client that goes away is no event."""
        try:
            done = self._send() if self._output or self._slot else self._receive()
        except BlockingIOError:
            return
        except OSError:
            done = True
        if done:
            self._server.drop(self)

    def expire(self) -> None:
        """Answer a slow request with 408 and end; end a slow response."""
        if not self._output and not self._slot:
            try:
                self.socket.send(build_head(408, 0))
            except OSError:
                self._head = b""  # it went away: nobody to answer
        self._server.drop(self)

    def _receive(self) -> bool:
        # No byte more than tells a POST, whose body isn't for this process.
        chunk = self.socket.recv(max(len(POST) - len(self._head), 0) or MAX_HEAD_BYTES)
        self._head += chunk
        if self._head == POST:
            return self._server.hand_over(self.socket) or self._answer(503, "")
        if is_complete(self._head):
            return self._answer(*parse_head(self._head))
        if chunk and len(self._head) < MAX_HEAD_BYTES:
            return False
        return self._answer(400, "") if self._head else True

    def _answer(self, status: int, path: str) -> bool:
        slots = self._server.slots
        name = ""
        if status == 200:  # noqa: PLR2004
            status, name = decide_target(path, {slot.name: _decide_status(slot) for slot in slots})
        self._slot = next((slot for slot in slots if slot.name == name), None)
        self._output = build_head(status, self._slot.size if self._slot else 0, decide_allowed(path))
        self.deadline = time.monotonic() + CLIENT_SECONDS
        self._server.wait_writable(self)
        return self._send()

    def _send(self) -> bool:
        while self._output:
            self._output = self._output[self.socket.send(self._output) :]
        slot = self._slot
        while slot and self._offset < slot.size:
            self._offset += _send_from(self.socket, slot, self._offset)
        if slot and slot.ready:
            slot.note_read()
        return True


class SocketServer(Handler):
    """Listens on one path and keeps the clients."""

    __slots__ = ("_cipher", "_connections", "_listener", "_path", "_reactor", "slots")

    def __init__(self, path: str, slots: list[Slot], reactor: Reactor) -> None:
        self.slots = slots
        self._path = path
        self._reactor = reactor
        self._connections: list[Connection] = []
        self._cipher: CipherProcess | None = None
        _remove_socket(path)
        self._listener = listen(path, _BACKLOG)
        os.chmod(path, 0o600)
        reactor.add(self._listener.fileno(), READABLE, self)

    def handle(self) -> None:
        """Accept one client, if it runs as this user."""
        try:
            client = accept(self._listener)
        except OSError:
            return
        if read_peer_uid(client) != os.getuid():
            client.close()
            return
        connection = Connection(self, client)
        self._connections.append(connection)
        self._reactor.add(client.fileno(), READABLE, connection)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._reactor.remove(self._listener.fileno())

    def hand_over(self, client: Socket) -> bool:
        """Pass a client that has sent ``POST`` to the cipher process; return False if it takes no more."""
        if not self._cipher:
            # Imported here: apps that only read their key do without it.
            from datakeys.sidecar.cipher import CipherProcess  # noqa: PLC0415

            self._cipher = CipherProcess(self.slots, self._reactor)
        return self._cipher.hand_over(client)

    def wait_writable(self, connection: Connection) -> None:
        """Wake the connection when its client takes more."""
        self._reactor.add(connection.socket.fileno(), WRITABLE, connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection; another client may come."""
        self._connections.remove(connection)
        self._reactor.remove(connection.socket.fileno())
        connection.socket.close()
        self._reactor.add(self._listener.fileno(), READABLE, self)

    def expire(self, now: float) -> float | None:
        """End what has lived too long; return the next deadline in monotonic seconds, if any."""
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.expire()
        deadlines = [one.deadline for one in self._connections]
        idle_end = self._cipher.expire(now) if self._cipher else None
        return min(deadlines + ([] if idle_end is None else [idle_end]), default=None)

    def close(self) -> None:
        """Close everything and remove the socket."""
        if self._cipher:
            self._cipher.close()
        for connection in list(self._connections):
            self.drop(connection)
        self._reactor.remove(self._listener.fileno())
        self._listener.close()
        _remove_socket(self._path)


def _send_from(client: Socket, slot: Slot, offset: int) -> int:
    """Send a data key from ``offset`` on and return how many bytes went.

    Not by sendfile(2), which sends references to the file's pages: a client that reads late would get the
    zeros with which the data key was overwritten meanwhile.
    """
    with mmap.mmap(slot.fd, slot.size, prot=mmap.PROT_READ) as pages, memoryview(pages) as view:
        return client.send(view[offset:])


def _decide_status(slot: Slot) -> int:
    """Return the HTTP status of a data key's state."""
    if slot.gone:
        return 410
    return 200 if slot.ready else 503


def _remove_socket(path: str) -> None:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return
