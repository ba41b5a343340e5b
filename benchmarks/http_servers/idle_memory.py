"""Measure what idle keep-alive connections cost the own server: bytes of resident memory each.

``idle_memory.py [CONNECTIONS]`` plain, and ``idle_memory.py CONNECTIONS CERTIFICATE.pem`` (key and
certificate in one file) with TLS. The clients live in a child process.
"""

import asyncio
import gc
import pathlib
import resource
import ssl
import sys

import uvloop

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "operator"))

from datakeys.keyservice.server.http import HttpLimits, HttpResponse, HttpServer

REQUEST = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 2\r\n\r\n{}"
PAGE = resource.getpagesize()


def read_resident_bytes():
    gc.collect()
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * PAGE


def allow_files(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


async def hold_connections(port, count, tls):
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    held = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        held.append((reader, writer))
    print("held", flush=True)
    await asyncio.Event().wait()


async def measure(count, certificate):
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    limits = HttpLimits(idle_timeout_seconds=3600, max_connections=count)
    server = HttpServer(lambda _: HttpResponse(200, b""), limits, ssl_context=context)
    port = await server.start("127.0.0.1", 0)
    before = read_resident_bytes()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "hold",
        str(port),
        str(count),
        "tls" if certificate else "",
        stdout=asyncio.subprocess.PIPE,
    )
    await child.stdout.readline()
    used = read_resident_bytes() - before
    print(f"{server.open_connections} connections, {used / 2**20:.1f} MiB, {used / count:,.0f} bytes each")
    child.kill()
    await child.wait()
    await server.drain(1)


if __name__ == "__main__":
    allow_files(65536)
    if sys.argv[1:2] == ["hold"]:
        uvloop.run(hold_connections(int(sys.argv[2]), int(sys.argv[3]), bool(sys.argv[4])))
    else:
        uvloop.run(measure(int(sys.argv[1]) if sys.argv[1:] else 10_000, "".join(sys.argv[2:3])))
