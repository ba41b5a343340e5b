"""One HTTP server on 127.0.0.1: ``servers.py CANDIDATE WORKLOAD PORT`` with the same work behind each.

``servers.py time-work`` times the work by itself. ``constant`` answers the same bytes. ``work`` stands in
for GenerateDataKeyWithoutPlaintext: parse JSON, derive a key by HMAC-SHA256, encrypt 32 random bytes by
AES-256-GCM, write JSON.
"""

# ruff: noqa: PLC0415 - each process imports its own candidate only
import asyncio
import base64
import hmac
import json
import os
import pathlib
import statistics
import sys
import timeit

import uvloop
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "operator"))

CONTENT_TYPE = "application/x-amz-json-1.1"
CONSTANT = json.dumps({"CiphertextBlob": "A" * 200, "KeyId": "arn:k8s:kms:c:n:key/" + "0" * 36}).encode()
BACKING_KEY = os.urandom(32)


def answer_constant(_: bytes) -> bytes:
    return CONSTANT


def answer_with_work(body: bytes) -> bytes:
    request = json.loads(body)
    context = json.dumps(request["EncryptionContext"], sort_keys=True).encode()
    nonce = os.urandom(28)
    key = hmac.digest(BACKING_KEY, nonce[:16], "sha256")
    sealed = AESGCM(key).encrypt(nonce[16:], os.urandom(32), context)
    blob = base64.b64encode(nonce + sealed).decode()
    return json.dumps({"CiphertextBlob": blob, "KeyId": request["KeyId"]}).encode()


WORKLOADS = {"constant": answer_constant, "work": answer_with_work}


def serve_own(work, port):
    from datakeys.keyservice.server.http import HttpLimits, HttpResponse, HttpServer

    async def main():
        server = HttpServer(lambda request: HttpResponse(200, work(request.body)), HttpLimits())
        await server.start("127.0.0.1", port)
        await asyncio.Event().wait()

    uvloop.run(main())


def serve_uvicorn(work, port):
    import uvicorn

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = work(body)
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(answer)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        lifespan="off",
        ws="none",
        log_level="error",
    )


def serve_aiohttp(work, port):
    from aiohttp import web

    async def handle(request):
        return web.Response(body=work(await request.read()), content_type=CONTENT_TYPE)

    async def main():
        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(main())


async def rsgi_app(_scope, protocol):
    answer = WORKLOADS[os.environ["BENCHMARK_WORKLOAD"]](await protocol())
    protocol.response_bytes(200, [("content-type", CONTENT_TYPE)], answer)


def serve_granian(_work, port):
    from granian import Granian
    from granian.constants import Interfaces, Loops

    Granian(
        "servers:rsgi_app",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        workers=1,
        runtime_threads=1,
        log_enabled=False,
        working_dir=pathlib.Path(__file__).parent,
    ).serve()


def time_work():
    """Print what the work costs by itself, with no server around it."""
    body = (
        b'{"KeyId":"arn:k8s:kms:c:n:key/00000000-0000-0000-0000-000000000000","KeySpec":"AES_256",'
        b'"EncryptionContext":{"namespace":"payments","name":"ledger"}}'
    )
    times = timeit.repeat(lambda: answer_with_work(body), number=2000, repeat=50)
    median, best = statistics.median(times) / 2000 * 1e6, min(times) / 2000 * 1e6
    print(f"the work alone: {median:.0f} ({best:.0f}) us")


CANDIDATES = {
    "own": serve_own,
    "granian": serve_granian,
    "uvicorn": serve_uvicorn,
    "aiohttp": serve_aiohttp,
}

if __name__ == "__main__":
    if sys.argv[1] == "time-work":
        time_work()
        sys.exit()
    os.environ["BENCHMARK_WORKLOAD"] = sys.argv[2]
    CANDIDATES[sys.argv[1]](WORKLOADS[sys.argv[2]], int(sys.argv[3]))
