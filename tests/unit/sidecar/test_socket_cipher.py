"""The sidecar as a process: apps encrypt and decrypt over the Unix socket with a key they never see."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from socket_client import UnixConnection, post
from streaming_aead_reference import FIRST_BYTES, HEADER_BYTES, NEXT_BYTES, SEGMENT_BYTES, decrypt, encrypt

from .conftest import PATIENCE_SECONDS, Pod, wait_until

KEY = bytes(range(100, 132))
OLD_KEY = bytes(range(64))
OLDEST_KEY = bytes(range(7, 39))
ENCRYPT = "/v1/data-keys/orders/encrypt"
DECRYPT = "/v1/data-keys/orders/decrypt"
SIZES = [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + NEXT_BYTES, 3 << 20, 64 << 20]
DELIVERY = {
    "DATAKEYS_DELIVERY": "socket",
    "DATAKEYS_REQUESTS": "orders,orders@1,orders@2,orders@3,short,late",
}


@pytest.fixture(scope="module")
def body() -> bytes:
    """Give as many random bytes as the largest body has."""
    return os.urandom(max(SIZES))


@pytest.fixture
def sock(pod: Pod) -> Iterator[Path]:
    """Give the socket of a sidecar with versions of ``orders``, a short key and one that doesn't come."""
    keys = {"orders": KEY, "orders@1": OLDEST_KEY, "orders@2": OLD_KEY, "orders@3": KEY, "short": bytes(31)}
    for name, key in keys.items():
        pod.add_secret(name, key)
    process = pod.run(env=DELIVERY)
    path = pod.keys / "datakeys.sock"
    wait_until(lambda: _is_served(path, "/v1/data-keys/short"))
    yield path
    pod.stop(process)


def _is_served(path: Path, target: str) -> bool:
    try:
        return _get(path, target) == 200
    except (FileNotFoundError, ConnectionRefusedError):
        return False  # not there yet, or there and nobody listens yet


def _get(path: Path, target: str) -> int:
    with closing(UnixConnection(path)) as connection:
        connection.request("GET", target)
        with connection.getresponse() as response:
            response.read()
            return response.status


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", SIZES)
def test_any_body_comes_back(sock: Path, body: bytes, size: int) -> None:
    """With its length or in chunks; another program that has the data key reads and writes the same."""
    plaintext = body[:size]
    status, ciphertext = post(sock, ENCRYPT, plaintext, b"invoice 7")
    assert status == 200
    assert decrypt(KEY, ciphertext, b"invoice 7") == plaintext
    assert post(sock, DECRYPT, _cut(ciphertext, 100_000), b"invoice 7") == (200, plaintext)
    status, ciphertext = post(sock, ENCRYPT, _cut(plaintext, 70_001))
    assert status == 200
    assert decrypt(KEY, ciphertext) == plaintext
    assert post(sock, DECRYPT, encrypt(KEY, plaintext)) == (200, plaintext)


def test_equal_bodies_get_different_ciphertexts(sock: Path) -> None:
    """Salt and nonce prefix are fresh for every message."""
    answers = [post(sock, ENCRYPT, b"the same")[1] for _ in range(5)]
    assert len({answer[:HEADER_BYTES] for answer in answers}) == 5
    assert len({answer[HEADER_BYTES:] for answer in answers}) == 5


def test_plain_http_client_is_enough_for_a_mebibyte(sock: Path, body: bytes) -> None:
    """A client that sends its whole body before it reads gets along, as long as the body is one segment."""
    for target, data in ((ENCRYPT, body[:FIRST_BYTES]), (DECRYPT, encrypt(KEY, body[:FIRST_BYTES]))):
        connection = UnixConnection(sock)
        connection.request("POST", target, data)
        with connection.getresponse() as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
            answer = response.read()
    assert answer == body[:FIRST_BYTES]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("options", [["--data-binary", "@-"], ["-X", "POST", "-T", "-"]])
def test_curl_is_a_client(sock: Path, body: bytes, tmp_path: Path, options: list[str]) -> None:
    """With 100-continue, which curl asks for before large bodies, and with chunks."""
    data = body[: 5 << 20]
    for target in (ENCRYPT, DECRYPT):
        command = ["curl", "-sS", "--fail", "-v", "--max-time", "60", "--unix-socket", str(sock), *options]
        command += ["-H", "Datakeys-Associated-Data: YQ==", "-H", "Expect: 100-continue"]
        done = subprocess.run(
            [*command, f"http://localhost{target}", "-o", str(tmp_path / "out")],
            input=data,
            capture_output=True,
            check=True,
        )
        assert b"< HTTP/1.1 100 Continue" in done.stderr
        data = (tmp_path / "out").read_bytes()
    assert data == body[: 5 << 20]


