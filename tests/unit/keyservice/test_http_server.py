"""The server over loopback, on uvloop and on asyncio's own loop."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

import pytest
import uvloop

import http_serving
from datakeys.keyservice.server.http import Handler, HttpLimits, HttpRequest, HttpResponse, HttpServer
from http_serving import connected, until

LIMITS = HttpLimits(
    max_header_bytes=1024,
    max_body_bytes=4096,
    header_timeout_seconds=0.4,
    body_timeout_seconds=0.4,
    idle_timeout_seconds=0.4,
    write_timeout_seconds=0.4,
    max_connections=4,
    max_pipelined=2,
)
#: No timeout ends anything, however slow the machine is.
PATIENT = replace(
    LIMITS,
    header_timeout_seconds=300,
    body_timeout_seconds=300,
    idle_timeout_seconds=300,
    write_timeout_seconds=300,
)
GET = b"GET /%d HTTP/1.1\r\nHost: kms\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: kms\r\nConnection: close\r\n\r\n"


def on_both_loops(test: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on uvloop, which production uses, and on the standard loop."""

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(120):
                await test()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(bounded())

    run.__name__ = getattr(test, "__name__", "test")
    run.__doc__ = test.__doc__
    loops = [uvloop.new_event_loop, asyncio.new_event_loop]
    return pytest.mark.parametrize("new_loop", loops, ids=["uvloop", "asyncio"])(run)


def echo(request: HttpRequest) -> HttpResponse:
    """Answer with target and body."""
    return HttpResponse(200, request.target + b"|" + request.body)


def serving(
    handler: Handler = echo, limits: HttpLimits = PATIENT
) -> AbstractAsyncContextManager[tuple[HttpServer, int]]:
    """Serve on a free port, and drain in the end."""
    return http_serving.serving(handler, limits)


def set_reading(writer: asyncio.StreamWriter, *, paused: bool) -> None:
    """Make the client stop or go on taking bytes from its socket."""
    transport = cast("asyncio.Transport", writer.transport)
    if paused:
        transport.pause_reading()
    else:
        transport.resume_reading()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    """Read one answer: status, headers, body."""
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *lines = head[:-4].split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return int(status_line.split()[1]), headers, body


async def exchange(port: int, data: bytes) -> bytes:
    """Send everything, and return all that comes until the server closes."""
    async with connected(port) as (reader, writer):
        writer.write(data)
        return await reader.read(-1)


async def read_bodies(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    """Read the bodies of so many answers."""
    return [(await read_answer(reader))[2] for _ in range(count)]


def assert_fault(data: bytes, status: int, code: str) -> None:
    """Check a protocol error's answer: status, AWS JSON, close."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    document = json.loads(body)
    assert document["__type"] == code
    assert set(document) == {"__type", "message"}


# Keep-alive and order.


@on_both_loops
async def test_connection_is_kept_alive() -> None:
    """One connection serves many requests, and is counted once."""
    async with serving() as (server, port), connected(port) as (reader, writer):
        for number in range(3):
            writer.write(GET % number)
            status, headers, body = await read_answer(reader)
            assert (status, body) == (200, b"/%d|" % number)
            assert b"connection" not in headers
        assert server.counters.accepted == 1
        assert server.counters.requests == 3
        assert server.open_connections == 1


@on_both_loops
async def test_peer_is_address_and_port_of_the_client() -> None:
    """The handler learns who is connected."""
    peers = []

    def remember(request: HttpRequest) -> HttpResponse:
        peers.append(request.peer)
        return HttpResponse(200, b"")

    async with serving(remember) as (_, port), connected(port) as (reader, writer):
        writer.write(GET % 0)
        await read_answer(reader)
        own_port = writer.get_extra_info("sockname")[1]
        assert peers == [f"127.0.0.1:{own_port}"]


@on_both_loops
async def test_pipelined_answers_are_in_order_when_sync_and_async_mix() -> None:
    """A slow request isn't overtaken by a fast one behind it."""

    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.01)
        return echo(request)

    def mixed(request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        return slow(request) if int(request.target[1:]) % 3 == 0 else echo(request)

    async with serving(mixed) as (_, port), connected(port) as (reader, writer):
        writer.write(b"".join(GET % number for number in range(12)))
        assert await read_bodies(reader, 12) == [b"/%d|" % number for number in range(12)]


@on_both_loops
async def test_requests_beyond_one_read_are_all_answered() -> None:
    """Large reads are taken in steps; nothing is lost between two steps."""
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(b"".join(GET % number for number in range(2000)))
        assert await read_bodies(reader, 2000) == [b"/%d|" % number for number in range(2000)]


@on_both_loops
async def test_bytes_one_by_one_make_the_same_request() -> None:
    """A request in the smallest packets is answered like a whole one."""
    data = b"POST /0 HTTP/1.1\r\nHost: kms\r\nContent-Length: 3\r\n\r\nabc"
    async with serving() as (_, port), connected(port) as (reader, writer):
        for value in data:
            writer.write(bytes([value]))
            await asyncio.sleep(0)
        assert (await read_answer(reader))[2] == b"/0|abc"


@on_both_loops
async def test_connection_close_is_honoured() -> None:
    """A client that asks for the end gets it with its answer."""
    async with serving() as (_, port):
        data = await exchange(port, LAST)
        assert b"connection: close" in data
        assert data.endswith(b"/last|")


@on_both_loops
async def test_connection_ends_after_its_last_allowed_request() -> None:
    """With a limit of two, the third pipelined request isn't handled."""
    async with serving(limits=replace(PATIENT, max_requests_per_connection=2)) as (server, port):
        data = await exchange(port, b"".join(GET % number for number in range(5)))
        assert data.count(b"HTTP/1.1 200") == 2
        assert data.count(b"connection: close") == 1
        assert server.counters.requests == 2


@on_both_loops
async def test_half_closed_client_still_gets_its_answer() -> None:
    """A client may end its side at once after asking, as scripts do."""

    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.02)
        return echo(request)

    async with serving(slow) as (_, port), connected(port) as (reader, writer):
        writer.write(GET % 1 + GET % 2)
        writer.write_eof()
        assert (await reader.read(-1)).count(b"HTTP/1.1 200") == 2


