"""Any request to encrypt or decrypt: cut anyhow it means the same; changed anyhow it gets no false answer."""

import base64
import contextlib
import http.client
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakeys.sidecar import cipher_stream
from datakeys.sidecar.cipher_process import answer
from datakeys.sidecar.cipher_slots import READY, KeyState
from datakeys.sidecar.cipher_stream import Client
from datakeys.sidecar.libcrypto import load_library
from streaming_aead_reference import decrypt, encrypt

KEY = bytes(range(32))
LIBRARY = load_library()
bodies = st.lists(st.binary(max_size=3000), max_size=5)
associated = st.binary(max_size=200)
#: What a sloppy or hostile client may send in place of some bytes.
noise = st.binary(max_size=8) | st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"ffff\r\n",
    ]
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cipher_stream, "CLIENT_SECONDS", 5.0)


def ask(data: bytes) -> bytes:
    """Return what is answered to the bytes after ``POST``."""
    here, there = socket.socketpair()
    fd = os.memfd_create("key")
    client = Client(there)
    try:
        os.write(fd, KEY)
        here.sendall(data)
        here.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            answer(client, [KeyState("orders", READY, len(KEY), fd)], LIBRARY)
    finally:
        client.close()
        os.close(fd)
    with here, here.makefile("rb") as answered:
        return answered.read()


def read(received: bytes) -> tuple[int, bytes]:
    """Return status and body, as the standard library's client sees them."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(received)
        there.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(here, method="POST")
        response.begin()
        with response:
            return response.status, response.read()


def build(operation: str, chunks: list[bytes], associated_data: bytes, *, chunked: bool) -> bytes:
    """Return a request without ``POST``."""
    body = b"".join(chunks)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    if chunked:
        body = (
            b"".join(b"%X;x=y\r\n%s\r\n" % (len(one), one) for one in chunks if one)
            + b"0\r\nTrailer: x\r\n\r\n"
        )
    head = f"/v1/data-keys/orders/{operation} HTTP/1.1\r\nDatakeys-Associated-Data: ".encode()
    return head + base64.b64encode(associated_data) + b"\r\n" + framing + b"\r\n\r\n" + body


@given(chunks=bodies, associated_data=associated, chunked=st.booleans())
def test_any_cut_of_a_body_is_the_body(chunks: list[bytes], associated_data: bytes, chunked: bool) -> None:
    """Another implementation decrypts what was encrypted, and the other way round."""
    body = b"".join(chunks)
    status, ciphertext = read(ask(build("encrypt", chunks, associated_data, chunked=chunked)))
    assert status == 200
    assert decrypt(KEY, ciphertext, associated_data) == body
    foreign = encrypt(KEY, body, associated_data)
    pieces = [foreign[start : start + 1000] for start in range(0, len(foreign), 1000)]
    assert read(ask(build("decrypt", pieces, associated_data, chunked=chunked))) == (200, body)


@given(
    chunks=bodies,
    operation=st.sampled_from(["encrypt", "decrypt"]),
    chunked=st.booleans(),
    place=st.floats(0, 1),
    width=st.integers(0, 8),
    change=noise,
)
def test_a_changed_request_never_gets_a_false_answer(
    chunks: list[bytes], operation: str, chunked: bool, place: float, width: int, change: bytes
) -> None:
    """It gets a problem, breaks off, or means something else and that is answered right."""
    body = b"".join(chunks)
    sent = [encrypt(KEY, body)] if operation == "decrypt" else chunks
    data = build(operation, sent, b"", chunked=chunked)
    start = int(place * len(data))
    changed = data[:start] + change + data[start + width :]
    received = ask(changed)
    assert received.startswith(b"HTTP/1.1 ")
    status, got = read(received)
    if status != 200:
        assert got.startswith(b'{"status":%d,' % status)
    elif operation == "decrypt":
        # What is authentic can only be the whole message: no byte of another one comes out.
        assert got == body
    elif start >= data.index(b"\r\n\r\n") + 4:
        plaintext = decrypt(KEY, got)
        assert chunked or plaintext == changed.partition(b"\r\n\r\n")[2][: len(body)]
    else:
        # Another length or other associated data may have been meant.
        assert len(got) >= 56
