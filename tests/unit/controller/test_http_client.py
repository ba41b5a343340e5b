"""The client of one call and one answer, against a server that sends exactly the bytes it is told to."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from datakeys.controller import http_client
from datakeys.controller.http_client import Answer, ClosedError, HttpClient, NoAnswerError
from loopback_certificate import make_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SILENCE = b""
HANG_UP = b"hang up"


@dataclass
class Server:
    """Reads calls whole and answers each with the next bytes; it counts its connections."""

    answers: list[bytes] = field(default_factory=list)
    calls: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writers.append(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            length = int(head.rpartition(b"Content-Length: ")[2])
            self.calls.append(head + await reader.readexactly(length))
            answer = self.answers.pop(0)
            if answer.endswith(HANG_UP):
                writer.write(answer.removesuffix(HANG_UP))
                writer.close()
                return
            writer.write(answer)

    def client(
        self,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        path: str = "",
        idle_seconds: float = 60.0,
    ) -> HttpClient:
        """Return a client of this server."""
        scheme = "https" if self.tls else "http"
        return HttpClient(f"{scheme}://127.0.0.1:{self.port}{path}", tls, idle_seconds=idle_seconds)

    async def serve(self) -> asyncio.Server:
        """Listen on a free port."""
        listener = await asyncio.start_server(self.handle, "127.0.0.1", 0, ssl=self.tls)
        self.port = listener.sockets[0].getsockname()[1]
        return listener


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a plain server."""
    server = Server()
    listener = await server.serve()
    yield server
    listener.close()
    for writer in server.writers:
        writer.close()


async def get(client: HttpClient, seconds: float = 60.0) -> Answer:
    """Make the plainest call."""
    return await client.call("GET", "/", {}, b"", seconds)


async def until_dropped(client: HttpClient) -> None:
    """Wait until no connection is kept."""
    async with asyncio.timeout(60):
        while client._idle:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_a_call_is_what_was_asked_for(server: Server) -> None:
    """Head and body leave as one message, behind the path of the server's URL."""
    server.answers.append(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmade")
    async with server.client(path="/clusters/one/") as client:
        answer = await client.call("POST", "/a?b=c", {"Accept": "x"}, b"body", 20)
    assert answer == Answer(201, b"made")
    assert server.calls == [
        f"POST /clusters/one/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "User-Agent: datakeys-controller\r\nAccept: x\r\nContent-Length: 4\r\n\r\nbody".encode()
    ]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, b"")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
            Answer(200, b"abcde"),
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, Answer(200, b"ok")),
    ],
)
async def test_answers_in_every_framing_leave_the_connection_to_the_next_call(
    server: Server, sent: bytes, expected: Answer
) -> None:
    """Without a body, in chunks, after an interim answer."""
    server.answers += [sent, OK]
    async with server.client() as client:
        assert await get(client) == expected
        assert await get(client) == Answer(200, b"ok")
    assert len(server.writers) == 1


async def test_calls_at_the_same_time_have_a_connection_each(server: Server) -> None:
    """They don't wait for each other; afterwards all connections are kept."""
    server.answers += [OK] * 6
    async with server.client() as client:
        for _ in range(2):
            await asyncio.gather(*(get(client) for _ in range(3)))
    assert len(server.writers) == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,
        OK + b"junk",
    ],
)
async def test_connection_that_is_over_or_out_of_step_isnt_used_again(server: Server, sent: bytes) -> None:
    """The answer counts; whatever comes behind it is never taken for the next one."""
    server.answers += [sent, OK]
    async with server.client() as client:
        assert await get(client) == Answer(200, b"ok")
        assert await get(client) == Answer(200, b"ok")
    assert len(server.writers) == 2


