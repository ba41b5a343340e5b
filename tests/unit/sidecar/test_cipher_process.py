"""The cipher process: when it lives, what it leaves behind, and what never reaches the resident process."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datakeys.sidecar import cipher, cipher_stream
from datakeys.sidecar.cipher_process import _serve_client, answer
from datakeys.sidecar.cipher_slots import READY, KeyState
from datakeys.sidecar.cipher_stream import Client
from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.descriptors import make_message_pair, poll_message, receive_message, send_message
from datakeys.sidecar.libcrypto import Library, load_library
from datakeys.sidecar.reactor import Reactor
from datakeys.sidecar.socket_server import SocketServer
from process_memory import find_children, find_in_memory
from socket_client import UnixConnection, post
from streaming_aead_reference import FIRST_BYTES, SEGMENT_BYTES, decrypt, encrypt

from .conftest import PATIENCE_SECONDS, Pod, find_python, wait_until
from .test_socket_delivery import is_served

ENCRYPT = "/v1/data-keys/orders/encrypt"
DECRYPT = "/v1/data-keys/orders/decrypt"
#: What comes after ``POST`` and the blank.
BODY = b"/v1/data-keys/orders/encrypt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
SOCKET = {"DATAKEYS_DELIVERY": "socket"}


class Sidecar:
    """A running sidecar with one data key."""

    def __init__(self, pod: Pod) -> None:
        self.key = os.urandom(32)
        pod.add_secret("orders", self.key)
        self.path = pod.keys / "datakeys.sock"
        self.process = pod.run(env=SOCKET)
        wait_until(lambda: pod.probe(SOCKET) == 0)
        self.pid = self.process.pid

    def find_cipher(self) -> list[int]:
        """Return the process id of the cipher process, if there is one."""
        return _find_cipher(self.pid)

    @contextlib.contextmanager
    def stream(self, sent: bytes) -> Iterator[socket.socket]:
        """Give a client that has sent the first part of a large body."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(str(self.path))
            client.sendall(f"POST {ENCRYPT} HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n".encode() + sent)
            wait_until(lambda: self.find_cipher() != [])
            yield client


@pytest.fixture
def sidecar(pod: Pod) -> Iterator[Sidecar]:
    """Give a running sidecar."""
    started = Sidecar(pod)
    yield started
    pod.stop(started.process)


def _find_cipher(pid: int) -> list[int]:
    """Return the children of the resident process that run ``cipher_process``."""
    found = []
    for child in find_children(pid):
        # Another child may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"cipher_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_process_is_there_only_when_it_is_needed(sidecar: Sidecar) -> None:
    """Reading a key starts nothing; the first request to encrypt does, and the next one uses it too."""
    connection = UnixConnection(sidecar.path)
    connection.request("GET", "/v1/data-keys/orders")
    with connection.getresponse() as response:
        assert response.read() == sidecar.key
    assert sidecar.find_cipher() == []
    post(sidecar.path, ENCRYPT, b"x")
    [pid] = sidecar.find_cipher()
    post(sidecar.path, ENCRYPT, b"x")
    assert sidecar.find_cipher() == [pid]


def test_nothing_secret_is_left_in_memory(sidecar: Sidecar) -> None:
    """Neither key nor plaintext is ever in the resident process, nor in the other one after the request."""
    if os.geteuid() != 0:
        pytest.skip("only root reads the memory of a process that can't be dumped")
    plaintext = os.urandom(64)
    ciphertext = encrypt(sidecar.key, plaintext * 3 + bytes(2 * SEGMENT_BYTES))
    with sidecar.stream(plaintext * 1000) as client:
        [pid] = sidecar.find_cipher()
        # The search would find it: while the request lasts, its plaintext is there.
        wait_until(lambda: find_in_memory(pid, plaintext) != [])
        assert find_in_memory(sidecar.pid, plaintext) == []
        assert find_in_memory(pid, sidecar.key) == []
        client.shutdown(socket.SHUT_RDWR)
    assert post(sidecar.path, DECRYPT, ciphertext)[1].startswith(plaintext)
    assert post(sidecar.path, DECRYPT, ciphertext, b"other")[0] == 422
    assert post(sidecar.path, ENCRYPT, plaintext)[0] == 200
    assert post(sidecar.path, "/nowhere", plaintext * 10)[0] == 404
    assert find_in_memory(os.getpid(), sidecar.key) != []
    wait_until(lambda: find_in_memory(pid, plaintext) == [])
    for process in (pid, sidecar.pid):
        assert find_in_memory(process, sidecar.key) == []
        assert find_in_memory(process, plaintext) == []


