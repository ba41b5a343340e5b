"""Back-pressure of one connection, step by step on a transport in memory."""

import asyncio

from datakeys.keyservice.server.http_connection import HttpConnection
from datakeys.keyservice.server.http_connection_life import ConnectionLife, ServerState
from datakeys.keyservice.server.http_deadlines import Deadlines, Phase
from datakeys.keyservice.server.http_messages import (
    Handler,
    HttpCounters,
    HttpLimits,
    HttpRequest,
    HttpResponse,
)
from http_serving import until

GET = b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n"
LIMITS = HttpLimits(max_header_bytes=1024, max_pipelined=2)


class MemoryTransport(asyncio.Transport):
    """Keeps what is written, and how reading and the end stand."""

    def __init__(self, peer: object = ("2001:db8::1", 7, 0, 0)) -> None:
        super().__init__({"peername": peer})
        self.written: list[bytes] = []
        self.reading = True
        self.ended = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep an answer."""
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        """Note the pause."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note the end of the pause."""
        self.reading = True

    def can_write_eof(self) -> bool:
        """Half-close like TCP."""
        return True

    def write_eof(self) -> None:
        """Note the half-close."""
        self.ended = "eof"

    def close(self) -> None:
        """Note the close."""
        self.ended = "close"

    def abort(self) -> None:
        """Note the cut."""
        self.ended = "abort"

    def is_closing(self) -> bool:
        """Tell whether the end has come."""
        return bool(self.ended)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def connect(handler: Handler, transport: MemoryTransport, clock: Clock | None = None) -> HttpConnection:
    """Return a connection of a server with that handler; each phase lasts 9 s."""
    durations: dict[Phase, float] = {phase: 9.0 for phase in Phase if phase is not Phase.WORK}
    deadlines: Deadlines[ConnectionLife] = Deadlines(durations, clock or Clock())
    state = ServerState(handler, LIMITS, HttpCounters(), deadlines, b"date: today\r\n")
    connection = HttpConnection(state)
    connection.connection_made(transport)
    return connection


def connect_beside(connection: HttpConnection, transport: MemoryTransport) -> HttpConnection:
    """Return another connection of the same server."""
    other = HttpConnection(connection._state)
    other.connection_made(transport)
    return other


def answer(_: HttpRequest) -> HttpResponse:
    """Answer with nothing."""
    return HttpResponse(204, b"")


async def test_not_one_request_is_handled_while_writing_is_paused() -> None:
    """Of requests that came together, those behind a full buffer wait until it is empty."""
    transport = MemoryTransport()

    def fill_buffer(_: HttpRequest) -> HttpResponse:
        connection.pause_writing()
        return HttpResponse(204, b"")

    connection = connect(fill_buffer, transport)
    connection.data_received(GET * 3)
    assert len(transport.written) == 1
    assert not transport.reading
    connection.resume_writing()
    assert len(transport.written) == 2
    connection.resume_writing()
    connection.resume_writing()
    assert len(transport.written) == 3
    assert transport.reading


async def test_reading_is_paused_at_the_transport_while_requests_wait() -> None:
    """The kernel, and so the client, feels that the queue is full."""
    release = asyncio.Event()
    transport = MemoryTransport()

    async def wait(_: HttpRequest) -> HttpResponse:
        await release.wait()
        return HttpResponse(204, b"")

    connection = connect(wait, transport)
    connection.data_received(GET * 2)
    assert transport.reading
    connection.data_received(GET)
    assert not transport.reading
    release.set()
    await until(lambda: len(transport.written) == 3)
    assert transport.reading


async def test_bytes_that_come_in_spite_of_a_pause_are_kept_and_not_parsed() -> None:
    """TLS may deliver what it had already read; such bytes wait outside the queue."""
    transport = MemoryTransport()
    connection = connect(answer, transport)
    connection.pause_writing()
    connection.data_received(GET)
    connection.data_received(GET)
    assert connection._parser.ready == []
    connection.resume_writing()
    await asyncio.sleep(0)
    assert len(transport.written) == 2
    assert connection._unfed == b""


async def test_large_read_is_answered_in_steps_that_let_others_run() -> None:
    """One client's burst is cut into steps, between which the loop serves others."""
    transport = MemoryTransport()
    connection = connect(answer, transport)
    total = 200
    connection.data_received(GET * total)
    first = len(transport.written)
    assert 0 < first <= LIMITS.max_header_bytes // len(GET) + 1
    assert not transport.reading
    await asyncio.sleep(0)
    assert first < len(transport.written) < total
    await until(lambda: len(transport.written) == total)
    assert transport.reading


async def test_bytes_after_the_end_are_dropped() -> None:
    """A connection that ended with an error handles nothing more."""
    transport = MemoryTransport()
    connection = connect(answer, transport)
    connection.data_received(b"\0")
    assert transport.ended == "eof"
    connection.data_received(GET)
    connection.resume_writing()
    assert len(transport.written) == 1
    assert not connection.eof_received()
    connection.time_out(Phase.CLOSE)
    assert transport.ended == "abort"


async def test_end_of_a_paused_connection_reads_on_to_see_the_client_close() -> None:
    """A connection that is closing doesn't stay paused."""
    transport = MemoryTransport()
    connection = connect(answer, transport)
    connection.pause_writing()
    assert not transport.reading
    connection.drain()
    assert transport.reading
    assert transport.ended == "close"


