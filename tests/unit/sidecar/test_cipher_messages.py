"""What a request to encrypt or decrypt may look like, and which data keys it may use; pure."""

import json

import pytest

from datakeys.sidecar.cipher_messages import (
    MAX_ASSOCIATED_DATA_BYTES,
    Problem,
    build_problem,
    build_stream_head,
    parse_chunk_size,
    parse_cipher_head,
)
from datakeys.sidecar.cipher_operations import decide_failure, decide_memory_bytes, decide_usable
from datakeys.sidecar.cipher_slots import (
    BEYOND,
    GONE,
    READY,
    WAITING,
    KeyState,
    build_message,
    decide_candidates,
    parse_message,
)

PATH = "/v1/data-keys/orders/encrypt"


def head(*fields: str, path: str = PATH, version: str = "HTTP/1.1") -> bytes:
    """Return a head without its empty line."""
    return "\r\n".join([f"POST {path} {version}", *fields]).encode("latin-1")


def test_request_says_what_to_do() -> None:
    """Operation, name, length, associated data and the wish for 100-continue."""
    request = parse_cipher_head(
        head(
            "host: localhost",
            "CONTENT-LENGTH: 12",
            "Datakeys-Associated-Data: aW52b2ljZSA3",
            "Expect: 100-Continue",
        )
    )
    assert (request.operation, request.name, request.length) == ("encrypt", "orders", 12)
    assert (request.associated_data, request.expects_continue) == (b"invoice 7", True)
    request = parse_cipher_head(head("Transfer-Encoding: Chunked", path="/v1/data-keys/orders@2/decrypt"))
    assert (request.operation, request.name, request.length) == ("decrypt", "orders@2", None)
    assert (request.associated_data, request.expects_continue) == (b"", False)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("Content-Length: 0", path="/v1/data-keys/orders"), 405),
        (head("Content-Length: 0", path="/v1/data-keys/orders/sign"), 404),
        (head("Content-Length: 0", path="/v1/data-keys//x/encrypt"), 404),
        (head("Content-Length: 0", path="/v2/data-keys/orders/encrypt"), 404),
        (head("Content-Length: 0", path="/encrypt"), 404),
        (head("Content-Length: 0", path="/healthz"), 404),
        (head("Content-Length: 0", path="/v1/data-keys/orders@1/encrypt"), 400),
        (head("Content-Length: 0", path="orders/encrypt"), 400),
        (head("Content-Length: 0", version="HTTP/1.0"), 505),
        (head("Content-Length: 0", version="HTTP/2"), 400),
        (head(), 411),
        (head("Content-Length: -1"), 400),
        (head("Content-Length: 0x10"), 400),
        (head("Content-Length: 1 2"), 400),
        (head("Content-Length: " + "9" * 18), 413),
        (head("Content-Length: 1", "Content-Length: 1"), 400),
        (head("Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (head("Transfer-Encoding: gzip, chunked"), 501),
        (head("Content-Length: 0", "Expect: 200-ok"), 417),
        (head("Content-Length: 0", "no colon"), 400),
        (head("Content-Length : 0"), 400),
        (head("Content-Length: 0", "X: é"), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: a"), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: YQ"), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: YQ==YQ=="), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: Y-_="), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: YQ==", "datakeys-associated-data: Yg=="), 400),
        (head("Content-Length: 0", "Datakeys-Associated-Data: " + "AAAA" * 1366), 431),
    ],
)
def test_other_requests_get_their_status(data: bytes, status: int) -> None:
    """Whatever isn't clear is refused, by a problem whose parts are JSON."""
    with pytest.raises(Problem) as caught:
        parse_cipher_head(data)
    assert caught.value.status == status
    raw_head, _, body = build_problem(caught.value).partition(b"\r\n\r\n")
    assert raw_head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length: %d\r\n" % len(body) in raw_head
    problem = json.loads(body)
    assert (problem["status"], problem["name"]) == (status, caught.value.name)
    assert (b"Allow: GET" in raw_head) == (status == 405)


