"""One client connection: order of answers, back-pressure, phases and their timeouts.

Zone: key service, network edge. It passes requests to the handler and answers to the transport, and
logs neither: of a failed handler only the exception's class name, since its text could quote key bytes.
Requests of one connection are handled one after the other, so that answers are in order by
construction, whether the handler answers at once or later. The answers of one turn of the event loop leave
together, when all of its requests are handled: each answer wakes its reader on another core, and that is
dear between two requests.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, cast

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_deadlines import Deadlines, Phase
from datakeys.keyservice.server.http_messages import (
    Handler,
    HttpCounters,
    HttpLimits,
    HttpRequest,
    HttpResponse,
)
from datakeys.keyservice.server.http_parser import RequestParser

_log = logging.getLogger("datakeys.keyservice.http")
#: Connections beyond the limit that may still be open for a moment to read their 503.
_REFUSAL_ROOM: Final = 64
#: Bytes parsed before other connections have their turn: a few hundred requests of the smallest kind.
_STEP_BYTES: Final = 16 * 1024
#: Who may be ended for another: whoever asks for nothing, is slow to ask, or to take the answer.
_RESTING: Final = (Phase.IDLE, Phase.HEADER, Phase.BODY, Phase.WRITE)
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
    deadlines: Deadlines["HttpConnection"]
    date_line: bytes
    connections: set["HttpConnection"] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    held_bytes: int = 0
    draining: bool = False
    answered: list["HttpConnection"] = field(default_factory=list)


def _describe_peer(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _evict_oldest(state: ServerState, phases: tuple[Phase, ...]) -> bool:
    oldest = state.deadlines.find_oldest(phases)
    if oldest is not None:
        oldest.evict()
    return oldest is not None


def _send_all(answered: list["HttpConnection"]) -> None:
    connections = answered.copy()
    answered.clear()
    for connection in connections:
        connection.send()


class HttpConnection(asyncio.Protocol):
    """The protocol object of one connection."""

    __slots__ = (
        "_answered",
        "_closing",
        "_held_bytes",
        "_parser",
        "_peer_finished",
        "_phase",
        "_phase_message",
        "_reading_paused",
        "_state",
        "_step",
        "_task",
        "_transport",
        "_unfed",
        "_unsent",
        "_writing_paused",
    )

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._step = min(state.limits.max_header_bytes, _STEP_BYTES)
        self._parser: RequestParser
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._unfed: bytes | memoryview = b""
        self._unsent = b""
        self._phase = Phase.WORK
        self._phase_message = 0
        self._answered = 0
        self._closing = False
        self._held_bytes = 0
        self._peer_finished = False
        self._reading_paused = False
        self._writing_paused = False

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, if need be in place of an idle one; refuse it with 503 if all are at work."""
        state = self._state
        self._transport = cast("asyncio.Transport", transport)
        self._parser = RequestParser(state.limits, _describe_peer(self._transport))
        state.counters.accepted += 1
        if len(state.connections) >= state.limits.max_connections and not state.draining:
            _evict_oldest(state, _RESTING)
        open_connections = len(state.connections)
        state.connections.add(self)
        if state.draining or open_connections >= state.limits.max_connections:
            self._refuse(open_connections)
        else:
            self._enter(Phase.HEADER)

    def data_received(self, data: bytes) -> None:
        """Parse and answer as far as back-pressure allows."""
        if self._closing:
            return
        if self._reading_paused or len(data) > self._step:
            self._unfed = memoryview(bytes(self._unfed) + data)
        else:
            self._parser.feed(data)
        self._advance()

    def eof_received(self) -> bool:
        """Keep a half-closed connection until what it asked for is answered (not possible in TLS)."""
        self.send()
        if self._closing or not self._holds_requests():
            return False
        self._peer_finished = True
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """Stop answering: the client doesn't read."""
        self._writing_paused = True
        self._settle()

    def resume_writing(self) -> None:
        """Go on answering."""
        self._writing_paused = False
        self._advance()

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

    # From here on: parse, answer, settle.

    def _holds_requests(self) -> bool:
        return self._task is not None or bool(self._parser.ready) or bool(self._unfed)

    def _is_full(self) -> bool:
        if self._writing_paused:
            return True
        ready, state = self._parser.ready, self._state
        if ready and (len(ready) >= state.limits.max_pipelined or self._parser.ready_bytes > _STEP_BYTES):
            return True
        return self._task is not None and state.held_bytes > state.limits.max_held_bytes

    def _advance(self) -> None:
        """Answer what is complete and parse one step on, as far as back-pressure allows."""
        if self._closing:
            return
        self._answer_ready()
        if self._unfed and not self._closing and not self._is_full():
            self._feed_step()
            self._answer_ready()
        if self._task is None and not self._parser.ready and not self._closing:
            self._react_to_parser()
        self._settle()

    def _feed_step(self) -> None:
        """Parse one step of a large read; the next one waits until other connections had their turn."""
        piece, self._unfed = self._unfed[: self._step], self._unfed[self._step :]
        self._parser.feed(piece)
        if self._unfed:
            asyncio.get_running_loop().call_soon(self._advance)

    def _answer_ready(self) -> None:
        ready = self._parser.ready
        while ready and self._task is None and not self._writing_paused and not self._closing:
            self.send()  # at most one answer waits, and whether the client reads is asked for each
            if not self._writing_paused:
                self._handle(ready.pop(0))

    def _react_to_parser(self) -> None:
        """All requests are answered: a fault, an end or ``100 Continue`` is now in turn."""
        parser = self._parser
        if parser.fault is not None:
            self._state.counters.protocol_errors += 1
            self._end_with(parser.fault)
        elif self._peer_finished and not self._unfed:
            self._close()
        elif parser.wants_continue and self._transport is not None:
            parser.wants_continue = False
            self.send()
            self._transport.write(responses.CONTINUE)

    def _handle(self, request: HttpRequest) -> None:
        state = self._state
        state.counters.requests += 1
        try:
            result = state.handler(request)
        except Exception as error:  # noqa: BLE001 - the process edge: whatever a handler raises is a 500
            result = self._report_failure(error)
        if isinstance(result, HttpResponse):
            self._answer(request.method, result)
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer_later(request.method, result))

    async def _answer_later(self, method: str, result: Awaitable[HttpResponse]) -> None:
        try:
            response = await result
        except asyncio.CancelledError as error:
            if self._transport is None or self._transport.is_closing():  # cut by drain
                self._end_task()
                raise
            response = self._report_failure(error)
        except Exception as error:  # noqa: BLE001 - the process edge, as above
            response = self._report_failure(error)
        self._end_task()
        if not self._closing:
            self._answer(method, response)
            self._advance()

    def _end_task(self) -> None:
        self._task = None
        if self._transport is None:
            self._forget()

    def _report_failure(self, error: BaseException) -> HttpResponse:
        """Count and log without the error's text, arguments or traceback."""
        self._state.counters.handler_failures += 1
        _log.error("http_handler_failed", extra={"error_class": type(error).__name__})
        return responses.INTERNAL.build_response()

    def _answer(self, method: str, response: HttpResponse) -> None:
        close = self._is_last_answer()
        self._answered += 1
        self._write(response, head=method == "HEAD", close=close)
        if close:
            self._close(linger=not self._parser.finished)

    def _is_last_answer(self) -> bool:
        state = self._state
        maximum = state.limits.max_requests_per_connection
        if maximum and self._answered + 1 >= maximum:
            return True
        if not (state.draining or self._parser.finished):
            return False
        return not self._parser.ready

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

    # Ends of a connection.

    def _refuse(self, open_connections: int) -> None:
        self._state.counters.refused += 1
        if open_connections >= self._state.limits.max_connections + _REFUSAL_ROOM:
            self._closing = True
            self.cut()
        else:
            self._end_with(responses.OVERLOADED)

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

    # Phases.

    def _settle(self) -> None:
        """After any progress: enter the phase that fits, and read on or pause."""
        if self._closing:
            return
        phase = self._find_phase()
        message = self._parser.message_count
        if phase is not self._phase:
            self._leave_phase()
            self._enter(phase)
        elif message != self._phase_message:
            self._enter(phase)
        self._phase_message = message
        if self._held_bytes or self._parser.in_body or self._parser.ready:
            self._weigh()
            if self._closing:
                return
        full = self._is_full() or bool(self._unfed)
        if full is not self._reading_paused and self._transport is not None:
            self._reading_paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _weigh(self) -> None:
        """Count what is held; if all connections hold too much, those go whose bodies have taken longest."""
        state, held = self._state, self._parser.held_bytes
        state.held_bytes += held - self._held_bytes
        self._held_bytes = held
        while state.held_bytes > state.limits.max_held_bytes and _evict_oldest(state, _ARRIVING):
            pass

    def _find_phase(self) -> Phase:
        if self._task is not None:
            return Phase.WORK
        if self._writing_paused:
            return Phase.WRITE
        parser = self._parser
        if parser.in_headers:
            return Phase.HEADER
        if parser.in_body:
            return Phase.BODY
        return Phase.IDLE if parser.message_count else Phase.HEADER

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._state.deadlines.enter(self, phase)

    def _leave_phase(self) -> None:
        self._state.deadlines.leave(self, self._phase)
        self._phase = Phase.WORK
