"""The sidecar as a process, delivery ``socket``: the protocol, its limits, and garbage."""

import contextlib
import os
import select
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datakeys.sidecar import socket_server
from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.http_protocol import build_head, decide_allowed, decide_target, parse_head
from datakeys.sidecar.reactor import Reactor

from .conftest import PATIENCE_SECONDS, Pod, wait_until

PLAINTEXT = bytes(range(256)) * 4
SOCKET = {"DATAKEYS_DELIVERY": "socket"}


@pytest.fixture
def served(pod: Pod) -> Iterator[Pod]:
    """Give a pod whose sidecar serves the data key ``orders``."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env=SOCKET)
    wait_until(lambda: pod.probe(SOCKET) == 0)
    yield pod
    pod.stop(process)


def connect(pod: Pod) -> socket.socket:
    """Return a connected client."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(str(pod.keys / "datakeys.sock"))
    return client


def is_served(pod: Pod) -> bool:
    """Return whether somebody takes connections: the socket's file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(pod.keys / "datakeys.sock")) == 0


def ask(pod: Pod, data: bytes) -> tuple[int, bytes]:
    """Send bytes; return status and body."""
    with connect(pod) as client:
        client.sendall(data)
        return read_response(client)


def read_response(client: socket.socket) -> tuple[int, bytes]:
    """Read until the server closes."""
    received = b""
    while chunk := client.recv(4096):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return int(head.split()[1]), body


def get(path: str, method: str = "GET") -> bytes:
    """Return a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_key_is_served_raw(served: Pod) -> None:
    """The body is the data key; the volume shows the private socket and no file."""
    assert ask(served, get("/v1/data-keys/orders")) == (200, PLAINTEXT)
    assert ask(served, get("/healthz")) == (200, b"")
    assert [path.name for path in served.keys.iterdir()] == ["datakeys.sock"]
    assert stat.S_IMODE((served.keys / "datakeys.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/v1/data-keys/other"), 404),
        (get("/v1/data-keys/"), 404),
        (get("/v1/data-keys/../orders"), 404),
        (get("/"), 404),
        (get("/v1/data-keys/orders", "PUT"), 405),
        (get("/v1/data-keys/orders", "HEAD"), 405),
        (get("/v1/data-keys/orders/encrypt"), 405),
        (get("/v1/data-keys/orders", "get"), 400),
        (get("orders"), 400),
        (b"\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00\xfe\xff\r\n\r\n", 400),
        (b"A" * 4096, 400),
    ],
)
def test_bad_input_gets_its_status(served: Pod, data: bytes, status: int) -> None:
    """Unknown names, methods, versions and plain garbage are answered and never serve a key."""
    assert ask(served, data) == (status, b"")


def test_flood_is_cut_off(served: Pod) -> None:
    """A head without an end is answered or hung up on after 4 KiB, and the next client is served."""
    with connect(served) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(b"A" * (1 << 20))
        assert read_response(client)[0] == 400
    assert ask(served, get("/v1/data-keys/orders")) == (200, PLAINTEXT)


def test_request_may_come_in_pieces(served: Pod) -> None:
    """A head that arrives byte by byte is one request."""
    with connect(served) as client:
        for byte in get("/v1/data-keys/orders"):
            client.sendall(bytes([byte]))
        assert read_response(client) == (200, PLAINTEXT)


def test_cut_off_request_is_bad(served: Pod) -> None:
    """A client that stops in the middle gets 400; one that says nothing gets nothing."""
    with connect(served) as client:
        client.sendall(b"GET /v1")
        client.shutdown(socket.SHUT_WR)
        assert read_response(client)[0] == 400
    with connect(served) as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_client_that_leaves_is_no_event(served: Pod) -> None:
    """Clients that close at any point don't disturb the next one."""
    for data in (b"", b"GET", get("/v1/data-keys/orders")):
        for _ in range(20):
            with connect(served) as client:
                client.sendall(data)
    assert ask(served, get("/v1/data-keys/orders")) == (200, PLAINTEXT)


def test_not_ready_is_503(pod: Pod) -> None:
    """Before the key is there the socket answers 503, and the probe fails."""
    process = pod.run(env=SOCKET)
    wait_until(lambda: is_served(pod))
    assert ask(pod, get("/v1/data-keys/orders")) == (503, b"")
    assert ask(pod, get("/healthz")) == (503, b"")
    assert pod.probe(SOCKET) == 1
    pod.stop(process)
    assert list(pod.keys.iterdir()) == []