@on_both_loops
async def test_head_gets_headers_only() -> None:
    """HEAD names the body's length, and the next answer follows at once."""
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(b"HEAD /abc HTTP/1.1\r\nHost: kms\r\n\r\n" + GET % 7)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5\r\n" in head
        assert (await read_answer(reader))[2] == b"/7|"


# Bodies.


@on_both_loops
async def test_chunked_and_sized_bodies_arrive_whole() -> None:
    """Both framings give the handler the same body, also when larger than one step."""
    body = bytes(range(256)) * 16
    sized = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 4096\r\n\r\n" + body
    pieces = b"".join(b"400\r\n%b\r\n" % body[start : start + 1024] for start in range(0, 4096, 1024))
    chunked = b"POST / HTTP/1.1\r\nHost: kms\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(sized + chunked)
        assert await read_bodies(reader, 2) == [b"/|" + body] * 2


@on_both_loops
async def test_expect_continue_is_answered_before_the_body() -> None:
    """A client that asks first is told to go on, after the answers before it."""
    expecting = b"POST /x HTTP/1.1\r\nHost: kms\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(GET % 1 + expecting)
        assert (await read_answer(reader))[2] == b"/1|"
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await read_answer(reader))[2] == b"/x|ab"


@on_both_loops
async def test_expect_continue_for_a_body_too_large_is_refused_at_once() -> None:
    """The final answer comes in place of 100 Continue."""
    head = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 4097\r\nExpect: 100-continue\r\n\r\n"
    async with serving() as (_, port):
        assert_fault(await exchange(port, head), 413, "RequestEntityTooLargeException")


# Protocol errors.


@on_both_loops
async def test_protocol_errors_are_answered_and_close() -> None:
    """Each kind of error has its status, a JSON body and an end, and is counted."""
    host = b" / HTTP/1.1\r\nHost: kms\r\n"
    cases = [
        (b"\0\0\0", 400, "MalformedHttpRequestException"),
        (
            b"POST" + host + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "MalformedHttpRequestException",
        ),
        (
            b"POST" + host + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            400,
            "MalformedHttpRequestException",
        ),
        (b"POST" + host + b"Content-Length: 5000\r\n\r\n", 413, "RequestEntityTooLargeException"),
        (b"GET" + host + b"X: " + b"a" * 2000 + b"\r\n\r\n", 431, "RequestEntityTooLargeException"),
        (b"GET" + host + b"Expect: more\r\n\r\n", 417, "MalformedHttpRequestException"),
    ]
    async with serving() as (server, port):
        for data, status, code in cases:
            assert_fault(await exchange(port, data), status, code)
        assert server.counters.protocol_errors == len(cases)


