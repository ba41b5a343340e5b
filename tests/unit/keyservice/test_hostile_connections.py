"""More connections, handshakes and bodies than there is room for: the slowest go, others are served."""

import asyncio
import errno
import os
import shutil
import socket
import ssl
import time
from asyncio.subprocess import PIPE, STDOUT
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import cast

import pytest
import uvloop

from datakeys.keyservice.pki.authority import Lifetimes, build_generation, build_leaf
from datakeys.keyservice.pki.tls import build_server_context
from datakeys.keyservice.server import http_listener
from datakeys.keyservice.server.http import HttpLimits, HttpRequest, HttpResponse
from datakeys.keyservice.server.http_deadlines import Phase
from http_serving import Stream, connected, exchange, serving, until

#: No timeout helps in these tests.
PATIENT = HttpLimits(header_timeout_seconds=600, body_timeout_seconds=600, idle_timeout_seconds=600)
GET = b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: %d\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: kms\r\nConnection: close\r\n\r\n"
SERVED = b"HTTP/1.1 200 OK\r\n"


def measure(request: HttpRequest) -> HttpResponse:
    """Answer with the body's length."""
    return HttpResponse(200, b"%d bytes" % len(request.body))


async def ask(stream: Stream) -> bytes:
    """Send a request; return its answer's body."""
    reader, writer = stream
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(SERVED)
    return await reader.readexactly(7)


async def is_ended(stream: Stream) -> bool:
    """Return whether the server has ended a connection without an answer."""
    try:
        return await stream[0].read(-1) == b""
    except ConnectionResetError:
        return True


def test_newcomer_takes_the_place_of_who_has_asked_for_nothing_for_longest() -> None:
    """Of those between two requests the oldest goes; who has just asked, or is just asking, stays."""

    async def scenario() -> None:
        async with (
            serving(measure, replace(PATIENT, max_connections=3)) as (server, port),
            connected(port) as midst,
            connected(port) as first,
            connected(port) as second,
        ):
            for stream in (midst, first, second):
                assert await ask(stream) == b"0 bytes"
            midst[1].write(GET[:9])
            await until(lambda: sum(item._parser.in_headers for item in server._state.connections) == 1)
            assert (await exchange(port, LAST)).startswith(SERVED)
            assert await is_ended(first)
            assert await ask(second) == b"0 bytes"
            midst[1].write(GET[9:])
            assert (await midst[0].readuntil(b"\r\n\r\n")).startswith(SERVED)
            assert (server.counters.evicted, server.counters.refused) == (1, 0)

    uvloop.run(scenario())


def test_who_asks_is_not_ended_for_those_who_only_connect() -> None:
    """Though it rests between its requests: the silent ones have been silent for longer."""

    async def scenario() -> None:
        limits = replace(PATIENT, max_connections=10)
        async with serving(measure, limits) as (server, port), AsyncExitStack() as stack:
            good = await stack.enter_async_context(connected(port))
            for _ in range(60):
                await stack.enter_async_context(connected(port))
                assert await ask(good) == b"0 bytes"
            await until(lambda: server.counters.evicted >= 50)

    uvloop.run(scenario())


@pytest.mark.parametrize("opening", [b"", b"GET", POST % 9 + b"x"], ids=["silent", "header", "body"])
def test_slow_clients_that_take_all_places_keep_nobody_out(opening: bytes) -> None:
    """Their timeouts are far away; newcomers are served all the same."""

    async def scenario() -> None:
        async with serving(measure, replace(PATIENT, max_connections=20)) as (server, port):
            async with AsyncExitStack() as stack:
                for _ in range(20):
                    _, writer = await stack.enter_async_context(connected(port))
                    writer.write(opening)
                await until(lambda: server.open_connections == 20)
                for _ in range(30):
                    assert (await exchange(port, LAST)).startswith(SERVED)
                assert server.open_connections <= 20
            assert server.counters.refused == 0

    uvloop.run(scenario())


def test_clients_that_do_not_read_keep_nobody_out() -> None:
    """Their places are taken while the server waits for them to take their answers."""

    def answer_at_length(request: HttpRequest) -> HttpResponse:
        return measure(request) if request.body else HttpResponse(200, b"x" * 8_000_000)

    async def scenario() -> None:
        async with serving(answer_at_length, replace(PATIENT, max_connections=5)) as (server, port):
            async with AsyncExitStack() as stack:
                for _ in range(5):
                    _, writer = await stack.enter_async_context(connected(port))
                    cast("asyncio.Transport", writer.transport).pause_reading()
                    writer.write(GET * 3)
                await until(lambda: len(server._state.deadlines._due[Phase.WRITE]) == 5)
                for _ in range(8):
                    whole = POST % 5 + b"hello"
                    stream = await stack.enter_async_context(connected(port))
                    stream[1].write(whole)
                    assert (await stream[0].readuntil(b"5 bytes")).startswith(SERVED)
            assert server.counters.refused == 0

    uvloop.run(scenario())


