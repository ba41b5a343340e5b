"""Keeps the endpoint's process running: the resident process's part of ``datakeys.dev/aws-endpoint``.

Zone: no secrets: what is encrypted or decrypted passes through the other process only. The listening socket
belongs to this process, so that clients wait, and aren't refused, while the other one is started again.
"""

import os
import time

from datakeys.sidecar.events import WARNING, EventLog
from datakeys.sidecar.interpreter import build_command
from datakeys.sidecar.primitives import SIGKILL, Socket, listen_on_loopback, make_socket_pair
from datakeys.sidecar.reactor import READABLE, Handler, Reactor
from datakeys.sidecar.retry import RETRY, decide_delay
from datakeys.sidecar.settings import Settings

_BACKLOG = 128
#: A process that has run for so long ends for a new reason: the delays begin anew.
_STABLE_SECONDS = 60.0


class Endpoint(Handler):
    """Opens the port, starts the process, starts it again after a growing delay if it ends."""

    __slots__ = (
        "_attempt",
        "_due",
        "_lifeline",
        "_listener",
        "_log",
        "_pid",
        "_reactor",
        "_settings",
        "_started",
    )

    def __init__(self, settings: Settings, reactor: Reactor, log: EventLog) -> None:
        self._settings = settings
        self._reactor = reactor
        self._log = log
        self._listener: Socket | None = None
        self._lifeline: Socket | None = None
        self._pid = 0
        self._attempt = 0
        self._due = 0.0
        self._started = 0.0

    def advance(self, now: float) -> float | None:
        """Start the process if it is due; return the next deadline (monotonic), None for never."""
        if self._pid:
            return None
        if self._due <= now:
            try:
                self._start(now)
            except OSError as error:
                self._postpone(now, f"errno{error.errno}")
        return None if self._pid else self._due

    def handle(self) -> None:
        """Take notice of the process's end: it has closed its side."""
        status = self._reap()
        now = time.monotonic()
        if now - self._started > _STABLE_SECONDS:
            self._attempt = 0
        self._postpone(now, f"status{os.waitstatus_to_exitcode(status)}")

    def close(self) -> None:
        """End the process and close the port."""
        if self._pid:
            self._reap()
        if self._listener:
            self._listener.close()
            self._listener = None

    def _start(self, now: float) -> None:
        if not self._listener:
            self._listener = listen_on_loopback(self._settings.endpoint_port, _BACKLOG)
        settings, fd = self._settings, self._listener.fileno()
        command = build_command(
            "endpoint_server",
            settings.keyservice_url,
            settings.ca_file,
            settings.token_file,
            str(fd),
            str(settings.log_level),
        )
        self._lifeline, other = make_socket_pair()
        # The descriptor is inheritable for this one start: no other child is to have the port.
        os.set_inheritable(fd, True)  # noqa: FBT003 - takes it by position only
        try:
            actions = [(os.POSIX_SPAWN_DUP2, other.fileno(), 0)]
            self._pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        finally:
            os.set_inheritable(fd, False)  # noqa: FBT003
            other.close()
        self._started = now
        self._reactor.add(self._lifeline.fileno(), READABLE, self)

    def _reap(self) -> int:
        if self._lifeline:
            self._reactor.remove(self._lifeline.fileno())
            self._lifeline.close()
            self._lifeline = None
        # It is this process's child and not yet waited for, so the id can't be another's.
        os.kill(self._pid, SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status

    def _postpone(self, now: float, code: str) -> None:
        self._attempt += 1
        self._due = now + decide_delay(RETRY, self._attempt, jitter=os.urandom(1)[0] / 255)
        self._log.write(
            "endpoint_ended", WARNING, code=code, next="look at this container's memory limit and its port"
        )
