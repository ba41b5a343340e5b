"""Framing, limits and smuggling guards, on bytes alone."""

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_messages import HttpLimits, HttpRequest
from datakeys.keyservice.server.http_parser import SINGLE_HEADERS, RequestParser

LIMITS = HttpLimits(max_header_bytes=256, max_body_bytes=64)
GET = b"GET /a?b=c HTTP/1.1\r\nHost: kms\r\n\r\n"


def parse(*pieces: bytes) -> RequestParser:
    """Feed pieces to a fresh parser."""
    parser = RequestParser(LIMITS, "192.0.2.1:5")
    for piece in pieces:
        parser.feed(piece)
    return parser


def build_post(headers: bytes, body: bytes = b"") -> bytes:
    """Return a POST with a Host header and further header lines."""
    return b"POST / HTTP/1.1\r\nHost: kms\r\n" + headers + b"\r\n" + body


def test_request_has_method_target_lower_case_headers_body_and_peer() -> None:
    """All members of a request come from the wire, with header names in lower case and values trimmed."""
    parser = parse(build_post(b"X-Amz-Target: TrentService.Decrypt \t\r\nContent-Length: 3\r\n", b"abc"))
    expected = HttpRequest(
        "POST",
        b"/",
        {b"host": b"kms", b"x-amz-target": b"TrentService.Decrypt", b"content-length": b"3"},
        b"abc",
        "192.0.2.1:5",
    )
    assert parser.ready == [expected]
    assert parser.fault is None
    assert not parser.finished


def test_target_keeps_its_query_undecoded() -> None:
    """The target is the client's own text."""
    assert parse(GET).ready[0].target == b"/a?b=c"


def test_repeated_list_header_is_joined_in_order() -> None:
    """Values of a repeated header are joined by a comma."""
    parser = parse(build_post(b"Accept: a\r\naccept: b\r\n"))
    assert parser.ready[0].headers[b"accept"] == b"a,b"


@pytest.mark.parametrize("name", sorted(SINGLE_HEADERS))
def test_repeated_single_header_is_refused(name: bytes) -> None:
    """A header that decides who asks for what, or how long a body is, must not come twice."""
    value = b"100-continue" if name == b"expect" else b"1"
    parser = parse(build_post((name + b": " + value + b"\r\n") * 2))
    assert parser.ready == []
    assert parser.fault is not None
    assert parser.fault.status == 400


def test_chunked_body_is_joined_and_trailers_are_dropped() -> None:
    """Chunks become one body; a trailer can't add or change a header."""
    body = b"2;ext=1\r\nab\r\n1\r\nc\r\n0\r\nAuthorization: evil\r\n\r\n"
    parser = parse(build_post(b"Transfer-Encoding: chunked\r\n", body) + GET)
    assert [request.body for request in parser.ready] == [b"abc", b""]
    assert all(b"authorization" not in request.headers for request in parser.ready)


SMUGGLING = {
    "both length and encoding": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "both encoding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "differing lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "length list": b"Content-Length: 3, 3\r\n",
    "signed length": b"Content-Length: +3\r\n",
    "hexadecimal length": b"Content-Length: 0x3\r\n",
    "negative length": b"Content-Length: -3\r\n",
    "empty length": b"Content-Length:\r\n",
    "length beyond 64 bits": b"Content-Length: 99999999999999999999\r\n",
    "encoding that isn't chunked": b"Transfer-Encoding: gzip\r\n",
    "encoding list": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n",
    "disguised chunked": b"Transfer-Encoding: xchunked\r\n",
    "space before the colon": b"Content-Length : 3\r\n",
    "folded header": b"X: a\r\n Content-Length: 3\r\n",
    "NUL in a value": b"X: a\0b\r\n",
    "bare CR in a value": b"X: a\rContent-Length: 3\r\n",
    "bare LF after a header": b"X: a\nContent-Length: 3\r\n",
    "no name": b": a\r\n",
}


@pytest.mark.parametrize("headers", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_ambiguous_framing_is_refused(headers: bytes) -> None:
    """What two parsers could cut differently never becomes a request."""
    parser = parse(build_post(headers, b"0\r\n\r\n"))
    assert parser.ready == []
    assert parser.fault is not None
    assert parser.fault.status == 400


CHUNKS = {
    "bare LF": b"3\nabc\n0\n\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"ffffffffffffffffff\r\n",
    "space": b"3 \r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "longer than said": b"2\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS.keys())
def test_malformed_chunk_is_refused(body: bytes) -> None:
    """Chunk sizes and their line ends are read strictly."""
    parser = parse(build_post(b"Transfer-Encoding: chunked\r\n", body))
    assert parser.ready == []
    assert parser.fault == responses.MALFORMED


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", responses.HOST),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", responses.HOST),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", responses.VERSION),
        (b"GET /\r\n\r\n", responses.VERSION),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", responses.MALFORMED),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", responses.UPGRADE),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", responses.UPGRADE),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", responses.FRAMING),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", responses.MALFORMED),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", responses.MALFORMED),
        (b"\x16\x03\x01\x02\x00\x01\x00", responses.MALFORMED),
        (build_post(b"Expect: 200-ok\r\n"), responses.EXPECTATION),
    ],
)
def test_what_is_not_served_is_refused(data: bytes, fault: responses.Fault) -> None:
    """Other versions, tunnels, upgrades, unknown methods and plain noise get their own answer."""
    parser = parse(data)
    assert parser.ready == []
    assert parser.fault == fault


