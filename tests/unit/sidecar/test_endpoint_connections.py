"""The endpoint's connections on both sides: slow and many clients, a key service that hangs or goes away."""

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datakeys.sidecar import endpoint_client, endpoint_server, https_connection
from datakeys.sidecar.advice import Failure
from datakeys.sidecar.endpoint_messages import CONTINUE
from datakeys.sidecar.endpoint_server import EndpointServer, Watcher
from datakeys.sidecar.endpoint_upstream import Upstream
from datakeys.sidecar.events import EventLog

from .conftest import PATIENCE_SECONDS, FakeKeyService, make_certificate, wait_until

#: For the whole exchange with a key service that hangs.
DEADLINE_SECONDS = 0.5
BODY = b'{"CiphertextBlob": ""}'
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: TrentService.Decrypt\r\n"
REQUEST = HEAD + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
ANSWER = b'{"Plaintext": "cGxhaW50ZXh0"}'


@dataclass
class Served:
    """An endpoint in this process, in front of a key service of its own."""

    port: int
    log: Path
    server: EndpointServer
    upstream: Upstream

    def connect(self) -> socket.socket:
        """Return a connected client."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def post(self) -> tuple[int, str]:
        """Return status and error name for one Decrypt."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", "/", BODY, {"X-Amz-Target": "TrentService.Decrypt"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("__type", "")

    def give_up_early(self, *, early: bool = True) -> None:
        """Let exchanges with the key service have a short time, or all the time that they need."""
        self.upstream._exchange_seconds = DEADLINE_SECONDS if early else PATIENCE_SECONDS

    def count_idle(self) -> int:
        """Return how many connections wait for a request."""
        return sum(since is not None for since in list(self.server._clients.values()))

    def events(self) -> list[tuple[str, str]]:
        """Return name and code of each event so far."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(line["event"], line.get("code", "")) for line in lines]


def close_idle(upstream: Upstream) -> None:
    """Close what the endpoint keeps; its own process leaves that to its end."""
    for _, connection in upstream._idle:
        connection.close()


Serve = Callable[[str], Served]


@pytest.fixture
def serve(tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Give a function that serves the endpoint in front of a key service's URL."""
    monkeypatch.setattr(https_connection, "_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    with contextlib.ExitStack() as stack:

        def start(url: str) -> Served:
            token, log = tmp_path / "token", tmp_path / "log"
            token.write_text("token-of-the-pod")
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            stack.callback(os.close, fd)
            upstream = Upstream(
                url,
                ca_file=str(certificates / "ca.crt"),
                token_file=str(token),
                exchange_seconds=PATIENCE_SECONDS,
            )
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.setblocking(False)  # noqa: FBT003 - takes it by position only
            lifeline, other = socket.socketpair()
            server = EndpointServer(listener, Watcher(upstream, EventLog(20, fd)))
            thread = threading.Thread(target=server.serve, args=(lifeline.fileno(),))
            thread.start()
            stack.callback(lifeline.close)
            stack.callback(thread.join)
            stack.callback(other.close)
            stack.callback(close_idle, upstream)
            return Served(listener.getsockname()[1], log, server, upstream)

        yield start


@dataclass
class RawKeyService:
    """Does as a script says with each connection, over TLS."""

    context: ssl.SSLContext
    script: Callable[[ssl.SSLSocket], None]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    accepted: int = 0

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"https://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        """Serve until the listener is shut down."""
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            plain.settimeout(PATIENCE_SECONDS)
            with self.context.wrap_socket(plain, server_side=True) as connection:
                self.script(connection)


StartRaw = Callable[[Callable[[ssl.SSLSocket], None]], RawKeyService]


@pytest.fixture
def raw_service(certificates: Path) -> Iterator[StartRaw]:
    """Give a function that starts a key service with a script."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    with contextlib.ExitStack() as stack:

        def start(script: Callable[[ssl.SSLSocket], None]) -> RawKeyService:
            service = RawKeyService(context, script)
            thread = threading.Thread(target=service.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(service.listener.close)
            stack.callback(service.listener.shutdown, socket.SHUT_RDWR)
            return service

        yield start


def read_request(connection: ssl.SSLSocket) -> bytes:
    """Take one whole request; empty if the peer ended."""
    received = b""
    while not received.endswith(BODY):
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        received += chunk
    return received


def answer(connection: ssl.SSLSocket) -> None:
    """Send one good answer."""
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\n\r\n".encode() + ANSWER)


def answer_all(connection: ssl.SSLSocket) -> None:
    """Answer as long as the peer asks."""
    while read_request(connection):
        answer(connection)


def hang(connection: ssl.SSLSocket) -> None:
    """Take the request and never answer."""
    while connection.recv(65536):
        pass


def drip(connection: ssl.SSLSocket) -> None:
    """Begin an answer and send a byte of it now and then: no single wait is long."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("script", [hang, drip])
def test_a_key_service_that_hangs_is_given_up_at_the_deadline(
    serve: Serve, raw_service: StartRaw, script: Callable[[ssl.SSLSocket], None]
) -> None:
    """The app gets a KMS error once the time for the whole exchange is over."""
    served = serve(raw_service(script).url)
    served.give_up_early()
    began = time.monotonic()
    assert served.post() == (500, "KeyUnavailableException")
    assert DEADLINE_SECONDS <= time.monotonic() - began < PATIENCE_SECONDS / 2
    assert served.events() == [("endpoint_unavailable", "KeyServiceUnreachable")]


def test_a_key_service_that_never_shakes_hands_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting has a time of its own: a listener whose process is stuck still takes connections."""
    monkeypatch.setattr(https_connection, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        served = serve(f"https://127.0.0.1:{stuck.getsockname()[1]}")
        began = time.monotonic()
        assert served.post() == (500, "KeyUnavailableException")
        assert time.monotonic() - began < PATIENCE_SECONDS / 2


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_kms_answer_becomes_an_error(
    serve: Serve, raw_service: StartRaw, raw: bytes
) -> None:
    """Whatever stands behind the key service's name, the SDK gets JSON with a KMS error name."""

    def script(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        connection.sendall(raw)

    served = serve(raw_service(script).url)
    assert served.post() == (500, "KeyUnavailableException")
    assert served.events() == [("endpoint_unavailable", "InvalidResponse")]


def test_a_certificate_of_another_authority_is_not_trusted(
    serve: Serve, raw_service: StartRaw, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The token never goes to a key service that the trust bundle doesn't vouch for."""
    folder = tmp_path_factory.mktemp("other")
    make_certificate(folder)
    seen: list[bytes] = []
    service = raw_service(lambda connection: seen.append(connection.recv(65536)))
    service.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    service.context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    served = serve(service.url)
    assert served.post() == (500, "KeyUnavailableException")
    assert served.events() == [("endpoint_unavailable", "CertificateNotTrusted")]
    assert not any(seen)


def test_a_kept_connection_that_the_key_service_ended_is_replaced_unnoticed(
    serve: Serve, raw_service: StartRaw
) -> None:
    """A restart of the key service between two requests costs the app nothing."""

    def answer_once(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        answer(connection)

    service = raw_service(answer_once)
    served = serve(service.url)
    assert [served.post() for _ in range(4)] == [(200, "")] * 4
    assert service.accepted == 4
    assert served.events() == [("endpoint_ready", "")]


def test_outage_and_recovery_are_each_reported_once(serve: Serve, key_service: FakeKeyService) -> None:
    """A hundred failing requests don't fill the log."""
    served = serve(key_service.url)
    key_service.scripted += [(200, ANSWER)] * 9
    assert served.post() == (200, "")
    served.give_up_early()
    with key_service.holding():
        assert served.post()[0] == 500
        assert served.post()[0] == 500
    served.give_up_early(early=False)
    assert served.post() == (200, "")
    assert served.events() == [
        ("endpoint_ready", ""),
        ("endpoint_unavailable", "KeyServiceUnreachable"),
        ("endpoint_ready", ""),
    ]


def test_slow_clients_do_not_delay_another(
    serve: Serve, raw_service: StartRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that stop in the middle of a head or a body cost a thread each and nobody's time."""
    monkeypatch.setattr(endpoint_client, "HEAD_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(endpoint_client, "BODY_SECONDS", PATIENCE_SECONDS)
    served = serve(raw_service(answer_all).url)
    with contextlib.ExitStack() as stack:
        for part in (b"P", HEAD, REQUEST[:-1]) * 5:
            stack.enter_context(served.connect()).sendall(part)
        began = time.monotonic()
        assert served.post() == (200, "")
        assert time.monotonic() - began < PATIENCE_SECONDS / 2


@pytest.mark.parametrize("part", [HEAD, REQUEST[:-1]])
def test_a_client_that_is_too_slow_gets_408(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    """Head and body have a time each, however few bytes come in between."""
    monkeypatch.setattr(endpoint_client, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(endpoint_client, "BODY_SECONDS", 0.3)
    with serve("https://127.0.0.1:9").connect() as client:
        client.sendall(part)
        received = client.recv(65536)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"RequestTimeoutException" in received
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536) == b""


def test_an_idle_connection_gives_way_when_all_are_taken(
    serve: Serve, raw_service: StartRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that leaks connections can still use the endpoint; the longest idle one is ended."""
    monkeypatch.setattr(endpoint_server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(endpoint_server, "MIN_IDLE_SECONDS", 0.1)
    served = serve(raw_service(answer_all).url)
    with contextlib.ExitStack() as stack:
        leaked = [stack.enter_context(served.connect()) for _ in range(4)]
        wait_until(lambda: served.count_idle() == 4)
        for client in leaked:
            client.sendall(REQUEST)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            # It counts as idle a moment after its answer.
            wait_until(lambda: served.count_idle() == 4)
        assert served.post() == (200, "")
        assert leaked[0].recv(1) == b""
        leaked[3].sendall(REQUEST)
        assert leaked[3].recv(65536).startswith(b"HTTP/1.1 200 ")


def test_connections_at_work_are_not_ended_for_new_ones(
    serve: Serve, raw_service: StartRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every connection at work a new client waits, and is served when one is free."""
    monkeypatch.setattr(endpoint_server, "MAX_CONNECTIONS", 2)
    served = serve(raw_service(answer_all).url)
    with served.connect() as one, served.connect() as two:
        one.sendall(REQUEST[:-1])
        two.sendall(REQUEST[:-1])
        with served.connect() as waiting:
            waiting.sendall(REQUEST)
            waiting.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            one.sendall(REQUEST[-1:])
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            waiting.settimeout(PATIENCE_SECONDS)
            assert waiting.recv(65536).startswith(b"HTTP/1.1 200 ")
        two.sendall(REQUEST[-1:])
        assert two.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_stays_while_nobody_waits_for_its_place(
    serve: Serve, raw_service: StartRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly as many connections as there may be are all served, again and again."""
    monkeypatch.setattr(endpoint_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(endpoint_server, "MIN_IDLE_SECONDS", 0.0)
    served = serve(raw_service(answer_all).url)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(3)]
        for client in clients * 2:
            client.sendall(REQUEST)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_expects_100_continue_is_told_to_go_on(serve: Serve, raw_service: StartRaw) -> None:
    """SDKs for Java and curl wait for it before they send a large body."""
    served = serve(raw_service(answer_all).url)
    with served.connect() as client:
        client.sendall(HEAD + f"Expect: 100-continue\r\nContent-Length: {len(BODY)}\r\n\r\n".encode())
        assert client.recv(65536) == CONTINUE
        client.sendall(BODY)
        assert client.recv(65536).endswith(ANSWER)


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(serve: Serve) -> None:
    """Who expects 100-continue gets 413 in its place."""
    with serve("https://127.0.0.1:9").connect() as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 262145\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_pipelined_requests_are_answered_in_order(serve: Serve, raw_service: StartRaw) -> None:
    """Bytes that came with the request before are the start of the next one."""
    served = serve(raw_service(answer_all).url)
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with served.connect() as client:
        client.sendall(REQUEST + REQUEST + health)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(ANSWER) == 2
    assert received.endswith(b"Connection: close\r\n\r\n")


def test_many_threads_share_the_kept_connections(serve: Serve, raw_service: StartRaw) -> None:
    """Each of 16 clients gets its answers, and the connections that are kept stay few."""
    service = raw_service(answer_all)
    served = serve(service.url)
    results: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda: results.extend(served.post() for _ in range(4))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(200, "")] * 64
    assert service.accepted < 64


def test_the_probe_waits_until_the_key_service_was_reached(
    tmp_path: Path, certificates: Path, raw_service: StartRaw
) -> None:
    """The startup check connects, retries while it can't, and is content with a trusted certificate."""
    ca = tmp_path / "ca.crt"
    upstream = Upstream(raw_service(hang).url, ca_file=str(ca), token_file=str(tmp_path / "none"))
    with (tmp_path / "log").open("w") as log:
        watcher = Watcher(upstream, EventLog(20, log.fileno()))
        thread = threading.Thread(target=watcher.reach_once)
        thread.start()
        time.sleep(0.1)
        assert not watcher.reached
        ca.write_bytes((certificates / "ca.crt").read_bytes())
        wait_until(lambda: watcher.reached)
        thread.join()


def test_a_failure_that_nobody_foresaw_leaves_its_type_only(tmp_path: Path) -> None:
    """A text of an exception could quote a body."""

    class Broken(Upstream):
        def forward(self, operation: str, body: bytes) -> None:  # type: ignore[override]
            raise LookupError(operation, body)

    with (tmp_path / "log").open("w") as log:
        watcher = Watcher(Broken("https://x", ca_file="", token_file=""), EventLog(20, log.fileno()))
        with pytest.raises(Failure) as caught:
            watcher.forward("Decrypt", b"secret body")
    assert caught.value.__cause__ is None
    text = (tmp_path / "log").read_text()
    assert "LookupError" in text
    assert "secret" not in text
