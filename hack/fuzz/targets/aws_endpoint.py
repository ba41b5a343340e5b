"""Whatever an app sends to the KMS endpoint on loopback: only whole, plain requests are forwarded."""

from collections.abc import Iterator
from socket import SHUT_WR, socketpair
from typing import Final

from datakeys.sidecar.advice import Failure
from datakeys.sidecar.endpoint_client import EndpointClient
from datakeys.sidecar.endpoint_messages import MAX_BODY_BYTES
from datakeys.sidecar.https_connection import Answer
from fuzz.socket_peer import parse_answer, read_all
from fuzz.target import Target, require

_HEAD: Final = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1:4599\r\nX-Amz-Target: TrentService.%s\r\nContent-Length: %d\r\n"
)
_MAX_OPERATION_CHARACTERS: Final = 64


class _Upstream:
    """Answers for the key service."""

    def __init__(self) -> None:
        self.count = 0

    def forward(self, operation: str, body: bytes) -> Answer:
        """Answer, or fail for one operation."""
        self.count += 1
        require(operation.isalnum() and operation.isascii(), "no name of an operation", operation)
        require(len(operation) <= _MAX_OPERATION_CHARACTERS and len(body) <= MAX_BODY_BYTES, "too much")
        if operation == "Sign":
            raise Failure("KeyServiceUnreachable", retryable=True)
        return Answer(200, b'{"a":1}', request_id="1", closes=False)


class AwsEndpointTarget(Target):
    """``EndpointClient.serve`` on a real socket."""

    words = (
        *("X-Amz-Target: TrentService.", "Content-Length: ", "Host: localhost\r\n", "Connection: close\r\n"),
        *(
            "Expect: 100-continue\r\n",
            "Transfer-Encoding: chunked\r\n",
            "GET /healthz HTTP/1.1\r\n",
            "\r\n\r\n",
        ),
    )

    def seeds(self) -> Iterator[bytes]:
        """Return requests as SDKs send them, and more in one stream."""
        for operation in (b"Decrypt", b"Sign", b"ListKeys"):
            yield _HEAD % (operation, 2) + b"\r\n{}"
        yield 3 * (_HEAD % (b"Encrypt", 2) + b"\r\n{}")
        yield _HEAD % (b"Encrypt", 2) + b"Expect: 100-continue\r\n\r\n{}"
        yield _HEAD % (b"Encrypt", 2) + b"Connection: close\r\n\r\n{}more"
        yield _HEAD % (b"Encrypt", MAX_BODY_BYTES + 1) + b"\r\n"
        yield b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        yield b"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"

    def run(self, data: bytes) -> None:
        """Serve a client that sends all of it and ends its side."""
        upstream = _Upstream()
        here, there = socketpair()
        client = EndpointClient(there, upstream, is_ready=lambda: True, set_idle=lambda _: True)
        with here:
            here.sendall(data)
            here.shutdown(SHUT_WR)
            client.serve()
            received = read_all(here).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        if received:
            status, _ = parse_answer(received, method="GET")
            # 500 and its name tell the SDK to try again.
            require(status != 500 or b"KeyUnavailableException" in received, "an internal error")  # noqa: PLR2004 - HTTP
        require(upstream.count <= received.count(b"HTTP/1.1 "), "a forwarded request got no answer")


def build() -> AwsEndpointTarget:
    """Return the target."""
    return AwsEndpointTarget()