def test_declared_length_over_the_limit_is_refused_before_the_body() -> None:
    """A body that is announced as too large is not waited for."""
    assert parse(build_post(b"Content-Length: 65\r\n")).fault == responses.BODY_TOO_LARGE
    assert len(parse(build_post(b"Content-Length: 64\r\n", b"x" * 64)).ready) == 1


def test_chunked_body_over_the_limit_is_refused() -> None:
    """A body of unknown length is stopped at the limit, however small its chunks are."""
    parser = parse(build_post(b"Transfer-Encoding: chunked\r\n"), *[b"1\r\nx\r\n"] * 65)
    assert parser.fault == responses.BODY_TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        build_post(b"X: " + b"a" * 256 + b"\r\n"),
        build_post(b"A: b\r\n" * 60),
        b"GET /" + b"a" * 256 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["one long value", "many headers", "long target"],
)
def test_headers_over_the_limit_are_refused(data: bytes) -> None:
    """Target and headers together have one limit."""
    assert parse(data).fault == responses.HEADERS_TOO_LARGE


def test_header_without_end_is_refused_although_the_tokenizer_holds_it_back() -> None:
    """A value that never ends is bounded too, at twice the limit."""
    parser = parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", *[b"a"] * 600)
    assert parser.fault == responses.HEADERS_TOO_LARGE


def test_endless_chunk_extension_is_refused() -> None:
    """Bytes that are neither body nor header are bounded as well."""
    parser = parse(build_post(b"Transfer-Encoding: chunked\r\n"), b"1;", *[b"a" * 100] * 20)
    assert parser.fault == responses.BODY_TOO_LARGE


def test_trailers_over_the_limit_are_refused() -> None:
    """Trailers count as headers."""
    body = b"0\r\n" + b"A: b\r\n" * 60 + b"\r\n"
    assert parse(build_post(b"Transfer-Encoding: chunked\r\n", body)).fault == responses.HEADERS_TOO_LARGE


def test_connection_close_ends_the_stream_and_later_bytes_are_ignored() -> None:
    """After a request that closes, nothing is parsed, and no error is made of it."""
    parser = parse(build_post(b"Connection: close\r\n") + GET, GET)
    assert len(parser.ready) == 1
    assert parser.finished
    assert parser.fault is None


def test_http_1_0_always_closes() -> None:
    """HTTP/1.0 needs no Host and gets one answer per connection."""
    parser = parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert len(parser.ready) == 1
    assert parser.finished


def test_requests_before_a_fault_are_kept() -> None:
    """What was complete before the stream broke is still answered."""
    parser = parse(GET + GET + b"\0")
    assert len(parser.ready) == 2
    assert parser.fault == responses.MALFORMED


def test_nothing_is_parsed_after_a_fault() -> None:
    """A broken stream isn't resynchronised: that is where smuggling starts."""
    parser = parse(b"\0", GET)
    assert parser.ready == []


def test_wants_continue_until_the_body_starts() -> None:
    """The client's wish lasts while it waits, and no longer."""
    parser = parse(build_post(b"Expect: 100-continue\r\nContent-Length: 2\r\n"))
    assert parser.wants_continue
    parser.feed(b"a")
    assert not parser.wants_continue


def test_closed_parser_takes_nothing_and_holds_nothing() -> None:
    """After close no request's bytes are kept."""
    parser = parse(build_post(b"Content-Length: 9\r\n", b"abc"))
    parser.close()
    parser.feed(GET)
    assert parser.ready == []
    assert parser._body == b""


def test_second_line_of_defence_refuses_without_the_tokenizer() -> None:
    """The framing rules hold by this module's own check, whatever the tokenizer lets pass."""
    for headers in (
        {b"content-length": b"3", b"transfer-encoding": b"chunked"},
        {b"content-length": b"+3"},
        {b"transfer-encoding": b"gzip"},
    ):
        parser = RequestParser(LIMITS, "")
        parser._headers = headers
        with pytest.raises(Exception, match=r"^$"):
            parser._check_framing()
        assert parser.fault == responses.FRAMING


TOKENS = st.text("abcXYZ-", min_size=1, max_size=8).map(str.encode)
VALUES = st.text("ab 1,;", max_size=12).map(lambda text: text.strip().encode())
HEADERS = st.lists(st.tuples(TOKENS, VALUES), max_size=4).map(
    lambda pairs: b"".join(b"%b: %b\r\n" % pair for pair in pairs)
)
BODIES = st.binary(max_size=70)


