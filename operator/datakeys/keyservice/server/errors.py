"""The one table from errors to HTTP answers.

Zone: no secrets. Source: kms-semantics section 5, "Wire protocol".
"""

import json
from typing import Final

from datakeys.contract.errors import (
    KmsError,
    MissingAuthenticationTokenError,
    ThrottlingError,
    UnrecognizedClientError,
)
from datakeys.keyservice.server.http import HttpResponse
from datakeys.keyservice.server.quotas import RETRY_AFTER_SECONDS

REQUEST_ID_HEADER: Final = b"x-amzn-RequestId"
#: Source: RFC 9110, 10.2.3.
_RETRY_AFTER: Final = (b"retry-after", str(RETRY_AFTER_SECONDS).encode())

#: Errors of authentication have one text each, whatever the cause.
_FIXED_TEXTS: Final = {
    UnrecognizedClientError.code: "The security token included in the request is invalid.",
    MissingAuthenticationTokenError.code: "Missing Authentication Token",
}


def build_error_response(error: KmsError, request_id: str) -> HttpResponse:
    """Return the answer that stands for an error: its status, its name in ``__type``, its text."""
    text = _FIXED_TEXTS.get(error.code, error.message)
    body = json.dumps({"__type": error.code, "message": text}).encode()
    headers: tuple[tuple[bytes, bytes], ...] = ((REQUEST_ID_HEADER, request_id.encode()),)
    if isinstance(error, ThrottlingError):
        headers += (_RETRY_AFTER,)
    return HttpResponse(status=int(error.http_status), body=body, headers=headers)