async def test_what_nobody_asked_for_ends_the_connection(server: Server) -> None:
    """An answer that comes early isn't the answer to the next call."""
    server.answers += [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal"]
    async with server.client() as client:
        await get(client)
        server.writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        await until_dropped(client)
        assert await get(client) == Answer(200, b"real")


@pytest.mark.parametrize(
    "sent",
    [
        HANG_UP,
        b"HTTP/1.1 200 OK\r\nContent-Le" + HANG_UP,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" + HANG_UP,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" + HANG_UP,
        b"HTTP/1.1 200 OK\r\n\r\na body of unknown length" + HANG_UP,
    ],
)
async def test_half_an_answer_is_none(server: Server, sent: bytes) -> None:
    """A connection that ends before the answer does is told apart from an answer."""
    server.answers += [sent, OK]
    async with server.client() as client:
        with pytest.raises(ClosedError):
            await get(client)
        assert await get(client) == Answer(200, b"ok")


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
async def test_what_isnt_an_answer_is_refused(server: Server, sent: bytes) -> None:
    """Other protocols, an upgrade, two framings at once, bare line feeds, an endless head."""
    server.answers.append(sent)
    async with server.client() as client:
        with pytest.raises(NoAnswerError) as refused:
            await get(client)
    assert type(refused.value) is NoAnswerError


async def test_endless_body_is_cut(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body longer than any answer ends the call instead of filling the memory."""
    monkeypatch.setattr(http_client, "_MAX_ANSWER_BYTES", 100_000)
    server.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(900_000))
    async with server.client() as client:
        with pytest.raises(NoAnswerError, match="too long"):
            await get(client)


async def test_silence_ends_the_call_and_its_connection(server: Server) -> None:
    """After the time the call fails; its late answer can't become that of another call."""
    server.answers += [SILENCE, OK]
    async with server.client() as client:
        with pytest.raises(TimeoutError):
            await get(client, 0.1)
        assert await get(client) == Answer(200, b"ok")
    assert len(server.writers) == 2


async def test_connection_that_was_idle_for_long_isnt_used(server: Server) -> None:
    """The server may close it at this very moment, and then nobody knows what has become of a call."""
    server.answers += [OK, OK]
    async with server.client(idle_seconds=0.0) as client:
        await get(client)
        await get(client)
    assert len(server.writers) == 2


async def test_kept_connection_that_the_server_closes_is_forgotten(server: Server) -> None:
    """It isn't tried, and it isn't kept."""
    server.answers += [OK, OK]
    async with server.client() as client:
        await get(client)
        server.writers[0].close()
        await until_dropped(client)
        assert await get(client) == Answer(200, b"ok")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nX: y", {}),
        ("/\u00fc", {}),
        ("/", {"X": "y\r\nZ: 1"}),
        ("/", {"X": "y\nZ: 1"}),
        ("/", {"X": "y\rZ"}),
        ("/", {"X\r\nY": "z"}),
    ],
)
async def test_nothing_slips_into_a_head(server: Server, path: str, headers: dict[str, str]) -> None:
    """A line break in a value would be another header, or another call."""
    async with server.client() as client:
        with pytest.raises(ValueError, match="can't be sent"):
            await client.call("GET", path, headers, b"", 20)
    assert server.calls == []


async def test_next_address_is_tried(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two addresses the one that answers is used; a name without any is told."""
    found: list[tuple[Any, ...]] = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
    ]

    async def resolve(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    server.answers.append(OK)
    async with server.client() as client:
        assert await get(client) == Answer(200, b"ok")
    async with server.client() as client:
        found.clear()
        with pytest.raises(NoAnswerError, match="no address"):
            await get(client)


async def test_closed_client_is_a_mistake(server: Server) -> None:
    """A call outside the context is a programmer's error, not an outage."""
    client = server.client()
    async with client:
        pass
    with pytest.raises(RuntimeError):
        await get(client)


async def test_new_context_has_new_connections(tmp_path: Path) -> None:
    """Whom the former authority vouched for has to prove itself to the new one."""
    server = Server(tls=make_certificate(tmp_path))
    listener = await server.serve()
    contexts = [ssl.create_default_context(cafile=tmp_path / "ca.crt") for _ in range(2)]
    contexts.append(ssl.create_default_context())
    current = contexts[0]
    server.answers += [OK] * 3
    async with server.client(lambda: current) as client:
        await get(client)
        await get(client)
        assert len(server.writers) == 1
        current = contexts[1]
        await get(client)
        assert len(server.writers) == 2
        current = contexts[2]
        with pytest.raises(ssl.SSLCertVerificationError):
            await get(client)
    assert len(server.calls) == 3
    listener.close()


async def test_certificate_for_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the URL counts, not the address that it leads to."""
    server = Server(tls=make_certificate(tmp_path))
    listener = await server.serve()

    async def resolve(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    async with HttpClient("https://other.example", lambda: trusting, idle_seconds=60) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            await get(client)
    assert server.calls == []
    listener.close()
