"""Answers of the key service, or of whoever sits in its place, as the sidecar reads them."""

import base64
import json
from collections.abc import Iterator
from typing import Final

from datakeys.contract.errors import InvalidCiphertextError, ThrottlingError
from datakeys.sidecar.advice import Failure
from datakeys.sidecar.https_connection import ProtocolError, find_field, find_request_id, parse_head
from datakeys.sidecar.keyservice_client import _parse_answer
from fuzz.target import Target, require

_MAX_PLAINTEXT_BYTES: Final = 4096
_MAX_BODY_BYTES: Final = 65536
_HEAD: Final = "HTTP/1.1 {} OK\r\nContent-Length: {}\r\nx-amzn-RequestId: 1-2\r\nConnection: close\r\n\r\n"


class SidecarAnswerTarget(Target):
    """``parse_head``, and what comes after the head: the answer of Decrypt."""

    words = ("HTTP/1.1", "Content-Length:", "Transfer-Encoding:", "Plaintext", "__type", "\r\n\r\n")

    def seeds(self) -> Iterator[bytes]:
        """Return good answers and refusals."""
        bodies = [
            (200, {"KeyId": "k", "Plaintext": base64.b64encode(bytes(size)).decode()}) for size in (1, 32)
        ]
        bodies += [
            (int(error.http_status), {"__type": error.code, "message": "m"})
            for error in (InvalidCiphertextError, ThrottlingError)
        ]
        for status, answer in bodies:
            body = json.dumps(answer)
            yield (_HEAD.format(status, len(body)) + body).encode()

    def run(self, data: bytes) -> None:
        """Read an answer."""
        head, _, body = data.partition(b"\r\n\r\n")
        try:
            status, length = parse_head(head)
        except ProtocolError:
            status = 200
        else:
            require(0 <= status <= 999 and 0 <= length <= _MAX_BODY_BYTES, "out of range", status, length)  # noqa: PLR2004 - three digits
            find_field(head, "connection")
            require(find_request_id(head).isprintable(), "a request id must be printable")
        try:
            plaintext = _parse_answer(status, body)
        except Failure:
            return
        require(1 <= len(plaintext) <= _MAX_PLAINTEXT_BYTES, "no plaintext of KMS", len(plaintext))


def build() -> SidecarAnswerTarget:
    """Return the target."""
    return SidecarAnswerTarget()