def _chunk(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


PLAIN = st.builds(
    lambda headers, body: build_post(headers + b"Content-Length: %d\r\n" % len(body), body), HEADERS, BODIES
)
CHUNKED = st.builds(
    lambda headers, pieces: build_post(headers + b"Transfer-Encoding: chunked\r\n", _chunk(pieces)),
    HEADERS,
    st.lists(st.binary(max_size=20), max_size=5),
)
NOISE = st.sampled_from(
    [
        *[build_post(headers, b"abc") for headers in SMUGGLING.values()],
        build_post(b"Connection: close\r\n"),
        b"\r\n",
    ]
)
STREAMS = st.lists(st.one_of(PLAIN, CHUNKED, NOISE), min_size=1, max_size=4).map(b"".join)


def outcome(pieces: list[bytes]) -> tuple[list[HttpRequest], responses.Fault | None, bool]:
    """Return all that a stream comes to."""
    parser = parse(*pieces)
    return parser.ready, parser.fault, parser.finished


@settings(max_examples=200, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_result_does_not_depend_on_how_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    """Whole, byte by byte or cut anywhere: the same requests and the same fault."""
    whole = outcome([stream])
    assert outcome([stream[i : i + 1] for i in range(len(stream))]) == whole
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(stream[start : start + cut])
        start += cut
    assert outcome([*pieces, stream[start:]]) == whole


#: Requests of one client: few heads, again and again, with bodies that look like the end of a head.
REPEATS = st.lists(
    st.one_of(
        st.builds(
            lambda name, body: build_post(name + b": 1\r\nContent-Length: 8\r\n", body),
            st.sampled_from([b"A", b"B"]),
            st.lists(st.sampled_from([b"\r\n", b"ab"]), min_size=4, max_size=4).map(b"".join),
        ),
        NOISE,
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(requests=REPEATS, joined=st.lists(st.booleans(), min_size=8, max_size=8))
def test_head_that_is_known_comes_to_the_same_as_one_that_is_new(
    requests: list[bytes], joined: list[bool]
) -> None:
    """Each request in a piece of its own, or some joined with the next: what comes out is the same."""
    pieces = [b""]
    for request, with_next in zip(requests, joined, strict=False):
        pieces[-1] += request
        if not with_next:
            pieces.append(b"")
    stream = b"".join(requests)
    assert outcome(pieces) == outcome([stream[i : i + 1] for i in range(len(stream))])


def test_known_head_is_not_tokenized_again_and_another_one_is() -> None:
    """Only the bytes of a head that differs reach the tokenizer."""
    parser = parse(build_post(b"Content-Length: 3\r\n", b"abc"))
    tokenizer, parser._tokenizer = parser._tokenizer, cast("Any", object())
    parser.feed(build_post(b"Content-Length: 3\r\n", b"def"))
    parser._tokenizer = tokenizer
    parser.feed(build_post(b"content-Length: 3\r\n", b"ghi"))
    assert [request.body for request in parser.ready] == [b"abc", b"def", b"ghi"]
    assert parser.message_count == 3


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET,
        build_post(b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n0\r\n\r\n"),
        build_post(b"Expect: 100-continue\r\nContent-Length: 1\r\n", b"a"),
        build_post(b"Connection: close\r\nContent-Length: 1\r\n", b"a"),
        build_post(b"Content-Length: 2\r\n", b"\r\n") + b"\r\n",
        build_post(b"Content-Length: 1\r\n", b"a") * 2,
    ],
)
def test_head_is_remembered_only_if_its_length_says_all_of_its_framing(request_bytes: bytes) -> None:
    """What is framed in another way, or doesn't come whole and alone, is tokenized each time."""
    assert parse(request_bytes)._known is None


def test_long_or_many_headers_are_not_remembered_and_none_outlive_the_connection() -> None:
    """The memory that a connection keeps is bounded, and gone with it."""
    parser = RequestParser(HttpLimits(), "")
    parser.feed(build_post(b"A: %b\r\nContent-Length: 1\r\n" % (b"a" * 2048), b"x"))
    many = b"".join(b"a%d: b\r\n" % number for number in range(31))
    parser.feed(build_post(many + b"Content-Length: 1\r\n", b"x"))
    assert len(parser.ready) == 2
    assert parser._known is None
    parser.feed(build_post(b"Content-Length: 1\r\n", b"x"))
    assert parser._known is not None
    assert b"kms" not in repr(parser._known).encode()
    parser.close()
    assert parser._known is None


@settings(max_examples=200, deadline=None)
@given(stream=st.binary(max_size=300))
def test_noise_never_raises_and_never_becomes_a_request_with_a_fault_unset(stream: bytes) -> None:
    """Any bytes end in requests, a fault, or the wait for more; nothing else escapes."""
    parser = parse(stream)
    assert parser.fault is None or parser.fault.status in (400, 413, 417, 431)
