"""One client of the endpoint: reads its requests, forwards them, answers, until one side ends.

Zone: whatever the app encrypts or decrypts passes through this process; nothing of it is kept or logged.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from datakeys.sidecar.advice import Failure
from datakeys.sidecar.endpoint_messages import (
    CONTINUE,
    MAX_HEAD_BYTES,
    TOO_LARGE_HEAD,
    TOO_SLOW,
    RefusedRequest,
    RequestHead,
    build_answer,
    build_error,
    build_request_id,
    decide_unavailable_code,
    find_operation,
    parse_head,
)
from datakeys.sidecar.https_connection import Answer

#: Between two requests; AWS SDKs notice that a kept connection has ended, and connect again.
IDLE_SECONDS: Final = 120.0
#: For a whole head, a whole body, and for taking the answer.
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 15.0
_LINGER_SECONDS: Final = 1.0
_END_OF_HEAD: Final = b"\r\n\r\n"
_CHUNK_BYTES: Final = 16384


class Forwarder(Protocol):
    """What answers for the key service."""

    def forward(self, operation: str, body: bytes) -> Answer:
        """Return the key service's answer.

        Raises:
            Failure: There is none.
        """


class EndpointClient:
    """The requests of one connection, one after another."""

    def __init__(
        self,
        connection: socket.socket,
        forwarder: Forwarder,
        *,
        is_ready: Callable[[], bool],
        set_idle: Callable[[bool], bool],
    ) -> None:
        """Take a connection.

        Args:
            connection: Closed by :meth:`serve`.
            forwarder: Where the requests go.
            is_ready: Answers ``GET /healthz``.
            set_idle: Told before and after the wait for a request; False: the connection is to be given up.
        """
        self._socket = connection
        self._forwarder = forwarder
        self._is_ready = is_ready
        self._set_idle = set_idle
        self._received = b""

    def serve(self) -> None:
        """Answer requests until the client ends, breaks the protocol or takes too long."""
        try:
            while self._await_request() and self._answer_one():
                pass
        except OSError:
            return  # it went away: nobody to answer
        finally:
            self._socket.close()

    def _await_request(self) -> bool:
        if self._received:
            return True
        if not self._set_idle(True):  # noqa: FBT003 - a callback
            return False
        self._socket.settimeout(IDLE_SECONDS)
        try:
            self._received = self._socket.recv(_CHUNK_BYTES)
        except TimeoutError:
            return False
        return self._set_idle(False) and bool(self._received)  # noqa: FBT003

    def _answer_one(self) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            head = parse_head(self._read_head())
            body = self._read_body(head)
        except RefusedRequest as refused:
            self._send(refused.status, build_error(refused.code, refused.text), keeps_alive=False)
            self._linger()
            return False
        if head.is_health:
            self._send(200 if self._is_ready() else 503, b"", keeps_alive=head.keeps_alive)
        else:
            self._forward(head, body)
        return head.keeps_alive

    def _forward(self, head: RequestHead, body: bytes) -> None:
        keeps_alive = head.keeps_alive
        operation = ""
        try:
            operation = find_operation(head)
            answer = self._forwarder.forward(operation, body)
        except RefusedRequest as refused:
            self._send(refused.status, build_error(refused.code, refused.text), keeps_alive=keeps_alive)
        except Failure as failure:
            code = decide_unavailable_code(operation)
            text = f"The cluster's key service gave no answer to the sidecar ({failure.code})."
            self._send(500, build_error(code, text), keeps_alive=keeps_alive)
        else:
            self._send(answer.status, answer.body, request_id=answer.request_id, keeps_alive=keeps_alive)

    def _read_head(self) -> bytes:
        deadline = time.monotonic() + HEAD_SECONDS
        while _END_OF_HEAD not in self._received:
            if len(self._received) > MAX_HEAD_BYTES:
                raise TOO_LARGE_HEAD
            self._received += self._receive(deadline)
        head, _, self._received = self._received.partition(_END_OF_HEAD)
        if len(head) > MAX_HEAD_BYTES:
            raise TOO_LARGE_HEAD
        return head

    def _read_body(self, head: RequestHead) -> bytes:
        deadline = time.monotonic() + BODY_SECONDS
        if head.expects_continue and len(self._received) < head.length:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(CONTINUE)
        body = bytearray(self._received[: head.length])
        self._received = self._received[head.length :]
        while len(body) < head.length:
            body += self._receive(deadline, at_most=head.length - len(body))
        return bytes(body)

    def _receive(self, deadline: float, *, at_most: int = _CHUNK_BYTES) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TOO_SLOW
        self._socket.settimeout(left)
        try:
            chunk = self._socket.recv(min(at_most, _CHUNK_BYTES))
        except TimeoutError:
            raise TOO_SLOW from None
        if not chunk:
            raise ConnectionResetError
        return chunk

    def _send(self, status: int, body: bytes, *, keeps_alive: bool, request_id: str = "") -> None:
        request_id = request_id or build_request_id(os.urandom(16))
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.sendall(build_answer(status, body, request_id=request_id, keeps_alive=keeps_alive))

    def _linger(self) -> None:
        """Take for a moment what the client still sends: closing at once would make it miss the answer."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            if not self._socket.recv(_CHUNK_BYTES):
                return
