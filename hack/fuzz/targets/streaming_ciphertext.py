"""Bodies to encrypt and decrypt, beside another implementation: both open a message, or neither does.

The first line is ``encrypt`` or ``decrypt``, a space, and the associated data.
"""

import base64
import os
from collections.abc import Iterator
from contextlib import suppress
from socket import SHUT_WR, socketpair
from typing import Final

from datakeys.sidecar.cipher_process import answer
from datakeys.sidecar.cipher_slots import READY, KeyState
from datakeys.sidecar.cipher_stream import Client
from datakeys.sidecar.libcrypto import load_library
from fuzz.socket_peer import parse_answer, read_all
from fuzz.target import Target, require, split_line
from streaming_aead_reference import decrypt, encrypt

_KEY: Final = bytes(range(32))
_OK: Final = 200
_INVALID: Final = 422


class StreamingCiphertextTarget(Target):
    """``cipher_process.answer`` against the reference."""

    words = ("encrypt", "decrypt", "\x28")

    def __init__(self) -> None:
        self._library = load_library()
        self._fd = os.memfd_create("key")
        os.write(self._fd, _KEY)

    def close(self) -> None:
        """Give back what it holds."""
        os.close(self._fd)

    def seeds(self) -> Iterator[bytes]:
        """Return messages and texts, with and without associated data."""
        for associated_data in (b"", b"orders"):
            for plaintext in (b"", b"text", bytes(1000)):
                yield b"encrypt %s\n%s" % (associated_data, plaintext)
                yield b"decrypt %s\n%s" % (associated_data, encrypt(_KEY, plaintext, associated_data))

    def run(self, data: bytes) -> None:
        """Do with the body what the line says, and the contrary by the reference."""
        line, body = split_line(data)
        operation, _, text = line.partition(" ")
        associated_data = text.encode("latin-1")
        if operation == "encrypt":
            status, result = self._ask(operation, associated_data, body)
            require(status == _OK and result is not None, "it wasn't encrypted", status)
            require(decrypt(_KEY, result or b"", associated_data) == body, "another reads something else")
            return
        status, result = self._ask("decrypt", associated_data, body)
        try:
            expected: bytes | None = decrypt(_KEY, body, associated_data)
        except ValueError:
            expected = None
        if expected is None:
            require(status == _INVALID, "it isn't a message", status)
        else:
            require((status, result) == (_OK, expected), "another opens it", status)

    def _ask(self, operation: str, associated_data: bytes, body: bytes) -> tuple[int, bytes | None]:
        head = (
            f"/v1/data-keys/orders/{operation} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
            f"Datakeys-Associated-Data: {base64.b64encode(associated_data).decode()}\r\n\r\n"
        )
        here, there = socketpair()
        client = Client(there)
        with here:
            here.sendall(head.encode() + body)
            here.shutdown(SHUT_WR)
            try:
                with suppress(OSError):
                    answer(client, [KeyState("orders", READY, len(_KEY), self._fd)], self._library)
            finally:
                client.close()
            return parse_answer(read_all(here), method="POST")


def build() -> StreamingCiphertextTarget:
    """Return the target."""
    return StreamingCiphertextTarget()
