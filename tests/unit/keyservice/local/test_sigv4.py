"""Signatures as a server sees them: parsing, scope, time, value."""

import base64
import hashlib
from dataclasses import replace

import pytest

from datakeys.contract.errors import IncompleteSignatureError, InvalidSignatureError, KmsError
from datakeys.keyservice.local.sigv4 import (
    Signature,
    check_scope,
    check_signature,
    check_time,
    compute_signature,
    parse_signature,
)
from datakeys.keyservice.server.http import HttpRequest

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
VALUE = "0" * 64
HEADER = (
    "AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/kms/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={VALUE}"
)
DATE = b"20150830T123600Z"
NOON = 1440938160.0
SIGNATURE = Signature(
    "AKID", "20150830", "us-east-1", "kms", "aws4_request", ("host", "x-amz-date"), DATE.decode(), VALUE
)


def headers(authorization: str, date: bytes = DATE) -> dict[bytes, bytes]:
    return {b"authorization": authorization.encode("latin-1"), b"x-amz-date": date}


def hashed(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("latin-1")).digest()).decode()


def test_aws_example_has_its_published_signature() -> None:
    """Source: AWS General Reference, "Signature Version 4 signing process", the IAM ListUsers example."""
    request = HttpRequest(
        "GET",
        b"/?Action=ListUsers&Version=2010-05-08",
        {
            b"content-type": b"application/x-www-form-urlencoded; charset=utf-8",
            b"host": b"iam.amazonaws.com",
            b"x-amz-date": DATE,
        },
        b"",
        "",
    )
    signature = replace(SIGNATURE, service="iam", signed_headers=("content-type", "host", "x-amz-date"))
    assert (
        compute_signature(request, signature, SECRET)
        == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        HEADER.replace(", ", ","),
        HEADER.replace(", ", "  ,  "),
        HEADER.replace("host;x-amz-date", "Host;X-Amz-Date"),
    ],
)
def test_every_spelling_of_a_header_is_understood(header: str) -> None:
    """Clients differ in the spaces after the commas, and some in the case of names."""
    assert parse_signature(headers(header)) == SIGNATURE


def test_date_header_counts_if_there_is_no_amz_date() -> None:
    """A client may sign the HTTP date instead."""
    sent = {b"authorization": HEADER.encode(), b"date": b"Sun, 30 Aug 2015 12:36:00 GMT"}
    assert parse_signature(sent).signed_at == DATE.decode()


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("AWS4-HMAC-SHA256", ["Credential", "Signature", "SignedHeaders"]),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e", ["Signature", "SignedHeaders"]),
        ("AWS4-HMAC-SHA256 Signature=x, SignedHeaders=host", ["Credential"]),
        ("AWS4-HMAC-SHA256 Credential=, Signature=x, SignedHeaders=host", ["Credential"]),
        ("AWS4-HMAC-SHA1 " + HEADER.partition(" ")[2], ["Credential", "Signature", "SignedHeaders"]),
    ],
)
def test_each_missing_parameter_is_named(header: str, missing: list[str]) -> None:
    """The text names what is missing, in AWS's order, and quotes the header only as a hash."""
    with pytest.raises(IncompleteSignatureError) as caught:
        parse_signature(headers(header))
    needs = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
    assert caught.value.message == (
        f"{needs} (Hashed with SHA-256 and encoded with Base64) Authorization={hashed(header)}"
    )


def test_missing_date_is_named() -> None:
    """A signature without a time says so."""
    with pytest.raises(IncompleteSignatureError, match="either a 'X-Amz-Date' or a 'Date' header") as caught:
        parse_signature({b"authorization": HEADER.encode()})
    assert "Credential'" not in caught.value.message


def test_bearer_token_is_not_quoted() -> None:
    """Another scheme's token is refused and doesn't come back in the text."""
    with pytest.raises(IncompleteSignatureError) as caught:
        parse_signature(headers("Bearer secret-token"))
    assert caught.value.message == (
        f"'{hashed('secret-token')}' not a valid key=value pair (missing equal-sign) in Authorization header "
        f"(hashed with SHA-256 and encoded with Base64): '{hashed('Bearer secret-token')}'."
    )