def test_stale_socket_is_replaced(pod: Pod) -> None:
    """A sidecar that was killed leaves a socket; the next one takes its place."""
    pod.add_secret("orders", PLAINTEXT)
    first = pod.run(env=SOCKET)
    wait_until((pod.keys / "datakeys.sock").exists)
    first.kill()
    first.wait()
    second = pod.run(env=SOCKET)
    wait_until(lambda: pod.probe(SOCKET) == 0)
    pod.stop(second)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_are_turned_away(served: Pod) -> None:
    """Even with the socket's mode opened up, another UID is hung up on."""
    (served.keys / "datakeys.sock").chmod(0o666)
    served.keys.chmod(0o755)
    script = (
        "import os, socket, sys; os.setuid(54321); s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try: s.sendall(b'GET /v1/data-keys/orders HTTP/1.1\\r\\n\\r\\n'); print(len(s.recv(99)))\n"
        "except OSError: print(0)"
    )
    command = [sys.executable, "-c", script, str(served.keys / "datakeys.sock")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"0\n"


def test_slow_clients_wait_for_nobody(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many silent clients as allowed are ended by time with 408, then others are served."""
    monkeypatch.setattr(socket_server, "CLIENT_SECONDS", PATIENCE_SECONDS)
    reactor = Reactor()
    slot = Slot(str(memory_folder), "orders", named=False)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    server = socket_server.SocketServer(str(memory_folder / "s"), [slot], reactor)
    clients = []
    for _ in range(socket_server.MAX_CONNECTIONS + 2):
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].settimeout(PATIENCE_SECONDS)
        clients[-1].connect(str(memory_folder / "s"))
    clients[-1].sendall(get("/v1/data-keys/orders"))
    clients[0].sendall(b"GET /slow")
    for _ in range(40):
        reactor.step(time.monotonic())
    assert not select.select(clients, [], [], 0)[0], "nobody is served before the time is over"
    server.expire(time.monotonic() + PATIENCE_SECONDS)
    assert read_response(clients[0])[0] == 408
    for _ in range(40):
        reactor.step(time.monotonic())
    assert read_response(clients[-1]) == (200, PLAINTEXT)
    server.close()
    slot.close()
    for client in clients:
        client.close()


def test_response_that_is_not_taken_is_finished_later(memory_folder: Path) -> None:
    """A full socket buffer makes the server wait for the client, not the others."""
    reactor = Reactor()
    slot = Slot(str(memory_folder), "big", named=False)
    size = 1 << 20
    os.ftruncate(slot.open(), size)
    assert slot.publish()
    server = socket_server.SocketServer(str(memory_folder / "s"), [slot], reactor)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(memory_folder / "s"))
        client.sendall(get("/v1/data-keys/big"))
        client.settimeout(0)
        received = 0
        end = time.monotonic() + PATIENCE_SECONDS
        while received < size and time.monotonic() < end:
            reactor.step(time.monotonic())
            try:
                received += len(client.recv(65536))
            except BlockingIOError:
                continue
        assert received > size
    server.close()
    slot.close()


def test_heads_and_targets() -> None:
    """The pure part: what a path names, and what a head says."""
    states = {"a": 200, "b": 503, "c": 410}
    assert decide_target("/v1/data-keys/a", states) == (200, "a")
    assert decide_target("/v1/data-keys/b", states) == (503, "")
    assert decide_target("/v1/data-keys/c", states) == (410, "")
    assert decide_target("/v1/data-keys/a/decrypt", states) == (405, "")
    assert decide_target("/healthz", states) == (503, "")
    assert decide_target("/healthz", {"a": 200}) == (200, "")
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n") == (200, "/")
    assert parse_head(b"HEAD /x HTTP/1.1\r\n\r\n") == (405, "/x")
    assert b"Allow: GET\r\n" in build_head(405, 0, decide_allowed("/v1/data-keys/a"))
    assert b"Allow: POST\r\n" in build_head(405, 0, decide_allowed("/v1/data-keys/a/encrypt"))
    assert b"Retry-After: 1" in build_head(503, 0)


def test_key_that_may_be_read_once_is_gone_after(memory_folder: Path) -> None:
    """The first whole answer ends the key: the next client gets 410, and the pod counts as healthy."""
    reactor = Reactor()
    slot = Slot(str(memory_folder), "orders", named=False, reads_once=True)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    server = socket_server.SocketServer(str(memory_folder / "s"), [slot], reactor)
    answers = []
    for path in ("/healthz", "/v1/data-keys/orders", "/v1/data-keys/orders", "/healthz"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(memory_folder / "s"))
            client.sendall(get(path))
            for _ in range(10):
                reactor.step(time.monotonic())
            answers.append(read_response(client))
    assert answers == [(200, b""), (200, PLAINTEXT), (410, b""), (200, b"")]
    assert slot.gone
    server.close()
