"""AWS signatures of the local mode: only the secret's owner gets in. Lines: Authorization, date, the body."""

import datetime as dt
from collections.abc import Iterator
from typing import Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AwsCredentials

from datakeys.contract.errors import InternalError, KmsError
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.local.arguments import Credentials
from datakeys.keyservice.local.callers import SignatureCallers
from datakeys.keyservice.server.http import HttpRequest
from fuzz.target import Target, require

_REGION: Final = "us-east-1"
_ACCESS_KEY: Final = "AKIDEXAMPLE"
_SECRET: Final = "test-secret"  # noqa: S105 - of a test
_TARGET: Final = "TrentService.ListKeys"
_TIMESTAMP: Final = "20260101T000000Z"
_NOW: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()


class SignatureTarget(Target):
    """``SignatureCallers.identify``, with and without credentials to compare with."""

    max_bytes = 1024
    words = ("AWS4-HMAC-SHA256", "Credential=", "SignedHeaders=", "Signature=", "aws4_request", _TIMESTAMP)

    def __init__(self) -> None:
        root = Principal(PrincipalKind.ACCOUNT_ROOT, "123456789012", "", arn="arn:aws:iam::123456789012:root")
        self._any = SignatureCallers(root, _REGION, None, lambda: _NOW)
        self._one = SignatureCallers(root, _REGION, Credentials(_ACCESS_KEY, _SECRET), lambda: _NOW)
        self._good = {one: _sign(one) for one in (b"{}", b'{"Limit":1}')}

    def seeds(self) -> Iterator[bytes]:
        """Return signed requests, and some that lack a part."""
        for body, header in self._good.items():
            yield b"\n".join([header, _TIMESTAMP.encode(), body])
            for start in (0, 20, 60, 110):
                yield b"\n".join([header[:start] + header[start + 9 :], _TIMESTAMP.encode(), body])
            yield b"\n".join([header, b"Thu, 01 Jan 2026 00:00:00 GMT", body])

    def run(self, data: bytes) -> None:
        """Identify the caller of a request."""
        header, _, rest = data.partition(b"\n")
        date, _, body = rest.partition(b"\n")
        headers = {
            b"authorization": header,
            b"x-amz-date": date,
            b"host": b"kms",
            b"x-amz-target": _TARGET.encode(),
        }
        request = HttpRequest("POST", b"/", headers, body, "192.0.2.1:5000")
        for callers in (self._any, self._one):
            try:
                callers.identify(request)
            except KmsError as error:
                require(not isinstance(error, InternalError), "an internal error")
            else:
                require(callers is self._any or body in self._good, "a forged signature was taken")


def _sign(body: bytes) -> bytes:
    headers = {"Host": "kms", "X-Amz-Target": _TARGET}
    request = AWSRequest("POST", "https://kms/", data=body, headers=headers)
    request.context["timestamp"] = _TIMESTAMP
    signer = SigV4Auth(AwsCredentials(_ACCESS_KEY, _SECRET), "kms", _REGION)
    request.headers["X-Amz-Date"] = _TIMESTAMP
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))  # noqa: SLF001 - its clock is now
    return str(request.headers["Authorization"]).encode()


def build() -> SignatureTarget:
    """Return the target."""
    return SignatureTarget()
