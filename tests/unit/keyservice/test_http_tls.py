"""TLS of the server: versions, reload, half-open handshakes."""

import asyncio
import datetime as dt
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import http_serving
from datakeys.keyservice.server.http import HttpLimits, HttpRequest, HttpResponse, HttpServer

#: Handshakes take as long as they need on a slow machine.
LIMITS = HttpLimits(handshake_timeout_seconds=300, idle_timeout_seconds=2)
POST = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 5\r\n\r\nhello"


def echo(request: HttpRequest) -> HttpResponse:
    """Answer with the body."""
    return HttpResponse(200, request.body)


def write_certificate(folder: Path, serial: int) -> Path:
    """Write a self-signed certificate and its key for 127.0.0.1 into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kms")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(minutes=5))
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{serial}.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(encoding)
    )
    return path


def build_context(certificate: Path) -> ssl.SSLContext:
    """Return a server context with a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def build_client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return a client context of one version that trusts anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = version
    return context


def serving(
    context: ssl.SSLContext, limits: HttpLimits = LIMITS
) -> AbstractAsyncContextManager[tuple[HttpServer, int]]:
    """Serve TLS on a free port, and drain in the end."""
    return http_serving.serving(echo, limits, context)


async def read_serial(writer: asyncio.StreamWriter) -> int:
    """Return the serial number of the certificate that the server showed."""
    tls = writer.get_extra_info("ssl_object")
    return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True)).serial_number


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a request and return the answer's end."""
    writer.write(POST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    return await reader.readexactly(5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_are_served_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """Both allowed versions carry requests, and an idle connection ends cleanly."""
    context = build_context(write_certificate(tmp_path, 1))

    async def scenario() -> None:
        async with serving(context) as (server, port):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=build_client_context(version)
            )
            assert await ask(reader, writer) == b"hello"
            assert await ask(reader, writer) == b"hello"
            assert await reader.read(-1) == b""
            assert server.counters.idle_closed == 1
            writer.close()

    uvloop.run(scenario())


def test_context_that_allows_old_tls_is_refused() -> None:
    """A server never starts with TLS 1.0 or 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ValueError, match=r"before 1\.2"):
        HttpServer(echo, LIMITS, ssl_context=context)


def test_certificate_loaded_later_serves_new_connections_only(tmp_path: Path) -> None:
    """A renewal needs no restart, and doesn't disturb a connection that is open."""
    context = build_context(write_certificate(tmp_path, 1))

    async def scenario() -> None:
        async with serving(context, replace(LIMITS, idle_timeout_seconds=300)) as (_, port):
            client = build_client_context()
            old_reader, old = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            context.load_cert_chain(write_certificate(tmp_path, 2))
            new_reader, new = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            assert (await read_serial(old), await read_serial(new)) == (1, 2)
            assert await ask(old_reader, old) == b"hello"
            assert await ask(new_reader, new) == b"hello"
            old.close()
            new.close()

    uvloop.run(scenario())


@pytest.mark.parametrize("opening", [b"", b"\x16\x03\x01\x02\x00"], ids=["silent", "half a hello"])
def test_half_open_handshake_times_out(
    tmp_path: Path, opening: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that doesn't end its handshake is dropped, with nothing logged as an error."""
    context = build_context(write_certificate(tmp_path, 1))

    async def scenario() -> None:
        async with serving(context, replace(LIMITS, handshake_timeout_seconds=0.15)) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(opening)
            async with asyncio.timeout(60):
                assert await reader.read(-1) == b""
            assert server.counters.accepted == 0
            writer.close()

    uvloop.run(scenario())
    assert caplog.records == []


def test_plain_http_on_the_tls_port_is_not_answered(tmp_path: Path) -> None:
    """Without TLS there is no request."""
    context = build_context(write_certificate(tmp_path, 1))

    async def scenario() -> None:
        async with serving(context) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(POST)
            assert b"HTTP" not in await reader.read(-1)
            assert server.counters.requests == 0
            writer.close()

    uvloop.run(scenario())


def test_protocol_error_is_answered_over_tls(tmp_path: Path) -> None:
    """TLS has no half-close; the answer arrives all the same."""
    context = build_context(write_certificate(tmp_path, 1))

    async def scenario() -> None:
        async with serving(context) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=build_client_context())
            writer.write(b"\0")
            assert (await reader.read(-1)).startswith(b"HTTP/1.1 400 ")
            writer.close()

    uvloop.run(scenario())
