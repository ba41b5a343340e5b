"""AWS Signature Version 4 as a server sees it: parse, check the scope and the time, compute, compare.

Zone: pure; sees the secret access key and callers' signatures, quotes neither. No library of the Python world
that is kept well verifies signatures; signing alone isn't enough. Only what KMS needs: ``POST /``, signed by
header. Source: AWS IAM User Guide, "Create a signed AWS API request". The texts of errors are AWS's as
clients report them.
"""

import base64
import hashlib
import hmac
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from datakeys.contract.errors import IncompleteSignatureError, InvalidSignatureError
from datakeys.keyservice.server.http import HttpRequest

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "kms"
TERMINATOR: Final = "aws4_request"
MAX_SKEW_SECONDS: Final = 300

_VALUE_CHARACTERS: Final = 64
_MUST_BE_SIGNED: Final = tuple((name, name.encode()) for name in ("host", "x-amz-date", "x-amz-target"))
_PARAMETERS: Final = ("Credential", "Signature", "SignedHeaders")
_ISO_BASIC: Final = "%Y%m%dT%H%M%SZ"
_HTTP_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


#: Not frozen: one is made for every request, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Signature:
    """What a request's Authorization header and date say.

    Attributes:
        date: ``YYYYMMDD`` of the credential scope.
        signed_headers: Lower-case names in the order of the header.
        signed_at: The time of signing, in ISO 8601 basic format.
        value: 64 hex characters if it is one.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    terminator: str
    signed_headers: tuple[str, ...]
    signed_at: str
    value: str


def parse_signature(headers: Mapping[bytes, bytes]) -> Signature:
    """Return the signature of a request that has an Authorization header.

    Raises:
        IncompleteSignatureError: Something is missing or malformed; the text says what.
    """
    raw = headers[b"authorization"]
    known, value = _parse_known(raw[:-_VALUE_CHARACTERS]), raw[-_VALUE_CHARACTERS:]
    if known is None or not value.isalnum() or not (headers.get(b"x-amz-date") or headers.get(b"date")):
        return _parse_header(raw, headers)
    return Signature(*known, signed_at=_read_signing_time(headers), value=value.decode())


@lru_cache(maxsize=256)
def _parse_known(start: bytes) -> tuple[str, str, str, str, str, tuple[str, ...]] | None:
    """Return what a header says before its last 64 characters, if those are the signature; else None.

    A client's credential and signed headers are the same all day.
    """
    value = "0" * _VALUE_CHARACTERS
    try:
        found = _parse_header(start + value.encode(), {b"x-amz-date": b"20000101T000000Z"})
    except IncompleteSignatureError:
        return None
    if found.value != value:
        return None
    return (
        found.access_key_id,
        found.date,
        found.region,
        found.service,
        found.terminator,
        found.signed_headers,
    )


def _parse_header(raw: bytes, headers: Mapping[bytes, bytes]) -> Signature:
    header = raw.decode("latin-1").strip()
    parameters = _parse_parameters(header)
    faults = [
        f"Authorization header requires '{name}' parameter."
        for name in _PARAMETERS
        if not parameters.get(name)
    ]
    if not headers.get(b"x-amz-date") and not headers.get(b"date"):
        faults.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if faults:
        raise IncompleteSignatureError(
            f"{' '.join(faults)} (Hashed with SHA-256 and encoded with Base64) "
            f"Authorization={_digest(header)}"
        )
    match parameters["Credential"].split("/"):
        case [access_key_id, date, region, service, terminator] if access_key_id:
            return Signature(
                access_key_id=access_key_id,
                date=date,
                region=region,
                service=service,
                terminator=terminator,
                signed_headers=tuple(parameters["SignedHeaders"].lower().split(";")),
                signed_at=_read_signing_time(headers),
                value=parameters["Signature"],
            )
    raise IncompleteSignatureError(
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
        f"got '{parameters['Credential']}'"
    )


def check_scope(signature: Signature, region: str) -> None:
    """Check that the credentials are scoped to this service and a Region.

    Raises:
        InvalidSignatureError: They aren't.
    """
    if signature.terminator != TERMINATOR:
        raise InvalidSignatureError(
            f"Credential should be scoped with a valid terminator: '{TERMINATOR}', "
            f"not '{signature.terminator}'."
        )
    if signature.service != SERVICE:
        raise InvalidSignatureError(f"Credential should be scoped to correct service: '{SERVICE}'. ")
    if signature.region != region:
        raise InvalidSignatureError(
            f"Credential should be scoped to a valid region, not '{signature.region}'. "
        )


def check_time(signature: Signature, now: float) -> None:
    """Check that the request was signed at most five minutes from now.

    Args:
        signature: Its ``signed_at`` has the ISO 8601 basic format.
        now: Seconds since the epoch.

    Raises:
        InvalidSignatureError: It wasn't, or the credential scope is of another day.
    """
    signed_at = signature.signed_at
    if signature.date != signed_at[:8]:
        raise InvalidSignatureError(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{signature.date}' != '{signed_at[:8]}', from '{signed_at}'."
        )
    skew = _to_epoch(signed_at) - now
    minutes = MAX_SKEW_SECONDS // 60
    if skew < -MAX_SKEW_SECONDS:
        raise InvalidSignatureError(
            f"Signature expired: {signed_at} is now earlier than {_format(now - MAX_SKEW_SECONDS)} "
            f"({_format(now)} - {minutes} min.)"
        )
    if skew > MAX_SKEW_SECONDS:
        raise InvalidSignatureError(
            f"Signature not yet current: {signed_at} is still later than {_format(now + MAX_SKEW_SECONDS)} "
            f"({_format(now)} + {minutes} min.)"
        )


def check_signature(request: HttpRequest, signature: Signature, secret_access_key: str) -> None:
    """Check that a request was signed with a secret and not changed since.

    Raises:
        InvalidSignatureError: It wasn't, or a header that must be signed isn't.
    """
    for name, raw in _MUST_BE_SIGNED:
        if raw in request.headers and name not in signature.signed_headers:
            shown = "'Host' or ':authority'" if name == "host" else f"'{name}'"
            raise InvalidSignatureError(f"{shown} must be a 'SignedHeader' in the AWS Authorization.")
    expected = compute_signature(request, signature, secret_access_key)
    if not hmac.compare_digest(expected.encode(), signature.value.encode("latin-1")):
        raise InvalidSignatureError(_MISMATCH)


def compute_signature(request: HttpRequest, signature: Signature, secret_access_key: str) -> str:
    """Return the signature that a request should have: 64 lower-case hex characters."""
    scope = f"{signature.date}/{signature.region}/{signature.service}/{signature.terminator}"
    canonical = hashlib.sha256(_build_canonical_request(request, signature.signed_headers)).hexdigest()
    text = f"{ALGORITHM}\n{signature.signed_at}\n{scope}\n{canonical}"
    return hmac.digest(_derive_key(secret_access_key, scope), text.encode("latin-1"), "sha256").hex()


#: A scope changes once a day.
@lru_cache(maxsize=64)
def _derive_key(secret_access_key: str, scope: str) -> bytes:
    key = b"AWS4" + secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    return key


def _build_canonical_request(request: HttpRequest, signed_headers: tuple[str, ...]) -> bytes:
    path, _, query = request.target.partition(b"?")
    headers = request.headers
    names, joined = _encode_names(signed_headers)
    lines = [request.method.encode(), path, b"&".join(sorted(query.split(b"&"))) if query else b""]
    lines += [name + b":" + b" ".join(headers.get(name, b"").split()) for name in names]
    lines += [b"", joined, hashlib.sha256(request.body).hexdigest().encode()]
    return b"\n".join(lines)


@lru_cache(maxsize=64)
def _encode_names(signed_headers: tuple[str, ...]) -> tuple[tuple[bytes, ...], bytes]:
    names = tuple(name.encode("latin-1") for name in signed_headers)
    return names, b";".join(names)


def _parse_parameters(header: str) -> dict[str, str]:
    algorithm, _, rest = header.partition(" ")
    parameters: dict[str, str] = {}
    for part in rest.replace(",", " ").split():
        name, equals, value = part.partition("=")
        if not equals:
            raise IncompleteSignatureError(
                f"'{_digest(part)}' not a valid key=value pair (missing equal-sign) in Authorization header "
                f"(hashed with SHA-256 and encoded with Base64): '{_digest(header)}'."
            )
        parameters[name] = value
    return parameters if algorithm == ALGORITHM else {}


def _read_signing_time(headers: Mapping[bytes, bytes]) -> str:
    return _parse_signing_time((headers.get(b"x-amz-date") or headers.get(b"date", b"")).decode("latin-1"))


#: Clients sign many requests within a second.
@lru_cache(maxsize=64)
def _parse_signing_time(text: str) -> str:
    for layout in (_ISO_BASIC, _HTTP_DATE):
        try:
            return time.strftime(_ISO_BASIC, time.strptime(text, layout))
        except ValueError:
            continue
    raise IncompleteSignatureError(f"Date must be in ISO-8601 'basic format'. Got '{text}'.")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("latin-1")).digest()).decode()


@lru_cache(maxsize=64)
def _to_epoch(signed_at: str) -> int:
    return timegm(time.strptime(signed_at, _ISO_BASIC))


def _format(moment: float) -> str:
    return time.strftime(_ISO_BASIC, time.gmtime(moment))
