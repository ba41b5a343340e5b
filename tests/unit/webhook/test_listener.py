"""The listening socket: slow, greedy and pipelining callers are ended, others are answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from datakeys.webhook import listener
from datakeys.webhook.connections import Limits
from datakeys.webhook.listener import Listener
from ports import find_free_port

LIMITS = Limits(connections=8, per_address=8, held_bytes=1 << 20, turns=1)
GET = b"GET / HTTP/1.1\r\nHost: webhook\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: webhook\r\nContent-Length: %d\r\n\r\n"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def measure(request: web.Request) -> web.Response:
    """Answer with the body's length."""
    return web.Response(text=f"{len(await request.read())} bytes")


@asynccontextmanager
async def serving(
    answer: Answer = measure, limits: Limits = LIMITS
) -> AsyncIterator[Callable[[], Awaitable[Stream]]]:
    """Serve on loopback; give a function that connects."""
    application = web.Application(client_max_size=1000)
    application.router.add_route("*", "/", answer)
    served, port = Listener(application, limits, lambda: None), find_free_port("127.0.0.1")
    await served.open("127.0.0.1", port)
    writers = []

    async def connect() -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        await served.close()


async def ask(stream: Stream, request: bytes = GET) -> bytes:
    """Send a request; return all that comes."""
    stream[1].write(request)
    head = await stream[0].readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    return head.partition(b"\r\n")[0] + b" " + await stream[0].readexactly(length)


async def read_end(stream: Stream) -> bytes:
    """Return what comes until the connection ends."""
    try:
        return await stream[0].read(-1)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("opening", [b"GET /?", POST % 9 + b"x"], ids=["header", "body"])
async def test_request_that_does_not_end_is_ended(opening: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily it drips; who has asked for nothing may stay."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.3)
    async with serving() as connect:
        idle, slow = await connect(), await connect()
        assert await ask(idle) == b"HTTP/1.1 200 OK 0 bytes"
        slow[1].write(opening)
        end = asyncio.create_task(read_end(slow))
        while not end.done():
            slow[1].write(b"y" if opening.startswith(b"GET") else b"")
            await asyncio.sleep(0.02)
        assert await end == b""
        assert await ask(idle) == b"HTTP/1.1 200 OK 0 bytes"


async def test_answer_that_nobody_reads_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one has its turn anyway."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.3)
    lost = asyncio.Event()

    async def answer_at_length(request: web.Request) -> web.Response:
        if request.method == "GET":
            return await measure(request)
        request.task.add_done_callback(lambda _: lost.set())
        return web.Response(body=b"x" * 50_000_000)

    async with serving(answer_at_length) as connect:
        greedy, good = await connect(), await connect()
        greedy[1].transport.pause_reading()  # type: ignore[attr-defined]
        greedy[1].write(POST % 1 + b"x")
        await asyncio.wait_for(lost.wait(), 60)
        assert await ask(good) == b"HTTP/1.1 200 OK 0 bytes"


async def test_request_behind_an_unanswered_one_ends_the_connection() -> None:
    """API servers never do that."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        begun.set()
        await release.wait()
        return await measure(request)

    async with serving(wait) as connect:
        stream = await connect()
        stream[1].write(GET)
        await begun.wait()
        stream[1].write(GET)
        assert await read_end(stream) == b""
        release.set()
        assert await ask(await connect()) == b"HTTP/1.1 200 OK 0 bytes"


async def test_one_address_waits_for_its_turn() -> None:
    """With one turn, the second request begins when the first is answered."""
    at_work = most = 0

    async def count(request: web.Request) -> web.Response:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        at_work -= 1
        return await measure(request)

    async with serving(count) as connect:
        streams = [await connect() for _ in range(5)]
        answers = await asyncio.gather(*(ask(stream, POST % 5 + b"12345") for stream in streams))
    assert set(answers) == {b"HTTP/1.1 200 OK 5 bytes"}
    assert most == 1


@pytest.mark.parametrize(
    "request_bytes",
    [POST % 1001, b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000],
    ids=["announced", "chunked"],
)
async def test_too_long_a_body_is_refused(request_bytes: bytes) -> None:
    """Before it is read, if its length is told."""
    async with serving() as connect:
        assert (await ask(await connect(), request_bytes)).startswith(b"HTTP/1.1 413 ")


async def test_newcomer_is_answered_when_all_places_are_taken() -> None:
    """By those who wait in the middle of a header."""
    async with serving(limits=replace(LIMITS, connections=3, per_address=3)) as connect:
        slow = [await connect() for _ in range(6)]
        for stream in slow:
            stream[1].write(b"GET / HT")
            assert await ask(await connect()) == b"HTTP/1.1 200 OK 0 bytes"
