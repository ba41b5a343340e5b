"""Hands requests to encrypt and decrypt to the cipher process, which lives while there are some.

Zone: descriptors only. A client is handed on as soon as its request begins with POST, so no byte of a body is
ever in this process; the other one gets the data keys' descriptors.
"""

import os
import time

from datakeys.sidecar.cipher_slots import BEYOND, GONE, READY, WAITING, KeyState, build_message
from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.descriptors import make_message_pair, poll_message, send_message
from datakeys.sidecar.interpreter import build_command
from datakeys.sidecar.primitives import SIGKILL, Socket
from datakeys.sidecar.reactor import READABLE, Handler, Reactor

#: Clients at once; each takes a thread and up to 2 MiB of memory.
MAX_CLIENTS = 16
#: The process ends when nobody has asked for so long.
IDLE_SECONDS = 10.0
#: Descriptors of data keys that go with one client.
_MAX_KEYS = 250


class CipherProcess(Handler):
    """Starts the process when it is needed and ends it."""

    __slots__ = ("_channel", "_clients", "_gone", "_idle_since", "_pid", "_reactor", "_slots")

    def __init__(self, slots: list[Slot], reactor: Reactor) -> None:
        self._slots = slots
        self._reactor = reactor
        self._channel: Socket | None = None
        self._pid = 0
        self._clients = 0
        self._idle_since = 0.0
        self._gone = 0

    def hand_over(self, client: Socket) -> bool:
        """Pass a client on, which must have sent ``POST`` and been read no further; this side may close it.

        Returns:
            False if there are too many, or the process can't be started.
        """
        if self._clients >= MAX_CLIENTS:
            return False
        states = build_states(self._slots)
        message = build_message(states)
        fds = [client.fileno(), *(one.fd for one in states if one.state == READY)]
        try:
            if not self._channel or not _send(self._channel, message, fds):
                # It isn't there, or it has just ended.
                self.close()
                if not _send(self._start(), message, fds):
                    return False
        except OSError:
            return False
        self._clients += 1
        return True

    def handle(self) -> None:
        """Take what the process reports: one message per client that is done, or its end."""
        report = poll_message(self._channel) if self._channel else None
        if report:
            self._clients -= 1
            self._idle_since = time.monotonic()
        elif report is not None:
            self.close()

    def expire(self, now: float) -> float | None:
        """End the process if it is idle, or if a data key it may use is gone; return the next deadline."""
        if not self._channel:
            return None
        idle_end = self._idle_since + IDLE_SECONDS
        if self._count_gone() != self._gone or (not self._clients and idle_end <= now):
            self.close()
            return None
        return None if self._clients else idle_end

    def close(self) -> None:
        """End the process; its clients see their answers break off."""
        if not self._channel:
            return
        self._reactor.remove(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._clients = 0
        # It is this process's child and not yet waited for, so the id can't be another's.
        os.kill(self._pid, SIGKILL)
        os.waitpid(self._pid, 0)

    def _start(self) -> Socket:
        channel, other = make_message_pair()
        command = build_command("cipher_process")
        try:
            actions = [(os.POSIX_SPAWN_DUP2, other.fileno(), 0)]
            self._pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        except OSError:
            channel.close()
            raise
        finally:
            other.close()
        self._channel = channel
        self._gone = self._count_gone()
        self._idle_since = time.monotonic()
        self._reactor.add(channel.fileno(), READABLE, self)
        return channel

    def _count_gone(self) -> int:
        return sum(slot.gone for slot in self._slots)


def _send(channel: Socket, message: bytes, fds: list[int]) -> bool:
    """Return False if the process at the other end has ended.

    Raises:
        OSError: It has too much to read already.
    """
    try:
        send_message(channel, message, fds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def build_states(slots: list[Slot]) -> list[KeyState]:
    """Return what the cipher process is told of the data keys."""
    states = []
    keys = 0
    for slot in slots:
        state = GONE if slot.gone else WAITING
        if slot.ready:
            keys += 1
            state = READY if keys <= _MAX_KEYS else BEYOND
        states.append(KeyState(slot.name, state, slot.size, slot.fd))
    return states