def _assert_refused(sock: Path, ciphertext: bytes, associated_data: bytes = b"") -> None:
    status, answer = post(sock, DECRYPT, ciphertext, associated_data)
    assert status == 422
    assert answer == _refusal(sock)


def _refusal(sock: Path) -> bytes:
    status, answer = post(sock, DECRYPT, b"")
    assert status == 422
    assert json.loads(answer)["name"] == "InvalidCiphertextException"
    return answer


def test_what_cannot_be_decrypted_has_one_answer(sock: Path, body: bytes) -> None:
    """Damaged, too short, of another key, with other associated data: nobody learns which."""
    ciphertext = encrypt(KEY, b"hello", b"a")
    for position in (0, 1, 33, 40, 44, 60):
        damaged = bytearray(ciphertext)
        damaged[position] ^= 1
        _assert_refused(sock, bytes(damaged), b"a")
    for size in (0, 1, 39, 40, 55, 56, 60):
        _assert_refused(sock, ciphertext[:size], b"a")
    _assert_refused(sock, ciphertext + b"x", b"a")
    _assert_refused(sock, ciphertext, b"b")
    _assert_refused(sock, ciphertext)
    _assert_refused(sock, encrypt(bytes(32), b"hello"))
    # The first segment of a longer message isn't its end.
    _assert_refused(sock, encrypt(KEY, body[: 2 << 20])[:SEGMENT_BYTES])


