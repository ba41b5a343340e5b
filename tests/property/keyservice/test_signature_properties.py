"""Whatever botocore signs verifies; any change to it fails."""

import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.errors import IncompleteSignatureError, InvalidSignatureError
from datakeys.keyservice.local.sigv4 import (
    Signature,
    _parse_header,
    check_scope,
    check_signature,
    check_time,
    parse_signature,
)
from datakeys.keyservice.server.http import HttpRequest

REGIONS = st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"])
SECRETS = st.text(string.ascii_letters + string.digits + "/+", min_size=1, max_size=64)
VALUES = st.text(string.printable.strip() + " ", max_size=40)
NAMES = st.from_regex(r"x-amz-[a-z0-9-]{1,12}", fullmatch=True)


@st.composite
def signed_requests(draw: st.DrawFn) -> tuple[HttpRequest, str, str]:
    """Draw a request that botocore has signed, with its secret and Region."""
    region, secret = draw(REGIONS), draw(SECRETS)
    body = draw(st.binary(max_size=200))
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Encrypt"}
    headers |= draw(st.dictionaries(NAMES, VALUES, max_size=3))
    request = AWSRequest("POST", "http://127.0.0.1:8080/", headers=headers, data=body)
    token = draw(st.none() | st.text(string.ascii_letters, min_size=1, max_size=20))
    SigV4Auth(Credentials("AKID", secret, token), "kms", region).add_auth(request)
    sent: dict[Any, Any] = {
        name.lower().encode(): str(value).strip().encode() for name, value in request.headers.items()
    }
    sent.setdefault(b"host", b"127.0.0.1:8080")
    return HttpRequest("POST", b"/", sent, body, ""), secret, region


def verify(request: HttpRequest, secret: str, region: str) -> None:
    signature = parse_signature(request.headers)
    check_scope(signature, region)
    check_time(signature, time.time())
    check_signature(request, signature, secret)


@given(signed_requests())
def test_signed_requests_verify(signed: tuple[HttpRequest, str, str]) -> None:
    """What botocore signs is accepted, whatever body, headers, token and Region."""
    verify(*signed)


@given(signed_requests(), st.data())
def test_any_change_of_the_body_fails(signed: tuple[HttpRequest, str, str], data: st.DataObject) -> None:
    """Another body doesn't belong to the signature."""
    request, secret, region = signed
    body = data.draw(st.binary(max_size=200).filter(lambda other: other != request.body))
    with pytest.raises(InvalidSignatureError):
        verify(HttpRequest("POST", b"/", request.headers, body, ""), secret, region)


@given(signed_requests(), st.data())
def test_any_change_of_a_signed_header_fails(
    signed: tuple[HttpRequest, str, str], data: st.DataObject
) -> None:
    """Another value of a signed header, or its absence, doesn't belong to the signature."""
    request, secret, region = signed
    name = data.draw(st.sampled_from(sorted(request.headers)))
    value = request.headers[name] + b"x" if data.draw(st.booleans()) else b""
    if b" ".join(value.split()) == b" ".join(request.headers[name].split()):
        return
    changed = {**request.headers, name: value}
    with pytest.raises((InvalidSignatureError, IncompleteSignatureError)):
        verify(HttpRequest("POST", b"/", changed, request.body, ""), secret, region)


@given(signed_requests(), st.sampled_from(["GET", "PUT"]), st.sampled_from([b"/x", b"/?a=b"]))
def test_another_method_or_target_fails(
    signed: tuple[HttpRequest, str, str], method: str, target: bytes
) -> None:
    """Method, path and query are signed too."""
    request, secret, region = signed
    for changed in (
        HttpRequest(method, b"/", request.headers, request.body, ""),
        HttpRequest("POST", target, request.headers, request.body, ""),
    ):
        with pytest.raises(InvalidSignatureError):
            verify(changed, secret, region)


@given(signed_requests(), SECRETS)
def test_another_secret_fails(signed: tuple[HttpRequest, str, str], secret: str) -> None:
    """Only the secret that signed verifies."""
    if secret != signed[1]:
        with pytest.raises(InvalidSignatureError):
            verify(signed[0], secret, signed[2])


PIECES = st.sampled_from(
    [
        b"AWS4-HMAC-SHA256 ",
        b"Credential=",
        b"AKID/20260101/us-east-1/kms/aws4_request",
        b"SignedHeaders=",
        b"host",
        b"Signature=",
        b"0" * 64,
        b"a" * 64,
        b"f" * 63,
        b"0" * 65,
        b", ",
        b",",
        b" ",
        b"x",
        b"=",
        b"\xe9",
        b"/",
    ]
)
WHOLE = b"AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/kms/aws4_request, SignedHeaders=host"


@st.composite
def authorizations(draw: st.DrawFn) -> bytes:
    """Draw headers near and far from the usual form."""
    start = draw(st.sampled_from([b"", WHOLE, WHOLE + b", Signature=" + b"0" * 64, WHOLE + b", Signature="]))
    return start + b"".join(draw(st.lists(PIECES, max_size=8)))


def parse_or_fail(parse: Callable[[], Signature]) -> Signature | str:
    try:
        return parse()
    except IncompleteSignatureError as error:
        return error.message


@given(authorizations(), st.sampled_from([{}, {b"x-amz-date": b"20260101T000000Z"}, {b"date": b"x"}]))
def test_what_is_remembered_of_a_header_changes_nothing(header: bytes, dates: dict[bytes, bytes]) -> None:
    """A header whose start is known has the same signature, or the same error, as one read as a whole."""
    headers = {b"authorization": header, **dates}
    expected = parse_or_fail(lambda: _parse_header(header, headers))
    assert parse_or_fail(lambda: parse_signature(headers)) == expected
    assert parse_or_fail(lambda: parse_signature(headers)) == expected