def test_bodies_that_do_not_end_hold_no_more_than_their_limit() -> None:
    """Beyond it the slowest go; a whole body of the same length is served meanwhile."""

    async def scenario() -> None:
        limits = replace(PATIENT, max_held_bytes=400_000, max_body_bytes=100_000)
        async with serving(measure, limits) as (server, port), AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(connected(port)) for _ in range(12)]
            for _, writer in slow:
                writer.write(POST % 100_000 + b"x" * 90_000)
            await until(lambda: server.counters.evicted >= 8)
            assert server._state.held_bytes <= limits.max_held_bytes
            answer = await exchange(port, POST % 100_000 + b"x" * 100_000 + LAST)
            assert b"100000 bytes" in answer
            assert server.open_connections <= 4

    uvloop.run(scenario())


def test_pipelined_bodies_wait_in_the_kernel() -> None:
    """Behind a handler at work only a little is read ahead, however much is sent."""
    release = asyncio.Event()

    async def blocked(request: HttpRequest) -> HttpResponse:
        await release.wait()
        return measure(request)

    async def scenario() -> None:
        async with serving(blocked, PATIENT) as (server, port), connected(port) as (reader, writer):
            writer.write((POST % 100_000 + b"x" * 100_000) * 20)
            await until(lambda: any(item._reading_paused for item in server._state.connections))
            assert server._state.held_bytes <= 100_000 + 16 * 1024
            release.set()
            for _ in range(20):
                assert (await reader.readuntil(b"100000 bytes")).startswith(SERVED)

    uvloop.run(scenario())


def build_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's TLS context as the product builds it, and a client's that trusts anybody."""
    lifetimes = Lifetimes()
    generation = build_generation(time.time(), lifetimes)
    server = build_server_context(build_leaf(generation, ["kms"], time.time(), lifetimes))
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


def test_handshakes_that_do_not_end_keep_nobody_out() -> None:
    """Of too many the oldest is dropped, long before its time is over."""
    server_context, client_context = build_contexts()

    async def scenario() -> None:
        limits = replace(PATIENT, max_handshakes=10, handshake_timeout_seconds=600)
        async with serving(measure, limits, server_context) as (server, port), AsyncExitStack() as stack:
            for _ in range(30):
                _, writer = await stack.enter_async_context(connected(port))
                writer.write(b"\x16\x03\x01\x02\x00")
            for _ in range(5):
                assert (await exchange(port, LAST, client_context)).startswith(SERVED)
            await until(lambda: server.counters.evicted >= 20)
            assert len(server._listener._handshakes) <= 10

    uvloop.run(scenario())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to renegotiate")
def test_renegotiation_is_refused() -> None:
    """TLS 1.2 has it: handshakes again and again on one connection, at the server's cost."""
    server_context, client_context = build_contexts()

    async def scenario() -> None:
        async with serving(measure, PATIENT, server_context) as (server, port):
            command = ("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2")
            client = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, env={"PATH": os.environ["PATH"]}
            )
            shown, _ = await asyncio.wait_for(client.communicate(b"R\n"), 60)
            assert b"no renegotiation" in shown
            assert (await exchange(port, LAST, client_context)).startswith(SERVED)
            assert server.counters.requests == 1

    uvloop.run(scenario())


def test_failed_handshakes_count_as_long_as_the_loop_keeps_their_buffers() -> None:
    """A flood of them is cut before TLS begins; when their time is over everybody is served again."""
    server_context, client_context = build_contexts()

    async def scenario() -> None:
        limits = replace(PATIENT, max_handshakes=10, handshake_timeout_seconds=600)
        async with serving(measure, limits, server_context) as (server, port):
            for _ in range(60):
                await exchange(port, b"no TLS at all")
            assert server.counters.evicted >= 20
            assert server._listener._count_remembered() <= 40
        limits = replace(limits, handshake_timeout_seconds=0.5)
        async with serving(measure, limits, server_context) as (server, port):
            for _ in range(60):
                await exchange(port, b"no TLS at all")
            await until(lambda: server._listener._count_remembered() == 0)
            await until_served(port)

    async def until_served(port: int) -> None:
        # A handshake that takes longer than this server allows is tried again.
        async with asyncio.timeout(60):
            while not (await exchange(port, LAST, client_context)).startswith(SERVED):
                pass

    uvloop.run(scenario())


def test_accepting_goes_on_after_the_files_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses for want of file descriptors: no hot loop, and the next try comes by itself."""
    monkeypatch.setattr(http_listener, "_PAUSE_SECONDS", 0.01)
    tries = 0

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal tries
            tries += 1
            if tries <= 3:
                raise OSError(errno.EMFILE, "too many open files")
            return super().accept()

    async def scenario() -> None:
        monkeypatch.setattr(socket, "socket", Full)
        async with serving(measure, PATIENT) as (_, port):
            monkeypatch.undo()
            assert (await exchange(port, LAST)).startswith(SERVED)
        assert tries == 5  # three failures, the client, and that there is nobody else

    uvloop.run(scenario())