def test_process_has_nothing_but_its_channel(sidecar: Sidecar) -> None:
    """Between requests it has no descriptor of a data key, nor of a client."""
    post(sidecar.path, ENCRYPT, b"x")
    [pid] = sidecar.find_cipher()
    wait_until(lambda: {fd.name for fd in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"})


def test_process_cannot_be_dumped_or_traced(pod: Pod) -> None:
    """No core dump, and its memory is root's: another process of its user, as the app is, can't read it."""
    uid = 123456
    python = find_python(uid)
    os.chown(pod.keys, uid, uid)
    pod.add_secret("orders", bytes(32))
    process = pod.run(env=SOCKET, uid=uid, python=python)
    path = pod.keys / "datakeys.sock"
    wait_until(lambda: is_served(pod))
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(sys.argv[2].encode()); sys.stdin.read()"
    )
    request = f"POST {ENCRYPT} HTTP/1.1\r\nContent-Length: 100\r\n\r\nx"
    command = [python, "-c", script, str(path), request]
    with subprocess.Popen(command, stdin=subprocess.PIPE, user=uid, cwd="/"):
        wait_until(lambda: _find_cipher(process.pid) != [])
        [pid] = _find_cipher(process.pid)
        wait_until(lambda: Path(f"/proc/{pid}/mem").stat().st_uid == 0)
        assert Path(f"/proc/{process.pid}/mem").stat().st_uid == uid
        limits = Path(f"/proc/{pid}/limits").read_text()
        [core] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[5] in ("0", "1")
    pod.stop(process)


def test_signal_ends_everything_at_once(sidecar: Sidecar) -> None:
    """A stream in the middle doesn't hold SIGTERM; its client sees it break off."""
    with sidecar.stream(bytes(FIRST_BYTES + 100)) as client:
        [pid] = sidecar.find_cipher()
        response = http.client.HTTPResponse(client)
        response.begin()
        started = time.monotonic()
        sidecar.process.terminate()
        assert sidecar.process.wait(PATIENCE_SECONDS) == 0
        # Less than the client or the idle process might be waited for.
        assert time.monotonic() - started < 8
        assert _is_gone(pid)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()


def test_lifetime_ends_streams_too(pod: Pod) -> None:
    """After ``datakeys.dev/ttl`` nothing is encrypted any more, not even what had begun."""
    pod.environment["DATAKEYS_TTL_SECONDS"] = "6"
    sidecar = Sidecar(pod)
    with sidecar.stream(bytes(FIRST_BYTES + 100)) as client:
        [pid] = sidecar.find_cipher()
        response = http.client.HTTPResponse(client)
        response.begin()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    wait_until(lambda: _is_gone(pid))
    assert post(sidecar.path, ENCRYPT, b"x")[0] == 410
    if os.geteuid() == 0:
        for process in (sidecar.pid, *sidecar.find_cipher()):
            assert find_in_memory(process, sidecar.key) == []
    pod.stop(sidecar.process)


def test_process_ends_with_a_killed_resident(sidecar: Sidecar) -> None:
    """Nobody is left behind when the kernel ends the resident process."""
    post(sidecar.path, ENCRYPT, b"x")
    [pid] = sidecar.find_cipher()
    sidecar.process.kill()
    sidecar.process.wait()
    wait_until(lambda: _is_gone(pid) or b"Z" in Path(f"/proc/{pid}/stat").read_bytes().split()[2:3])


def test_killed_process_is_started_again(sidecar: Sidecar) -> None:
    """Its clients see their answers break off; the next one is served."""
    with sidecar.stream(bytes(FIRST_BYTES + 100)) as client:
        [pid] = sidecar.find_cipher()
        response = http.client.HTTPResponse(client)
        response.begin()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    wait_until(lambda: _is_gone(pid))
    status, ciphertext = post(sidecar.path, ENCRYPT, b"x")
    assert (status, decrypt(sidecar.key, ciphertext)) == (200, b"x")


def test_large_bodies_take_no_memory(sidecar: Sidecar) -> None:
    """128 MiB pass through less than 10 MiB, and the resident process stays as it was."""
    before = _read_status(sidecar.pid, "RssAnon")
    post(sidecar.path, ENCRYPT, b"x")
    [pid] = sidecar.find_cipher()
    small = _read_status(pid, "VmHWM")
    piece = bytes(1 << 20)
    status, ciphertext = post(sidecar.path, ENCRYPT, (piece for _ in range(128)))
    assert (status, len(ciphertext)) == (200, 128 * (1 << 20) + 40 + 129 * 16)
    status, plaintext = post(sidecar.path, DECRYPT, ciphertext)
    assert (status, len(plaintext)) == (200, 128 << 20)
    assert _read_status(pid, "VmHWM") - small < 10 << 10
    # What is loaded to hand requests on.
    assert _read_status(sidecar.pid, "RssAnon") - before < 400


def test_as_many_streams_as_allowed_fit_into_the_container(sidecar: Sidecar) -> None:
    """Sixteen large bodies at once stay well below the sidecar's limit of 64 MiB."""
    ciphertext = encrypt(sidecar.key, bytes(5 << 20))
    statuses: list[int] = []

    def work(number: int) -> None:
        target, body = (ENCRYPT, bytes(5 << 20)) if number % 2 else (DECRYPT, ciphertext)
        statuses.append(post(sidecar.path, target, body)[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sidecar.find_cipher() != [])
    [pid] = sidecar.find_cipher()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 16
    assert _read_status(pid, "VmHWM") < 48 << 10


def _read_status(pid: int, field: str) -> int:
    """Return a field of ``/proc/<pid>/status`` in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:")))


class Loop:
    """A socket server that is run in a thread of the test."""

    def __init__(self, folder: Path, slots: list[Slot]) -> None:
        self.path = folder / "s"
        self.reactor = Reactor()
        self.server = SocketServer(str(self.path), slots, self.reactor)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.reactor.stopping:
            deadline = self.server.expire(time.monotonic()) or 1e9
            self.reactor.step(min(deadline, time.monotonic() + 0.02))

    @property
    def pid(self) -> int:
        """Return the process id of the cipher process; 0: it doesn't run."""
        process = self.server._cipher
        return process._pid if process and process._channel else 0

    def stop(self) -> None:
        """End the thread and the server."""
        self.reactor.stopping = True
        self._thread.join()
        self.server.close()


def _publish(folder: Path, name: str, key: bytes, *, reads_once: bool = False) -> Slot:
    slot = Slot(str(folder), name, named=False, reads_once=reads_once)
    os.write(slot.open(), key)
    assert slot.publish()
    return slot


@pytest.fixture
def loop(memory_folder: Path) -> Iterator[Loop]:
    """Give a server with two data keys, of which ``once`` may be read once."""
    slots = [
        _publish(memory_folder, "orders", b"k" * 32),
        _publish(memory_folder, "once", b"o" * 32, reads_once=True),
    ]
    made = Loop(memory_folder, slots)
    yield made
    made.stop()
    for slot in slots:
        slot.close()


def test_idle_process_ends(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody asked for a while, and never while a request is under way."""
    monkeypatch.setattr(cipher, "IDLE_SECONDS", 0.3)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(loop.path))
        client.sendall(f"POST {ENCRYPT} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell".encode())
        wait_until(lambda: loop.pid != 0)
        pid = loop.pid
        time.sleep(0.6)
        assert loop.pid == pid
        client.sendall(b"o")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert decrypt(b"k" * 32, response.read()) == b"hello"
    wait_until(lambda: loop.pid == 0 and _is_gone(pid))
    assert decrypt(b"k" * 32, post(loop.path, ENCRYPT, b"again")[1]) == b"again"


def test_process_ends_with_the_lifetime_of_a_key(loop: Loop) -> None:
    """To encrypt is no read; after the read the key is gone, also from a process that has derived from it."""
    for _ in range(2):
        assert post(loop.path, "/v1/data-keys/once/encrypt", b"x")[0] == 200
    pid = loop.pid
    connection = UnixConnection(loop.path)
    connection.request("GET", "/v1/data-keys/once")
    with connection.getresponse() as response:
        assert response.read() == b"o" * 32
    wait_until(lambda: loop.pid == 0 and _is_gone(pid))
    assert post(loop.path, "/v1/data-keys/once/encrypt", b"x")[0] == 410
    assert post(loop.path, ENCRYPT, b"x")[0] == 200


def test_process_that_cannot_be_started_is_503(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full process table is no end of the sidecar: the client is told to come again."""
    monkeypatch.setattr(cipher, "build_command", lambda _: ["/nowhere"])
    assert post(loop.path, ENCRYPT, b"x")[0] == 503
    monkeypatch.undo()
    assert post(loop.path, ENCRYPT, b"x")[0] == 200


def test_process_that_ended_unnoticed_is_started_again(memory_folder: Path) -> None:
    """Handing over finds out by itself, and the client is served."""
    slot = _publish(memory_folder, "orders", b"k" * 32)
    process = cipher.CipherProcess([slot], Reactor())
    pids = []
    for _ in range(2):
        here, there = socket.socketpair()
        with here, there:
            here.sendall(BODY)
            assert process.hand_over(there)
            there.close()
            with here.makefile("rb") as answered:
                assert answered.readline() == b"HTTP/1.1 200 OK\r\n"
        pids.append(process._pid)
        assert process._channel
        process._channel.shutdown(socket.SHUT_RDWR)
    assert pids[0] != pids[1]
    process.close()
    slot.close()


def test_more_data_keys_than_a_message_can_carry(
    memory_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones can be used, the others say what is wrong."""
    monkeypatch.setattr(cipher, "_MAX_KEYS", 2)
    slots = [_publish(memory_folder, name, b"k" * 32) for name in ("a", "b", "c")]
    states = cipher.build_states(slots)
    assert [one.state for one in states] == ["ready", "ready", "beyond"]
    for slot in slots:
        slot.close()


def test_messages_carry_descriptors() -> None:
    """As many as the kernel allows; an end without a sender is an empty message."""
    one, other = make_message_pair()
    fds = [os.memfd_create("x") for _ in range(3)]
    send_message(one, b"hello", fds)
    data, received = receive_message(other, 100)
    assert (data, len(received)) == (b"hello", 3)
    assert os.fstat(received[2]).st_ino == os.fstat(fds[2]).st_ino
    send_message(one, b"x" * 101, fds[:1])
    with pytest.raises(OSError, match="too long"):
        receive_message(other, 100)
    assert poll_message(other) is None
    one.close()
    assert receive_message(other, 100) == (b"", [])
    assert poll_message(other) == b""
    other.close()
    for fd in (*fds, *received):
        os.close(fd)


def _answer(data: bytes, library: Library | None, *, ends: bool = True, key: bytes = b"k" * 32) -> bytes:
    """Let this process answer what comes after ``POST``; return the answer."""
    here, there = socket.socketpair()
    fd = os.memfd_create("key")
    client = Client(there)
    try:
        os.write(fd, key)
        here.sendall(data)
        if ends:
            here.shutdown(socket.SHUT_WR)
        answer(client, [KeyState("orders", READY, 32, fd)], library)
    finally:
        client.close()
        os.close(fd)
    with here, here.makefile("rb") as answered:
        return answered.read()


def test_stopped_client_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends nothing more is told so, before the answer has begun."""
    monkeypatch.setattr(cipher_stream, "CLIENT_SECONDS", 0.1)
    monkeypatch.setattr(cipher_stream, "_DRAIN_SECONDS", 0.1)
    for data in (BODY[:10], BODY[:-1]):
        assert _answer(data, load_library(), ends=False).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_client_that_sends_everything_first_is_told_of_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Above a segment both sides would wait for each other for ever: the log has the next step."""
    monkeypatch.setattr(cipher_stream, "CLIENT_SECONDS", 1.0)
    here, there = socket.socketpair()
    channel, reports = make_message_pair()
    fd = os.memfd_create("key")
    os.write(fd, b"k" * 32)
    states = [KeyState("orders", READY, 32, fd)]
    worker = threading.Thread(target=_serve_client, args=(there, states, channel, load_library()))
    worker.start()
    with here:
        head = BODY.replace(b"Length: 5", b"Length: 9000000")[:-5]
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            here.sendall(head + bytes(9000000))
        worker.join()
        assert poll_message(reports) == b"1"
    for one in (channel, reports):
        one.close()
    line = json.loads(capfd.readouterr().out)
    assert (line["event"], line["level"]) == ("client_stalled", "warning")
    assert "docs/socket-api.md" in line["next"]


def test_without_libcrypto_the_answer_is_501() -> None:
    """An image without a usable libcrypto says so; the request itself is checked first."""
    assert _answer(BODY, None).startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert b"CipherUnavailableException" in _answer(BODY, None)
    assert _answer(b"/x" + BODY, None).startswith(b"HTTP/1.1 404 ")


def test_key_that_became_shorter_is_gone() -> None:
    """Its lifetime ended between the resident's message and the reading."""
    assert b"HTTP/1.1 410 Gone" in _answer(BODY, load_library(), key=b"k")
    assert b"HTTP/1.1 200 OK" in _answer(BODY, load_library())


def test_reader_that_leaves_is_no_event(sidecar: Sidecar) -> None:
    """A client that goes away in the middle of its answer disturbs nobody."""
    for _ in range(5):
        with sidecar.stream(bytes(FIRST_BYTES + 100)) as client:
            client.recv(10)
    assert post(sidecar.path, ENCRYPT, b"x")[0] == 200