@on_both_loops
async def test_error_behind_good_requests_comes_in_turn() -> None:
    """Requests before the broken one are answered first, also when they are slow."""

    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.01)
        return echo(request)

    async with serving(slow) as (_, port):
        data = await exchange(port, GET % 1 + GET % 2 + b"\0")
        first, second, fault = data.split(b"HTTP/1.1 ")[1:]
        assert (first[-3:], second[-3:]) == (b"/1|", b"/2|")
        assert fault.startswith(b"400 ")


@on_both_loops
async def test_refusal_reaches_a_client_that_is_still_sending() -> None:
    """The rest of an unwanted body is dropped, and doesn't reset the answer away."""
    head = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 400000\r\n\r\n"
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(head + b"x" * 400_000)
        assert_fault(await reader.read(-1), 413, "RequestEntityTooLargeException")


@on_both_loops
async def test_connection_over_the_limit_gets_503_while_all_others_are_at_work() -> None:
    """Who comes too late is told so, and the others go on."""
    release = asyncio.Event()

    async def blocked(request: HttpRequest) -> HttpResponse:
        await release.wait()
        return echo(request)

    async with serving(blocked, limits=replace(PATIENT, max_connections=1)) as (server, port):
        async with connected(port) as (reader, writer):
            writer.write(GET % 1)
            await until(lambda: server.counters.requests == 1)
            assert_fault(await exchange(port, b""), 503, "ServiceUnavailableException")
            release.set()
            assert (await read_answer(reader))[2] == b"/1|"
        assert (server.counters.refused, server.counters.evicted) == (1, 0)


@on_both_loops
async def test_flood_over_the_limit_is_cut_without_an_answer() -> None:
    """Refusals are bounded too: beyond some room there is no 503, only an end."""

    async def blocked(request: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        return echo(request)

    async with (
        serving(blocked, limits=replace(PATIENT, max_connections=1)) as (server, port),
        connected(port) as (_, writer),
    ):
        writer.write(GET % 1)
        await until(lambda: server.counters.requests == 1)
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(80)]
        await until(lambda: server.counters.refused == 80)
        await until(lambda: server.open_connections <= 1 + 64)
        for _, other in streams:
            other.transport.abort()


# Timeouts.


@on_both_loops
async def test_slow_loris_gets_408_however_steadily_it_drips() -> None:
    """The header timeout runs from the first byte, and no further byte extends it."""
    limits = replace(PATIENT, header_timeout_seconds=0.4)
    async with serving(limits=limits) as (server, port), connected(port) as (reader, writer):
        answer = asyncio.create_task(reader.read(-1))
        for value in GET % 0 * 3:
            if answer.done():
                break
            writer.write(bytes([value]))
            await asyncio.sleep(0.02)
        assert_fault(await answer, 408, "RequestTimeoutException")
        assert server.counters.timeouts == 1
        assert server.counters.requests == 0


