"""Unix sockets that carry messages with descriptors. Zone: no secrets: a descriptor isn't what it leads to.

Source: unix(7), SCM_RIGHTS and SOCK_SEQPACKET.
"""

import _socket
import os
import sys

from datakeys.sidecar.primitives import Socket

#: The kernel's limit on the descriptors of one message. Source: SCM_MAX_FD in include/net/scm.h.
MAX_DESCRIPTORS = 253
_FD_BYTES = 4
#: For ``shutdown``: no more is sent.
SHUT_WR: int = _socket.SHUT_WR


def make_message_pair() -> tuple[Socket, Socket]:
    """Return two connected sockets that keep messages apart; each end sees it when the other closes."""
    one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return one, other


def open_socket(fd: int) -> Socket:
    """Return the socket behind a descriptor, which belongs to it from now on."""
    return _socket.socket(fileno=fd)


def send_message(channel: Socket, data: bytes, fds: list[int]) -> None:
    """Send a message with at most 253 descriptors; this process keeps its own.

    Raises:
        OSError: The other end is gone, or has too much to read already.
    """
    packed = b"".join(fd.to_bytes(_FD_BYTES, sys.byteorder) for fd in fds)
    channel.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], _socket.MSG_DONTWAIT)


def poll_message(channel: Socket) -> bytes | None:
    """Return a short message without waiting: empty if the other end is gone, None if there is none yet."""
    try:
        return channel.recv(1, _socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def receive_message(channel: Socket, max_bytes: int) -> tuple[bytes, list[int]]:
    """Return the next message and its descriptors; an empty message means that the other end is gone.

    Raises:
        OSError: The message is longer than ``max_bytes``, or descriptors got lost.
    """
    space = _socket.CMSG_SPACE(MAX_DESCRIPTORS * _FD_BYTES)
    data, ancillary, flags, _ = channel.recvmsg(max_bytes, space)
    fds = [
        int.from_bytes(packed[start : start + _FD_BYTES], sys.byteorder)
        for level, kind, packed in ancillary
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        for start in range(0, len(packed), _FD_BYTES)
    ]
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError("a message between the sidecar's processes is too long")
    return data, fds
