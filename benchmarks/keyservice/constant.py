"""The floor: the key service's own HTTP layer, with an answer that is always the same.

Usage: constant.py PORT [tls].
"""

import asyncio
import json
import sys

import uvloop
from cluster_mode import build_tls

from datakeys.keyservice.server.http import HttpLimits, HttpResponse, HttpServer

ANSWER = HttpResponse(
    200,
    json.dumps({"CiphertextBlob": "A" * 248, "KeyId": "arn:aws:kms:eu-central-1:1:key/" + "0" * 36}).encode(),
)


async def main():
    server = HttpServer(
        lambda _: ANSWER, HttpLimits(), ssl_context=build_tls() if "tls" in sys.argv else None
    )
    await server.start("127.0.0.1", int(sys.argv[1]))
    await asyncio.Event().wait()


uvloop.run(main())
