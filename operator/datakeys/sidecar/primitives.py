"""The C parts of ``signal`` and ``socket``, without the Python wrappers that load ``enum`` and ``selectors``.

Zone: no secrets. The wrappers would cost every pod about 1 MiB, a seventh of the resident process. These
modules are CPython's own; the image pins the interpreter, and the tests run what is used here.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SIGTERM: int = int(_signal.SIGTERM)
SIGINT: int = int(_signal.SIGINT)
SIGKILL: int = int(_signal.SIGKILL)
SIGIO: int = int(_signal.SIGIO)

#: struct ucred: pid, uid, gid, 4 bytes each. Source: unix(7), SO_PEERCRED.
_UCRED_BYTES = 12

Socket = _socket.socket


def on_signal(number: int, handler: "Callable[..., None]") -> None:
    """Call ``handler`` on a signal."""
    _signal.signal(number, handler)


def unblock(numbers: "tuple[int, ...]") -> None:
    """Let signals through that this process was started with blocked; those that wait come at once."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, numbers)


def set_wakeup_fd(fd: int) -> None:
    """Write a byte to a non-blocking descriptor on every signal, so that poll(2) returns."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def listen(path: str, backlog: int) -> Socket:
    """Return a non-blocking Unix socket that listens on a path."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listener.setblocking(False)  # noqa: FBT003 - takes it by position only
    listener.bind(path)
    listener.listen(backlog)
    return listener


def listen_on_loopback(port: int, backlog: int) -> Socket:
    """Return a non-blocking TCP socket that listens on 127.0.0.1.

    Raises:
        OSError: The port is taken.
    """
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        # Connections of a predecessor may still be closing.
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.setblocking(False)  # noqa: FBT003 - takes it by position only
        listener.bind(("127.0.0.1", port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def make_socket_pair() -> tuple[Socket, Socket]:
    """Return two connected Unix sockets: each end sees it when the other closes."""
    one, other = _socket.socketpair()
    return one, other


def accept(listener: Socket) -> Socket:
    """Return the next client, non-blocking.

    Raises:
        OSError: No client waits any more.
    """
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - the wrapper's own way
    client = _socket.socket(fileno=fd)
    client.setblocking(False)  # noqa: FBT003
    return client


def read_peer_uid(client: Socket) -> int:
    """Return the user id of the process at the other end."""
    credentials = client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED_BYTES)
    return int.from_bytes(credentials[4:8], sys.byteorder)
