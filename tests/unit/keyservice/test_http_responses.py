"""What an answer looks like on the wire, and what limits may not be."""

import json

import pytest

from datakeys.keyservice.server import http_responses as responses
from datakeys.keyservice.server.http_messages import HttpLimits, HttpRequest, HttpResponse

DATE = responses.build_date_line(0)


def build(response: HttpResponse, *, head: bool = False, close: bool = False) -> bytes:
    """Return the bytes of an answer at the epoch."""
    return responses.build_response_bytes(response, DATE, head=head, close=close)


def test_answer_has_status_type_date_length_and_body() -> None:
    """An answer is complete and in the order of RFC 9112."""
    assert build(HttpResponse(200, b"{}")) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\n"
        b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_further_headers_are_sent_in_order() -> None:
    """A handler can add headers."""
    data = build(HttpResponse(200, b"", headers=((b"x-amzn-requestid", b"1"), (b"b", b"2"))))
    assert b"x-amzn-requestid: 1\r\nb: 2\r\n" in data


def test_last_answer_says_close() -> None:
    """The client is told that the connection ends."""
    assert b"\r\nconnection: close\r\n\r\n" in build(HttpResponse(200, b""), close=True)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    """HEAD differs from GET by the missing body alone."""
    response = HttpResponse(200, b"secret")
    assert build(response, head=True) + b"secret" == build(response)


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_status_has_no_length_and_no_body(status: int) -> None:
    """204 and 304 end with their headers."""
    data = build(HttpResponse(status, b"ignored"))
    assert data.endswith(b"\r\n\r\n")
    assert b"content-length" not in data


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_status_that_is_not_final_is_refused(status: int) -> None:
    """A handler can't send an interim or an invalid status."""
    with pytest.raises(ValueError, match="final status"):
        build(HttpResponse(status, b""))


def test_unregistered_status_has_an_empty_phrase() -> None:
    """A status without a registered phrase is sent as it is."""
    assert build(HttpResponse(299, b"")).startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("text", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
def test_line_break_in_a_header_is_refused(text: bytes) -> None:
    """A value that holds a line break can't forge a header or an answer."""
    for headers in (((b"x", text),), ((text, b"x"),)):
        with pytest.raises(ValueError, match="line break"):
            build(HttpResponse(200, b"", headers=headers))
    with pytest.raises(ValueError, match="line break"):
        build(HttpResponse(200, b"", content_type=text))


def test_fault_body_is_aws_json() -> None:
    """Protocol errors have the two members that AWS SDKs read."""
    response = responses.BODY_TOO_LARGE.build_response()
    assert response.status == 413
    assert json.loads(response.body) == {
        "__type": "RequestEntityTooLargeException",
        "message": "the body is too large",
    }


def test_internal_failure_says_nothing_else() -> None:
    """The answer to a failed handler is a constant."""
    body = responses.INTERNAL.build_response().body
    assert body == b'{"__type":"KMSInternalException","message":"internal failure"}'


def test_repr_shows_neither_body_nor_headers() -> None:
    """A message that ends in a log or traceback by accident shows no token and no key."""
    request = HttpRequest("POST", b"/", {b"authorization": b"canary"}, b"canary", "peer")
    assert "canary" not in repr(request)
    assert "canary" not in repr(HttpResponse(200, b"canary"))


@pytest.mark.parametrize("name", [n for n in HttpLimits.__slots__ if n != "max_requests_per_connection"])
@pytest.mark.parametrize("value", [0, -1])
def test_limit_that_is_no_limit_is_refused(name: str, value: int) -> None:
    """No guard can be switched off by a zero."""
    with pytest.raises(ValueError, match=name):
        HttpLimits(**{name: value})


def test_requests_per_connection_may_be_unlimited() -> None:
    """Zero means unlimited here, and here alone."""
    assert HttpLimits(max_requests_per_connection=0).max_requests_per_connection == 0
