"""The child's small HTTP client: addresses and heads; whole exchanges are in test_failures."""

import pytest

from datakeys.sidecar.https_connection import ProtocolError, parse_address, parse_head


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://kms.datakey-system.svc:443", ("kms.datakey-system.svc", 443)),
        ("https://kms.datakey-system.svc", ("kms.datakey-system.svc", 443)),
        ("https://10.0.0.1:8443/", ("10.0.0.1", 8443)),
        ("https://[fd00::1]:8443", ("fd00::1", 8443)),
        ("https://[fd00::1]", ("fd00::1", 443)),
    ],
)
def test_addresses(url: str, address: tuple[str, int]) -> None:
    """Names, both kinds of IP addresses, with and without a port."""
    assert parse_address(url) == address


def test_head_gives_status_and_length() -> None:
    """The usual head, whatever the case of its fields."""
    assert parse_head(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 12\r\nX: y") == (200, 12)
    assert parse_head(b"HTTP/1.1 400\r\nContent-Length: 0") == (400, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1",
        b"HTTP/1.1 abc\r\nContent-Length: 1",
        b"HTTP/1.1 2000\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
    ],
)
def test_anything_else_is_refused(head: bytes) -> None:
    """Other versions, odd numbers, no length or two, and transfer codings are refused."""
    with pytest.raises(ProtocolError):
        parse_head(head)