@pytest.mark.parametrize(
    "case", ["flipped", "cut", "cut at a segment", "swapped", "doubled", "longer", "tag only"]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_later_damage_breaks_the_answer_off(sock: Path, body: bytes, case: str, chunked: bool) -> None:
    """What came before is authentic; the answer has no end, so no client takes it for whole."""
    plaintext = body[: FIRST_BYTES + 2 * NEXT_BYTES + 10]
    whole = encrypt(KEY, plaintext)
    first, second, third, last = (
        whole[start : start + SEGMENT_BYTES] for start in range(0, len(whole), SEGMENT_BYTES)
    )
    damaged = {
        "flipped": first + second[:500] + bytes([second[500] ^ 128]) + second[501:] + third + last,
        "cut": whole[:-5],
        "cut at a segment": first + second,
        "swapped": first + third + second + last,
        "doubled": first + second + second + third + last,
        "longer": whole + bytes(5),
        "tag only": first + second[:15],
    }[case]
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as caught:
        post(sock, DECRYPT, _cut(damaged, 65536) if chunked else damaged)
    if isinstance(caught.value, http.client.IncompleteRead):
        assert plaintext.startswith(caught.value.partial)
        assert len(caught.value.partial) <= FIRST_BYTES + 2 * NEXT_BYTES


def test_kept_versions_are_decrypted_too(sock: Path) -> None:
    """The name stands for all versions, a version's own name for itself; encrypt uses the current one."""
    for key in (KEY, OLD_KEY, OLDEST_KEY):
        assert post(sock, DECRYPT, encrypt(key, b"x" * 3000, b"a"), b"a") == (200, b"x" * 3000)
    assert post(sock, "/v1/data-keys/orders@2/decrypt", encrypt(OLD_KEY, b"x"))[0] == 200
    assert post(sock, "/v1/data-keys/orders@2/decrypt", encrypt(KEY, b"x"))[0] == 422
    assert decrypt(KEY, post(sock, ENCRYPT, b"x")[1]) == b"x"
    assert post(sock, "/v1/data-keys/orders@3/encrypt", b"x")[0] == 400


def test_large_message_of_a_kept_version(sock: Path, body: bytes) -> None:
    """The attempts with the other versions leave the message whole."""
    plaintext = body[: 3 << 20]
    assert post(sock, DECRYPT, encrypt(OLDEST_KEY, plaintext)) == (200, plaintext)


@pytest.mark.parametrize(
    ("target", "status", "name"),
    [
        ("/v1/data-keys/short/encrypt", 409, "DataKeyTooShortException"),
        ("/v1/data-keys/short/decrypt", 409, "DataKeyTooShortException"),
        ("/v1/data-keys/late/encrypt", 503, "DataKeyNotReadyException"),
        ("/v1/data-keys/late/decrypt", 503, "DataKeyNotReadyException"),
        ("/v1/data-keys/other/encrypt", 404, "NotFoundException"),
        ("/v1/data-keys/orders@4/decrypt", 404, "NotFoundException"),
        ("/v1/data-keys/orders", 405, "MethodNotAllowedException"),
        ("/v1/data-keys/..%2Forders/encrypt", 404, "NotFoundException"),
    ],
)
def test_problem_names_what_is_wrong(sock: Path, body: bytes, target: str, status: int, name: str) -> None:
    """Also to a client that sends all of a large body before it reads."""
    connection = UnixConnection(sock)
    connection.request("POST", target, body[: 4 << 20])
    with connection.getresponse() as response:
        assert response.status == status
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(response.read())
    assert (problem["status"], problem["name"]) == (status, name)
    assert ": " in problem["detail"] or "GET" in problem["detail"] or "paths" in problem["detail"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST " + b"A" * 10000, 431),
        (b"POST \r\n\r\n", 400),
        (b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\n\r\n", 411),
        (b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell", 400),
        (b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!", 400),
        (b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (
            b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            400,
        ),
        (
            b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 5000,
            431,
        ),
        (b"POST /v1/data-keys/orders/encrypt", 400),
        (b"POST ", 400),
    ],
)
def test_garbage_gets_its_status(sock: Path, data: bytes, status: int) -> None:
    """A body that doesn't end as it said is an error, whatever came before."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(sock))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert int(answer.split()[1]) == status
    assert _get(sock, "/v1/data-keys/orders") == 200


def test_request_may_come_in_pieces(sock: Path) -> None:
    """Byte by byte, with chunk extensions and trailers, it is one request."""
    request = (
        b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(sock))
        for byte in request:
            client.sendall(bytes([byte]))
        response = http.client.HTTPResponse(client)
        response.begin()
        assert decrypt(KEY, response.read()) == b"hello"


def test_slow_clients_disturb_nobody(sock: Path) -> None:
    """Sixteen streams may be open; the next one is told to come again; reading a key is always possible."""
    waiting = []
    for _ in range(16):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(sock))
        client.sendall(b"POST /v1/data-keys/orders/encrypt HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell")
        waiting.append(client)
    wait_until(lambda: post(sock, ENCRYPT, b"")[0] == 503)
    assert _get(sock, "/v1/data-keys/orders") == 200
    waiting[0].sendall(b"o")
    response = http.client.HTTPResponse(waiting[0])
    response.begin()
    assert decrypt(KEY, response.read()) == b"hello"
    wait_until(lambda: post(sock, ENCRYPT, b"")[0] == 200)
    for client in waiting:
        client.close()
    wait_until(lambda: post(sock, ENCRYPT, b"")[0] == 200)


def test_many_clients_at_once_get_their_own_answers(sock: Path, body: bytes) -> None:
    """Streams side by side don't mix."""
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        plaintext = body[number : number + (2 << 20)]
        _, ciphertext = post(sock, ENCRYPT, plaintext)
        results[number] = decrypt(KEY, ciphertext)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: body[number : number + (2 << 20)] for number in range(8)}


def test_client_of_the_documentation_streams(sock: Path, body: bytes) -> None:
    """The Python code of ``docs/socket-api.md`` takes a large body both ways, and reports what is wrong."""
    page = (Path(__file__).parents[3] / "docs" / "socket-api.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("/var/run/datakeys/keys/datakeys.sock", str(sock)), names)  # noqa: S102
    call = names["call"]
    plaintext = body[: 10 << 20]
    ciphertext = b"".join(call("encrypt", "orders", _cut(plaintext, 1 << 18), "YQ=="))
    assert decrypt(KEY, ciphertext, b"a") == plaintext
    assert b"".join(call("decrypt", "orders", _cut(ciphertext, 1 << 18), "YQ==")) == plaintext
    with pytest.raises(RuntimeError, match="InvalidCiphertextException"):
        list(call("decrypt", "orders", _cut(ciphertext, 1 << 18)))
    with pytest.raises(http.client.IncompleteRead):
        list(call("decrypt", "orders", [ciphertext[: 5 << 20]], "YQ=="))
