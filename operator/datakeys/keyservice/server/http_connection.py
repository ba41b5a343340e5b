"""One client connection: what is asked on it and answered, in order, under back-pressure, phase by phase.

Zone: key service, network edge. It passes requests to the handler and answers on, and logs neither.
Requests of one connection are handled one after the other, so that answers are in order by
construction, whether the handler answers at once or later.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, cast

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_connection_life import ConnectionLife, ServerState, evict_oldest
from datakeys.keyservice.server.http_deadlines import Phase
from datakeys.keyservice.server.http_messages import HttpRequest, HttpResponse
from datakeys.keyservice.server.http_parser import RequestParser

#: Connections beyond the limit that may still be open for a moment to read their 503.
_REFUSAL_ROOM: Final = 64
#: Bytes parsed before other connections have their turn: a few hundred requests of the smallest kind.
_STEP_BYTES: Final = 16 * 1024
#: Who may be ended for another: whoever asks for nothing, is slow to ask, or to take the answer.
_RESTING: Final = (Phase.IDLE, Phase.HEADER, Phase.BODY, Phase.WRITE)


def _describe_peer(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpConnection(ConnectionLife):
    """The protocol object of one connection."""

    __slots__ = ("_answered", "_peer_finished", "_phase_message", "_step")

    def __init__(self, state: ServerState) -> None:
        super().__init__(state)
        self._step = min(state.limits.max_header_bytes, _STEP_BYTES)
        self._phase_message = 0
        self._answered = 0
        self._peer_finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, if need be in place of an idle one; refuse it with 503 if all are at work."""
        state = self._state
        self._transport = cast("asyncio.Transport", transport)
        self._parser = RequestParser(state.limits, _describe_peer(self._transport))
        state.counters.accepted += 1
        if len(state.connections) >= state.limits.max_connections and not state.draining:
            evict_oldest(state, _RESTING)
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

    # From here on: parse, answer, settle.

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

    def _refuse(self, open_connections: int) -> None:
        self._state.counters.refused += 1
        if open_connections >= self._state.limits.max_connections + _REFUSAL_ROOM:
            self._closing = True
            self.cut()
        else:
            self._end_with(responses.OVERLOADED)

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
