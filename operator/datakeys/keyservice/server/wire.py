"""Read a request of the AWS KMS JSON 1.1 protocol: its operation, its body, its token.

Zone: callers' tokens and plaintexts pass; nothing is logged or quoted. Source: kms-semantics section 5.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from datakeys.contract.errors import (
    MissingAuthenticationTokenError,
    SerializationError,
    UnknownOperationError,
    UnrecognizedClientError,
)
from datakeys.contract.identity import HEADER_ACCOUNT, HEADER_OBJECT_NAME
from datakeys.keyservice.operations.table import VERBS, WATCH_KEYS, Verb
from datakeys.keyservice.server.http import HttpRequest

TARGET_PREFIX: Final = b"TrentService."
#: Of the verbs that only the controller knows.
CONTROLLER_PREFIX: Final = b"DatakeysController."
_ACCOUNT: Final = HEADER_ACCOUNT.encode()
_OBJECT_NAME: Final = HEADER_OBJECT_NAME.encode()
_MAX_OBJECT_NAME: Final = 253


_BY_TARGET: Final[Mapping[bytes, Verb]] = {
    **{TARGET_PREFIX + name.encode(): verb for name, verb in VERBS.items()},
    CONTROLLER_PREFIX + WATCH_KEYS.name.encode(): WATCH_KEYS,
}


def parse_verb(request: HttpRequest) -> Verb:
    """Return the operation that a request names.

    Raises:
        UnknownOperationError: None of this service.
    """
    verb = _BY_TARGET.get(request.headers.get(b"x-amz-target", b""))
    if verb is None or request.method != "POST" or request.target.partition(b"?")[0] != b"/":
        raise UnknownOperationError("The operation is not known.")
    return verb


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object; an empty body is an empty object.

    Raises:
        SerializationError: It isn't a JSON object in UTF-8, is nested deeper than 1024 levels, or holds a
            lone surrogate or a number that no float can hold.
    """
    if not body:
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SerializationError("The body is not JSON.") from None
    if type(parsed) is not dict:
        raise SerializationError("The body is not a JSON object.")
    return parsed


def read_authorization(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the Authorization header.

    Raises:
        MissingAuthenticationTokenError: There is none.
    """
    header = headers.get(b"authorization")
    if not header:
        raise MissingAuthenticationTokenError
    return header


def read_account(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the header that names the account, or None."""
    header = headers.get(_ACCOUNT)
    return None if header is None else header.decode("latin-1")


def read_object_name(headers: Mapping[bytes, bytes]) -> str:
    """Return the header that names the object a call is made for, or an empty string.

    Raises:
        SerializationError: It isn't ASCII text of at most 253 characters.
    """
    header = headers.get(_OBJECT_NAME)
    if header is None:
        return ""
    if len(header) > _MAX_OBJECT_NAME or not header.isascii():
        raise SerializationError(f"The header {HEADER_OBJECT_NAME} is not valid.")
    return header.decode()


def parse_bearer(header: bytes) -> bytes:
    """Return the token of an Authorization header.

    Raises:
        UnrecognizedClientError: Another scheme, or no token.
    """
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip():
        raise UnrecognizedClientError
    return token.strip()
