"""What a call costs the client's process: the controller's own client, aiohttp, and what else is installed.

Over TLS and kept connections, 32 in flight, 700 bytes there and 1,500 back, on uvloop; the server, with a
constant answer, is a process of its own. CPU time of the client's process with all its threads; medians of
rounds in turns.

    python benchmarks/controller/http_clients.py
"""

import asyncio
import importlib.util
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "tests" / "support")]

import uvloop  # noqa: E402
from bench_api import IN_FLIGHT, in_parallel, read_cpu_seconds  # noqa: E402
from httptools import HttpRequestParser  # noqa: E402

from datakeys.controller.http_client import HttpClient  # noqa: E402
from loopback_certificate import make_certificate  # noqa: E402

CALLS, ROUNDS = 5_000, 5
PATH = "/apis/datakeys.dev/v1alpha1/namespaces/shop/datakeyrequests/orders/status"
BODY = b'{"b":"' + b"y" * 700 + b'"}'
HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/merge-patch+json",
    "Authorization": "Bearer " + "z" * 1000,
}
_ANSWER = b'{"a":"' + b"x" * 1500 + b'"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nAudit-Id: 3b2c1c0c-0000-0000-0000-000000000000\r\n"
    b"Cache-Control: no-cache, private\r\n"
    b"Content-Type: application/json\r\nDate: Wed, 25 Nov 2026 20:50:00 GMT\r\n"
    b"Content-Length: " + str(len(_ANSWER)).encode() + b"\r\n\r\n" + _ANSWER
)
Call = Callable[[], Awaitable[object]]


class Responder(asyncio.Protocol):
    """Answers each call with the same bytes."""

    def connection_made(self, transport):
        self._transport, self._parser = transport, HttpRequestParser(self)

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_message_complete(self):
        self._transport.write(ANSWER)


def serve(folder: Path, port: "multiprocessing.Queue[int]") -> None:
    async def run() -> None:
        tls = make_certificate(folder)
        server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0, ssl=tls)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@asynccontextmanager
async def own(url: str, ca_file: Path) -> AsyncIterator[Call]:
    tls = ssl.create_default_context(cafile=ca_file)
    async with HttpClient(url, lambda: tls, idle_seconds=60.0) as client:
        yield lambda: client.call("PATCH", PATH, HEADERS, BODY, 20.0)


@asynccontextmanager
async def aiohttp(url: str, ca_file: Path) -> AsyncIterator[Call]:
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=ca_file))
    jar, timeout = aiohttp.DummyCookieJar(), aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=timeout) as session:

        async def call() -> bytes:
            async with session.request("PATCH", url + PATH, data=BODY, headers=HEADERS) as answer:
                return await answer.read()

        yield call


@asynccontextmanager
async def pyreqwest(url: str, _: Path) -> AsyncIterator[Call]:
    from pyreqwest.client import ClientBuilder  # noqa: PLC0415

    # Its TLS takes no self-signed certificate of a server as its own authority.
    async with ClientBuilder().danger_accept_invalid_certs(True).build() as client:  # noqa: FBT003

        async def call() -> object:
            request = client.patch(url + PATH).headers(HEADERS).body_bytes(BODY).build()
            return await (await request.send()).bytes()

        yield call


@asynccontextmanager
async def aiosonic(url: str, _: Path) -> AsyncIterator[Call]:
    import aiosonic  # noqa: PLC0415
    from aiosonic.connectors import TCPConnector  # noqa: PLC0415
    from aiosonic.pools import PoolConfig  # noqa: PLC0415

    connector = TCPConnector(pool_configs={":default": PoolConfig(size=64)})
    async with aiosonic.HTTPClient(connector=connector, verify_ssl=False) as client:

        async def call() -> bytes:
            return await (await client.patch(url + PATH, headers=HEADERS, data=BODY)).content()

        yield call


async def measure(url: str, ca_file: Path) -> dict[str, list[float]]:
    """Return microseconds per call of each round."""
    installed = [one for one in (aiohttp, pyreqwest, aiosonic) if importlib.util.find_spec(one.__name__)]
    async with AsyncExitStack() as stack:
        clients = {
            one.__name__: await stack.enter_async_context(one(url, ca_file)) for one in (own, *installed)
        }
        found: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(ROUNDS + 1):
            for name, call in clients.items():
                before = read_cpu_seconds(os.getpid())
                await in_parallel(lambda _, call=call: call(), range(CALLS), IN_FLIGHT)
                if turn:  # the first opens the connections
                    found[name].append((read_cpu_seconds(os.getpid()) - before) / CALLS * 1e6)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, ports = Path(scratch), multiprocessing.get_context("spawn").Queue()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, ports), daemon=True)
        server.start()
        url = f"https://127.0.0.1:{ports.get(timeout=30)}"
        found = uvloop.run(measure(url, folder / "ca.crt"))
        server.terminate()
    print("| client | CPU us per call |\n|---|---|")
    for name, rounds in found.items():
        print(f"| {name} | {statistics.median(rounds):.0f} ({min(rounds):.0f} to {max(rounds):.0f}) |")
    print(f"\nPython {sys.version.split()[0]}; {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
