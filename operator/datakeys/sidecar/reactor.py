"""A single-threaded event loop over poll(2): descriptors with a handler each, and a wake-up by signals.

Zone: no secrets. ``selectors`` would load more than all of this; ``asyncio`` costs 8 MiB.
"""

import os
import select
import time

from datakeys.sidecar.primitives import SIGINT, SIGTERM, on_signal, set_wakeup_fd, unblock

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
#: Milliseconds; poll(2) takes an int, which is 24 days, and a lifetime may be 30.
_LONGEST_WAIT = (1 << 31) - 1


class Handler:
    """Something that waits for a descriptor."""

    __slots__ = ()

    def handle(self) -> None:
        """Do what can be done without blocking."""
        raise NotImplementedError


class _Drain(Handler):
    """Takes the bytes that signals have written; their handlers have done the rest."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def handle(self) -> None:
        os.read(self._fd, 64)


class Reactor:
    """Waits for descriptors, for a deadline, or for a signal to stop."""

    __slots__ = ("_handlers", "_poll", "stopping")

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Handler] = {}
        self.stopping = False

    def catch_signals(self) -> None:
        """Make SIGTERM and SIGINT end the loop: PID 1 has no default action for them."""
        wakeup_fd, write_fd = os.pipe()
        os.set_blocking(wakeup_fd, False)
        os.set_blocking(write_fd, False)
        set_wakeup_fd(write_fd)
        stopping = (SIGTERM, SIGINT)
        for number in stopping:
            on_signal(number, self._stop)
        # Those that came since the start of the process: see the first line of ``__main__``.
        unblock(stopping)
        self.add(wakeup_fd, READABLE, _Drain(wakeup_fd))

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Watch a descriptor, or change what is watched of it."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor; to be called before it is closed."""
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def step(self, deadline: float | None) -> None:
        """Wait for at most one round of events, or until ``deadline`` (monotonic seconds; None: for ever)."""
        timeout = None
        if deadline is not None:
            timeout = min(max(0.0, deadline - time.monotonic()) * 1000 + 1, _LONGEST_WAIT)
        for fd, _ in self._poll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler:
                handler.handle()
