"""The life of a connection: what it holds, answers that wait to be sent, time limits, and its end.

Zone: key service, network edge. It hands answers to the transport and logs none: of a failed handler only
the exception's class name, since its text could quote key bytes. The answers of one turn of the event loop
leave together, when all of its requests are handled: each answer wakes its reader on another core, and that
is dear between two requests.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_deadlines import Deadlines, Phase
from datakeys.keyservice.server.http_messages import Handler, HttpCounters, HttpLimits, HttpResponse
from datakeys.keyservice.server.http_parser import RequestParser

_log = logging.getLogger("datakeys.keyservice.http")
#: Who may be ended since all connections hold too much.
_ARRIVING: Final = (Phase.BODY,)


@dataclass(slots=True)
class ServerState:
    """What all connections of a server share.

    Attributes:
        connections: open ones, and closed ones whose handler still runs.
        emptied: set whenever the last connection is gone.
        held_bytes: of all connections' bodies that aren't handled yet.
        draining: each connection closes as soon as it has answered what it holds.
        date_line: the ``date`` header, renewed by the sweep.
        answered: whose last answer is to be sent at the end of this turn of the event loop.
    """

    handler: Handler
    limits: HttpLimits
    counters: HttpCounters
    deadlines: Deadlines["ConnectionLife"]
    date_line: bytes
    connections: set["ConnectionLife"] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    held_bytes: int = 0
    draining: bool = False
    answered: list["ConnectionLife"] = field(default_factory=list)


def evict_oldest(state: ServerState, phases: tuple[Phase, ...]) -> bool:
    """End the connection that has been in one of these phases for longest; False if there is none."""
    oldest = state.deadlines.find_oldest(phases)
    if oldest is not None:
        oldest.evict()
    return oldest is not None


def _send_all(answered: list["ConnectionLife"]) -> None:
    connections = answered.copy()
    answered.clear()
    for connection in connections:
        connection.send()


class ConnectionLife(asyncio.Protocol):
    """A connection without what is asked and answered on it."""

    __slots__ = (
        "_closing",
        "_held_bytes",
        "_parser",
        "_phase",
        "_reading_paused",
        "_state",
        "_task",
        "_transport",
        "_unfed",
        "_unsent",
        "_writing_paused",
    )

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._parser: RequestParser
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._unfed: bytes | memoryview = b""
        self._unsent = b""
        self._phase = Phase.WORK
        self._closing = False
        self._held_bytes = 0
        self._reading_paused = False
        self._writing_paused = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget the connection. A running handler ends its work first; its answer is dropped."""
        self._transport = None
        self._let_go()
        if self._task is None:
            self._forget()

    # What follows is called by the server.

    def drain(self) -> None:
        """Close now if nothing is in flight; if not, the last answer closes."""
        if not (self._closing or self._holds_requests() or self._parser.in_headers or self._parser.in_body):
            self._close()

    def cut(self) -> None:
        """End everything now, a running handler included."""
        if self._task is not None:
            self._task.cancel()
        self.send()
        if self._transport is not None:
            self._transport.abort()

    def send(self) -> None:
        """Hand the last answer to the transport, if that isn't done yet."""
        data, self._unsent = self._unsent, b""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def evict(self) -> None:
        """End a connection that has no handler at work; its room is free at once."""
        self._state.counters.evicted += 1
        self._let_go()
        self._forget()
        self.cut()

    def time_out(self, phase: Phase) -> None:
        """End a connection whose phase took too long."""
        counters = self._state.counters
        self._phase = Phase.WORK
        if phase is Phase.IDLE:
            counters.idle_closed += 1
            self._close()
            return
        if phase is Phase.CLOSE:
            self.cut()
            return
        counters.timeouts += 1
        if phase is Phase.WRITE:
            self.cut()
        elif self._parser.in_headers or self._parser.in_body:
            self._end_with(responses.TIMEOUT)
        else:  # nothing was asked, so nothing is answered
            self._close()

    # Answers.

    def _write(self, response: HttpResponse, *, head: bool, close: bool) -> None:
        if self._transport is None:
            return
        date_line = self._state.date_line
        try:
            data = responses.build_response_bytes(response, date_line, head=head, close=close)
        except (ValueError, TypeError, AttributeError) as error:
            failure = self._report_failure(error)
            data = responses.build_response_bytes(failure, date_line, head=head, close=close)
        self._send_soon(data)

    def _send_soon(self, data: bytes) -> None:
        self.send()
        self._unsent = data
        answered = self._state.answered
        if len(self._state.connections) == 1:  # nobody else's request can be there
            self.send()
            return
        if not answered:
            asyncio.get_running_loop().call_soon(_send_all, answered)
        answered.append(self)

    def _report_failure(self, error: BaseException) -> HttpResponse:
        """Count and log without the error's text, arguments or traceback."""
        self._state.counters.handler_failures += 1
        _log.error("http_handler_failed", extra={"error_class": type(error).__name__})
        return responses.INTERNAL.build_response()

    # The end.

    def _end_with(self, fault: responses.Fault) -> None:
        self._write(fault.build_response(), head=False, close=True)
        self._close(linger=True)

    def _close(self, *, linger: bool = False) -> None:
        """Close after what is written is sent.

        Args:
            linger: the client may still be sending, so close in two steps; a plain close with unread
                bytes would reset the answer away (RFC 9112, 9.6). TLS has no half-close.
        """
        self.send()
        self._begin_closing()
        transport = self._transport
        if transport is None:
            return
        if linger and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def _begin_closing(self) -> None:
        """From now on bytes that arrive are dropped, and the client has little time to close."""
        self._let_go()
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        self._enter(Phase.CLOSE)

    def _let_go(self) -> None:
        """Hold no bytes any more, and have no time limit."""
        self._closing = True
        self._unfed = b""
        self._unsent = b""
        self._parser.close()
        self._weigh()
        self._leave_phase()

    def _forget(self) -> None:
        connections = self._state.connections
        connections.discard(self)
        if not connections:
            self._state.emptied.set()

    # What is held, and for how long.

    def _holds_requests(self) -> bool:
        return self._task is not None or bool(self._parser.ready) or bool(self._unfed)

    def _weigh(self) -> None:
        """Count what is held; if all connections hold too much, those go whose bodies have taken longest."""
        state, held = self._state, self._parser.held_bytes
        state.held_bytes += held - self._held_bytes
        self._held_bytes = held
        while state.held_bytes > state.limits.max_held_bytes and evict_oldest(state, _ARRIVING):
            pass

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._state.deadlines.enter(self, phase)

    def _leave_phase(self) -> None:
        self._state.deadlines.leave(self, self._phase)
        self._phase = Phase.WORK