async def test_lost_connection_keeps_no_bytes_of_the_client() -> None:
    """After the end neither requests nor bodies are held."""
    transport = MemoryTransport()
    connection = connect(answer, transport)
    connection.pause_writing()
    connection.data_received(GET + b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 9\r\n\r\nabc")
    connection.connection_lost(None)
    connection.drain()
    connection.cut()
    assert connection._unfed == b""
    assert connection._parser.ready == []
    assert len(connection._state.deadlines) == 0
    assert connection._state.connections == set()


async def test_connection_while_draining_is_refused() -> None:
    """Who was in the backlog when the drain began is told to go elsewhere."""
    transport = MemoryTransport()
    connection = connect(answer, MemoryTransport())
    connection._state.draining = True
    late = HttpConnection(connection._state)
    late.connection_made(transport)
    assert transport.written[0].startswith(b"HTTP/1.1 503 ")


async def test_peer_is_written_like_in_a_url() -> None:
    """IPv6 addresses are bracketed, and a peer without address is empty."""
    peers = []

    def remember(request: HttpRequest) -> HttpResponse:
        peers.append(request.peer)
        return HttpResponse(204, b"")

    connect(remember, MemoryTransport()).data_received(GET)
    connect(remember, MemoryTransport("")).data_received(GET)
    assert peers == ["[2001:db8::1]:7", ""]


def find_due(connection: HttpConnection) -> list[Phase]:
    """Return the phases that are overdue now."""
    return [phase for _, phase in connection._state.deadlines.pop_due()]


async def test_each_request_restarts_the_idle_time() -> None:
    """A connection in use outlives the idle timeout; one at rest doesn't."""
    clock = Clock()
    connection = connect(answer, MemoryTransport(), clock)
    for _ in range(5):
        clock.now += 5.0
        connection.data_received(GET)
        assert find_due(connection) == []
    clock.now += 9.0
    assert find_due(connection) == [Phase.IDLE]


async def test_no_byte_extends_the_header_or_body_time() -> None:
    """Both run from their start, however often something arrives."""
    head, body = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 90\r\n\r\n", b"x" * 20
    for first, rest, phase in ((b"P", head[1:20], Phase.HEADER), (head, body, Phase.BODY)):
        clock = Clock()
        connection = connect(answer, MemoryTransport(), clock)
        connection.data_received(first)
        for value in rest[:17]:
            clock.now += 0.5
            connection.data_received(bytes([value]))
            assert find_due(connection) == []
        clock.now += 0.5
        assert find_due(connection) == [phase]


async def test_line_breaks_between_requests_do_not_extend_the_idle_time() -> None:
    """Empty lines are tolerated, and aren't activity."""
    clock = Clock()
    connection = connect(answer, MemoryTransport(), clock)
    connection.data_received(GET)
    clock.now += 8.0
    connection.data_received(b"\r\n")
    clock.now += 1.0
    assert find_due(connection) == [Phase.IDLE]


async def test_next_request_in_the_same_read_has_its_own_header_time() -> None:
    """The end of one request and the start of the next may come together."""
    clock = Clock()
    connection = connect(answer, MemoryTransport(), clock)
    connection.data_received(GET[:5])
    clock.now += 8.0
    connection.data_received(GET[5:] + GET[:5])
    clock.now += 8.0
    assert find_due(connection) == []
    clock.now += 1.0
    assert find_due(connection) == [Phase.HEADER]


async def test_answers_of_one_turn_leave_when_all_of_its_requests_are_handled() -> None:
    """No reader is woken between two requests that are there together; each gets its own answer."""
    handled: list[int] = []

    def note(_: HttpRequest) -> HttpResponse:
        handled.append(sum(len(transport.written) for transport in transports))
        return HttpResponse(200, b"%d" % len(handled))

    transports = [MemoryTransport(), MemoryTransport()]
    first = connect(note, transports[0])
    second = connect_beside(first, transports[1])
    first.data_received(GET)
    second.data_received(GET)
    await asyncio.sleep(0)
    assert handled == [0, 0]
    assert [transport.written[0][-1:] for transport in transports] == [b"1", b"2"]
    first.data_received(GET)
    await asyncio.sleep(0)
    assert transports[0].written[1].endswith(b"3")


async def test_answer_that_is_not_sent_yet_comes_before_the_end_and_before_all_that_follows() -> None:
    """Half-close, cut, drain and ``100 Continue`` in the turn of a request take nothing from its answer."""
    for end in (HttpConnection.eof_received, HttpConnection.cut, HttpConnection.drain):
        transport = MemoryTransport()
        connection = connect_beside(connect(answer, MemoryTransport()), transport)
        connection.data_received(GET)
        assert transport.written == []
        end(connection)
        assert len(transport.written) == 1
    transport = MemoryTransport()
    connect(answer, transport).data_received(
        GET + b"POST / HTTP/1.1\r\nHost: kms\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    )
    assert [data.split()[1] for data in transport.written] == [b"204", b"100"]


async def test_answer_to_a_client_that_is_gone_is_dropped() -> None:
    """Nothing is written to a transport that is lost or closing."""
    lost, closing = MemoryTransport(), MemoryTransport()
    connection = connect(answer, lost)
    connect_beside(connection, closing).data_received(GET)
    closing.close()
    connection.data_received(GET)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert lost.written == closing.written == []


async def test_answer_of_the_only_connection_leaves_at_once() -> None:
    """There is nothing that it could leave together with."""
    transport = MemoryTransport()
    connect(answer, transport).data_received(GET)
    assert len(transport.written) == 1