@on_both_loops
async def test_slow_body_gets_408() -> None:
    """A body that doesn't come is not waited for."""
    async with serving(limits=replace(PATIENT, body_timeout_seconds=0.15)) as (server, port):
        data = await exchange(port, b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 5\r\n\r\nab")
        assert_fault(data, 408, "RequestTimeoutException")
        assert server.counters.timeouts == 1


@on_both_loops
async def test_silent_connection_is_closed_without_an_answer() -> None:
    """A connection that never asks is ended after the header timeout."""
    async with serving(limits=LIMITS) as (server, port):
        assert await exchange(port, b"") == b""
        assert server.counters.timeouts == 1


@on_both_loops
async def test_idle_connection_is_closed_without_an_answer() -> None:
    """After its last answer a connection may rest for the idle timeout only."""
    async with serving(limits=replace(PATIENT, idle_timeout_seconds=0.15)) as (server, port):
        data = await exchange(port, GET % 1)
        assert data.endswith(b"/1|")
        assert (server.counters.idle_closed, server.counters.timeouts) == (1, 0)


@on_both_loops
async def test_handler_at_work_is_not_timed_out() -> None:
    """The client's timeouts don't run while the server works."""

    async def slow(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.8)
        return echo(request)

    limits = replace(LIMITS, idle_timeout_seconds=300)
    async with serving(slow, limits=limits) as (_, port), connected(port) as (reader, writer):
        writer.write(GET % 1)
        assert (await read_answer(reader))[2] == b"/1|"


# Back-pressure.


@on_both_loops
async def test_reading_pauses_while_pipelined_requests_wait() -> None:
    """A client can't queue more than the limit and what one read step holds."""
    release = asyncio.Event()

    async def blocked(request: HttpRequest) -> HttpResponse:
        await release.wait()
        return echo(request)

    async with serving(blocked) as (server, port), connected(port) as (reader, writer):
        total = 3000
        writer.write(b"".join(GET % number for number in range(total)))
        await until(lambda: any(item._reading_paused for item in server._state.connections))
        (connection,) = server._state.connections
        assert len(connection._parser.ready) <= PATIENT.max_pipelined + PATIENT.max_header_bytes // 20
        release.set()
        assert await read_bodies(reader, total) == [b"/%d|" % number for number in range(total)]
        assert not connection._reading_paused


@on_both_loops
async def test_client_that_does_not_read_stops_being_served_and_is_cut() -> None:
    """Unread answers stop the handler, and after the write timeout the connection ends."""

    def large(_: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"x" * 400_000)

    limits = replace(PATIENT, write_timeout_seconds=0.15)
    async with serving(large, limits=limits) as (server, port), connected(port) as (reader, writer):
        set_reading(writer, paused=True)
        writer.write(b"".join(GET % number for number in range(200)))
        await until(lambda: server.counters.timeouts == 1)
        assert server.counters.requests < 100
        await until(lambda: server.open_connections == 0)
        assert not reader.at_eof()


@on_both_loops
async def test_client_that_reads_late_gets_everything() -> None:
    """Serving goes on when the client reads again."""

    def large(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, request.target + b"x" * 400_000)

    limits = replace(PATIENT, write_timeout_seconds=9)
    async with serving(large, limits) as (server, port), connected(port) as (reader, writer):
        set_reading(writer, paused=True)
        writer.write(b"".join(GET % number for number in range(40)))
        await until(lambda: any(item._writing_paused for item in server._state.connections))
        assert server.counters.requests < 40
        set_reading(writer, paused=False)
        bodies = await read_bodies(reader, 40)
        assert [body.rstrip(b"x") for body in bodies] == [b"/%d" % number for number in range(40)]


# Handlers that fail.


class CapturingHandler(logging.Handler):
    """Keeps each record as the fullest text that a formatter could make of it."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record with all its attributes and its traceback."""
        self.texts.append(self.format(record) + repr(record.__dict__))


@asynccontextmanager
async def capturing() -> AsyncIterator[list[str]]:
    """Capture all logs at DEBUG."""
    root, handler = logging.getLogger(), CapturingHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    try:
        yield handler.texts
    finally:
        asyncio.get_running_loop().set_debug(False)
        root.removeHandler(handler)
        root.setLevel(level)


class QuotingError(Exception):
    """An error whose text quotes what it failed on."""


def failing_handlers() -> Iterable[Handler]:
    """Yield handlers that fail in each way there is."""

    def raise_at_once(request: HttpRequest) -> HttpResponse:
        raise QuotingError(request.body)

    async def raise_later(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        raise QuotingError(request.body) from ValueError(request.body)

    async def cancel_itself(_: HttpRequest) -> HttpResponse:
        raise asyncio.CancelledError("canary")

    def forge_header(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, request.body, headers=((b"x", b"\r\n" + request.body),))

    def return_nothing(_: HttpRequest) -> HttpResponse:
        return None  # type: ignore[return-value]

    def return_text(_: HttpRequest) -> HttpResponse:
        return HttpResponse(200, "canary")  # type: ignore[arg-type]

    yield from (raise_at_once, raise_later, cancel_itself, forge_header, return_nothing, return_text)


@on_both_loops
async def test_failing_handler_gives_500_and_leaks_nothing() -> None:
    """Neither the answer nor any log holds more than the exception's class name."""
    post = (
        b"POST /canary HTTP/1.1\r\nHost: canary\r\nAuthorization: canary\r\nContent-Length: 6\r\n\r\ncanary"
    )
    for handler in failing_handlers():
        async with (
            capturing() as texts,
            serving(handler) as (server, port),
            connected(port) as (reader, writer),
        ):
            writer.write(post * 2)
            for _ in range(2):  # the connection goes on
                status, _, body = await read_answer(reader)
                assert status == 500
                assert body == b'{"__type":"KMSInternalException","message":"internal failure"}'
            assert server.counters.handler_failures == 2
        assert any("http_handler_failed" in text and "error_class" in text for text in texts)
        assert not [text for text in texts if "canary" in text or "Traceback" in text]


@on_both_loops
async def test_protocol_errors_and_resets_log_nothing_of_the_client() -> None:
    """Hostile bytes leave no trace in a log at any level."""
    async with capturing() as texts, serving(limits=LIMITS) as (_, port):
        await exchange(port, b"GET /canary HTTP/1.1\r\nHost: canary\r\ncanary canary\r\n\r\n")
        await exchange(port, b"POST /canary HTTP/1.1\r\nHost: canary\r\nContent-Length: 99\r\n\r\ncanary")
        async with connected(port) as (_, writer):
            writer.write(b"GET /canary HTTP/1.1\r\nHost: can")
    assert not [text for text in texts if "canary" in text or "Traceback" in text]


@on_both_loops
async def test_client_that_left_does_not_cancel_the_handler() -> None:
    """Work that was begun, and may have changed state, ends; it still counts as a connection."""
    release, ended = asyncio.Event(), []

    async def slow(request: HttpRequest) -> HttpResponse:
        await release.wait()
        ended.append(request.target)
        return echo(request)

    async with serving(slow) as (server, port):
        async with connected(port) as (_, writer):
            writer.write(GET % 1)
            await until(lambda: server.counters.requests == 1)
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        (connection,) = server._state.connections
        await until(lambda: connection._transport is None)
        assert server.open_connections == 1
        release.set()
        await until(lambda: server.open_connections == 0)
        assert ended == [b"/1"]


# Start and drain.


@on_both_loops
async def test_drain_answers_what_is_in_flight_and_closes_what_is_idle() -> None:
    """In-flight and pipelined requests are answered, the last with close; new clients are refused."""
    release = asyncio.Event()

    async def slow(request: HttpRequest) -> HttpResponse:
        await release.wait()
        return echo(request)

    async with serving(slow) as (server, port):
        async with connected(port) as (busy, writer), connected(port) as (idle, _):
            writer.write(GET % 1 + GET % 2)
            await until(lambda: server.counters.requests == 1 and server.open_connections == 2)
            draining = asyncio.create_task(server.drain(60))
            assert await idle.read(-1) == b""
            with pytest.raises(OSError, match=r".+"):
                await asyncio.open_connection("127.0.0.1", port)
            release.set()
            data = await busy.read(-1)
            writer.close()
            await draining
        first, second = data.split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert b"connection: close" not in first
        assert b"connection: close" in second
        assert server.open_connections == 0


@on_both_loops
async def test_drain_lets_a_request_arrive_to_its_end() -> None:
    """A request that is half received when the drain begins is answered with close."""
    async with serving() as (server, port), connected(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 2\r\n\r\na")
        await until(lambda: any(item._parser.in_body for item in server._state.connections))
        draining = asyncio.create_task(server.drain(60))
        await until(lambda: server._state.draining)
        writer.write(b"b")
        status, headers, body = await read_answer(reader)
        assert (status, headers[b"connection"], body) == (200, b"close", b"/|ab")
        writer.close()
        await draining


@on_both_loops
async def test_drain_cuts_what_outlives_its_grace() -> None:
    """After the grace time handlers are cancelled and connections end without an answer."""
    cancelled = []

    async def endless(_: HttpRequest) -> HttpResponse:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return HttpResponse(200, b"")

    async with serving(endless) as (server, port), connected(port) as (reader, writer):
        writer.write(GET % 1)
        await until(lambda: server.counters.requests == 1)
        await server.drain(0.05)
        assert cancelled == [True]
        assert server.open_connections == 0
        with suppress(ConnectionResetError):
            assert await reader.read(-1) == b""


@on_both_loops
async def test_drain_before_start_and_twice_is_harmless() -> None:
    """Shutting down needs no knowledge of how far the start came."""
    server = HttpServer(echo, PATIENT)
    await server.drain(0)
    async with serving() as (running, _):
        await running.drain(0)


@on_both_loops
async def test_second_start_is_refused() -> None:
    """A server is one socket."""
    async with serving() as (server, _):
        with pytest.raises(RuntimeError):
            await server.start("127.0.0.1", 0)


@on_both_loops
async def test_two_servers_share_a_port_if_told_so() -> None:
    """With reuse_port several processes can serve one port; without it the second is refused."""
    first, second, third = (HttpServer(echo, PATIENT) for _ in range(3))
    port = await first.start("127.0.0.1", 0, reuse_port=True)
    assert await second.start("127.0.0.1", port, reuse_port=True) == port
    with pytest.raises(OSError, match=r".+"):
        await third.start("127.0.0.1", port)
    for server in (first, second, third):
        await server.drain(0)