def test_longest_associated_data_fits() -> None:
    """4096 bytes are allowed."""
    request = parse_cipher_head(
        head("Content-Length: 0", "Datakeys-Associated-Data: " + "AAAA" * 1365 + "AA==")
    )
    assert len(request.associated_data) == MAX_ASSOCIATED_DATA_BYTES


@pytest.mark.parametrize(
    ("line", "size"), [(b"0", 0), (b"1f", 31), (b"1F ; name=value", 31), (b"fffffffffffffff", 2**60 - 1)]
)
def test_chunk_sizes(line: bytes, size: int) -> None:
    """Hexadecimal, extensions ignored."""
    assert parse_chunk_size(line) == size


@pytest.mark.parametrize("line", [b"", b";x", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"g", b"1" * 16])
def test_other_chunk_sizes_are_refused(line: bytes) -> None:
    """Also what ``int`` would take."""
    with pytest.raises(Problem):
        parse_chunk_size(line)


def test_answer_comes_in_chunks() -> None:
    """And is not to be kept by anybody."""
    assert b"\r\nTransfer-Encoding: chunked\r\n" in build_stream_head()
    assert b"\r\nCache-Control: no-store\r\n" in build_stream_head()


def _names(states: list[KeyState]) -> list[str]:
    return [one.name for one in states]


def test_versions_are_tried_from_the_latest() -> None:
    """Encrypt has one choice, decrypt all versions, a version's own name only that version."""
    states = [KeyState(name, READY, 32, 1) for name in ("a", "a@2", "a@10", "a@9", "ab", "ab@3", "b")]
    assert _names(decide_candidates(states, "a", "encrypt")) == ["a"]
    assert _names(decide_candidates(states, "a", "decrypt")) == ["a", "a@10", "a@9", "a@2"]
    assert _names(decide_candidates(states, "a@9", "decrypt")) == ["a@9"]
    assert decide_candidates(states, "c", "decrypt") == []
    assert decide_candidates(states, "a@3", "decrypt") == []


def test_data_keys_that_cannot_be_used() -> None:
    """The first candidate decides what is wrong; short kept versions are left out."""
    ready, short, old = (
        KeyState("a", READY, 32, 1),
        KeyState("a", READY, 31, 1),
        KeyState("a@1", READY, 64, 2),
    )
    assert decide_usable([ready]) == [ready]
    assert decide_usable([short, old]) == [old]
    for states, status in (
        ([], 404),
        ([short], 409),
        ([KeyState("a", GONE), old], 410),
        ([KeyState("a", WAITING), old], 503),
        ([KeyState("a", BEYOND, 32)], 501),
    ):
        with pytest.raises(Problem) as caught:
            decide_usable(states)
        assert caught.value.status == status
    assert b"\r\nRetry-After: 1\r\n" in build_problem(decide_failure([ready, KeyState("a@1", WAITING)]))


def test_failure_is_final_only_if_every_data_key_was_tried() -> None:
    """While a kept version isn't there yet, trying again helps."""
    ready = KeyState("a", READY, 32, 1)
    assert decide_failure([ready, KeyState("a@1", READY, 16, 1), KeyState("a@2", GONE)]).status == 422
    assert decide_failure([ready, KeyState("a@1", WAITING)]).status == 503
    assert decide_failure([ready, KeyState("a@1", BEYOND)]).status == 501


def test_small_bodies_take_little_memory() -> None:
    """A mebibyte is the most."""
    assert decide_memory_bytes(0) == 56
    assert decide_memory_bytes(100) == 156
    assert decide_memory_bytes(1 << 30) == decide_memory_bytes(None) == 1 << 20


def test_message_between_the_processes_keeps_descriptors_with_their_names() -> None:
    """Only what is ready has one."""
    states = [
        KeyState("a", WAITING),
        KeyState("b@1", READY, 32, 5),
        KeyState("c", GONE),
        KeyState("d", READY, 64, 6),
    ]
    parsed = parse_message(build_message(states), [7, 8])
    assert [(one.name, one.state, one.size, one.fd) for one in parsed] == [
        ("a", WAITING, 0, -1),
        ("b@1", READY, 32, 7),
        ("c", GONE, 0, -1),
        ("d", READY, 64, 8),
    ]