@pytest.mark.parametrize("credential", ["AKID", "AKID/20150830/us-east-1/kms", "/a/b/c/d", "a/b/c/d/e/f"])
def test_credential_has_five_parts(credential: str) -> None:
    """The scope is complete, or the error says how it looks."""
    with pytest.raises(IncompleteSignatureError) as caught:
        parse_signature(headers(HEADER.replace("AKID/20150830/us-east-1/kms/aws4_request", credential)))
    assert caught.value.message == (
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
        f"got '{credential}'"
    )


@pytest.mark.parametrize("date", [b"2015-08-30T12:36:00Z", b"x", b"20151330T123600Z", b"\xff"])
def test_date_has_the_basic_format(date: bytes) -> None:
    """Another form of the time is an error that quotes it."""
    with pytest.raises(IncompleteSignatureError) as caught:
        parse_signature(headers(HEADER, date))
    assert caught.value.message == f"Date must be in ISO-8601 'basic format'. Got '{date.decode('latin-1')}'."


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"region": "eu-west-1"}, "Credential should be scoped to a valid region, not 'eu-west-1'. "),
        ({"service": "s3"}, "Credential should be scoped to correct service: 'kms'. "),
        (
            {"terminator": "x"},
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'x'.",
        ),
    ],
)
def test_scope_is_checked(change: dict[str, str], text: str) -> None:
    """Credentials for another Region or service don't count, and the error says which."""
    check_scope(SIGNATURE, "us-east-1")
    with pytest.raises(InvalidSignatureError) as caught:
        check_scope(replace(SIGNATURE, **change), "us-east-1")  # type: ignore[arg-type]
    assert caught.value.message == text


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_are_tolerated(seconds: float) -> None:
    """Clocks may differ by five minutes both ways."""
    check_time(SIGNATURE, NOON + seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (
            301,
            (
                "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z "
                "(20150830T124101Z - 5 min.)"
            ),
        ),
        (
            -301,
            (
                "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z "
                "(20150830T123059Z + 5 min.)"
            ),
        ),
    ],
)
def test_more_than_five_minutes_are_not(seconds: float, text: str) -> None:
    """The error shows both clocks."""
    with pytest.raises(InvalidSignatureError) as caught:
        check_time(SIGNATURE, NOON + seconds)
    assert caught.value.message == text


def test_scope_is_of_the_day_of_signing() -> None:
    """A credential scope of another day than the signature is refused."""
    with pytest.raises(InvalidSignatureError) as caught:
        check_time(replace(SIGNATURE, date="20150831"), NOON)
    assert caught.value.message == (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
        "'20150831' != '20150830', from '20150830T123600Z'."
    )


@pytest.mark.parametrize(
    ("unsigned", "shown"),
    [("host", "'Host' or ':authority'"), ("x-amz-date", "'x-amz-date'"), ("x-amz-target", "'x-amz-target'")],
)
def test_what_a_request_means_must_be_signed(unsigned: str, shown: str) -> None:
    """A signature that leaves out host, time or operation protects nothing."""
    names = ("host", "x-amz-date", "x-amz-target")
    request = HttpRequest("POST", b"/", {name.encode(): b"x" for name in names}, b"", "")
    signature = replace(SIGNATURE, signed_headers=tuple(name for name in names if name != unsigned))
    signature = replace(signature, value=compute_signature(request, signature, SECRET))
    with pytest.raises(InvalidSignatureError) as caught:
        check_signature(request, signature, SECRET)
    assert caught.value.message == f"{shown} must be a 'SignedHeader' in the AWS Authorization."


@pytest.mark.parametrize("value", ["", "0" * 64, "\xff", "x" * 10_000])
def test_wrong_values_get_one_text(value: str) -> None:
    """Whatever the value is, the text is AWS's one text."""
    request = HttpRequest("POST", b"/", {b"host": b"h", b"x-amz-date": DATE}, b"", "")
    with pytest.raises(InvalidSignatureError, match=r"^The request signature we calculated does not match"):
        check_signature(request, replace(SIGNATURE, value=value), SECRET)


@pytest.mark.parametrize(
    "header", ["", " ", "=", "AWS4-HMAC-SHA256 =", "AWS4-HMAC-SHA256 a=b=c,,;", "\xff\x00"]
)
def test_garbage_is_a_kms_error(header: str) -> None:
    """No header breaks the parser."""
    with pytest.raises(KmsError):
        parse_signature(headers(header))
