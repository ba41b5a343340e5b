"""The listening socket: accepts connections, and bounds how many are in their TLS handshake.

Zone: key service, network edge. Whoever hasn't ended its handshake is nobody yet: of too many, the one that
has taken longest goes. Source: accept(2), "Error handling"; socket(7), SO_RCVBUF.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

#: What the kernel holds of one connection before it is read; it doubles the number for its own bookkeeping.
#: It also bounds one read, and so the buffers of the TLS layer, which never shrink.
RECEIVE_BYTES: Final = 32 * 1024
_ACCEPTS_PER_TURN: Final = 64
#: How long nothing is accepted after the kernel couldn't: it would say so at once again.
_PAUSE_SECONDS: Final = 0.25
#: Times the handshakes that may be under way: how many the loop may remember. It keeps the buffers of one
#: that failed until the time for a handshake is over, about 50 KB each.
_REMEMBERED: Final = 4


class Listener:
    """One listening socket."""

    def __init__(
        self,
        build_protocol: Callable[[], asyncio.Protocol],
        *,
        ssl_context: ssl.SSLContext | None,
        handshake_seconds: float,
        shutdown_seconds: float,
        max_handshakes: int,
        on_dropped: Callable[[], None],
    ) -> None:
        """Prepare a listener that has no socket yet.

        Args:
            build_protocol: makes the protocol of a connection, which hears of it after the handshake.
            ssl_context: None for plain TCP.
            handshake_seconds: how long a handshake may take.
            shutdown_seconds: how long the end of a TLS connection may take.
            max_handshakes: under way at once.
            on_dropped: called for each that is dropped because there are more, or not begun because too
                many have failed a moment ago.
        """
        self._build_protocol = build_protocol
        self._ssl_context = ssl_context
        self._seconds = (
            (None, None) if ssl_context is None else (float(handshake_seconds), float(shutdown_seconds))
        )
        self._max_handshakes = max_handshakes
        self._on_dropped = on_dropped
        self._socket: socket.socket | None = None
        self._resumption: asyncio.TimerHandle | None = None
        #: When the loop forgets those that have failed.
        self._failed: deque[float] = deque()
        #: In the order of their beginning.
        self._handshakes: dict[asyncio.Task[None], None] = {}

    @property
    def is_used(self) -> bool:
        """Return whether it was opened before."""
        return self._socket is not None

    async def open(self, host: str, port: int, *, backlog: int, reuse_port: bool) -> int:
        """Listen on the first address of a name, and return the bound port.

        Raises:
            OSError: the address can't be bound.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        self._socket = listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)  # noqa: FBT003 - the library's own
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            if reuse_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(address)
            listening.listen(backlog)
        except OSError:
            listening.close()
            raise
        self._resume()
        return int(listening.getsockname()[1])

    def close(self) -> None:
        """Accept nobody any more; handshakes go on."""
        if self._socket is not None and self._socket.fileno() >= 0:
            self._pause()
            self._socket.close()

    def cut(self) -> None:
        """End the handshakes that are under way."""
        for task in self._handshakes:
            task.cancel()

    def _resume(self) -> None:
        self._resumption = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept, self._socket)

    def _pause(self) -> None:
        if self._resumption is not None:
            self._resumption.cancel()
        elif self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._pause()
                self._resumption = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._resume)
                return
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        if self._ssl_context is not None and self._count_remembered() >= _REMEMBERED * self._max_handshakes:
            client.close()
            self._on_dropped()
            return
        client.setblocking(False)  # noqa: FBT003 - the library's own
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._handshakes[task] = None
        task.add_done_callback(self._handshakes.pop)
        if len(self._handshakes) > self._max_handshakes:
            next(iter(self._handshakes)).cancel()
            self._on_dropped()

    def _count_remembered(self) -> int:
        """Return how many handshakes the loop holds buffers of."""
        now = asyncio.get_running_loop().time()
        while self._failed and self._failed[0] <= now:
            self._failed.popleft()
        return len(self._failed) + len(self._handshakes)

    async def _connect(self, client: socket.socket) -> None:
        handshake_seconds, shutdown_seconds = self._seconds
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._build_protocol,
                client,
                ssl=self._ssl_context,
                ssl_handshake_timeout=handshake_seconds,
                ssl_shutdown_timeout=shutdown_seconds,
            )
        except (OSError, asyncio.CancelledError) as failure:
            # No TLS, too late, dropped, or gone: whoever it was has asked for nothing.
            self._failed.append(asyncio.get_running_loop().time() + (handshake_seconds or 0.0))
            if isinstance(failure, asyncio.CancelledError):
                raise
