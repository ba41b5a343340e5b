"""The HTTP/1.1 that an AWS SDK speaks to the endpoint on loopback: heads in, answers out; pure.

Zone: heads only; bodies pass beside this module. Everything here is hostile input: any process of the pod can
connect. Source: RFC 9110, RFC 9112; AWS JSON 1.1 protocol.
"""

MAX_HEAD_BYTES = 16384
#: More than any KMS operation needs: a key policy of 32 KiB, escaped, or ten grant tokens of 8 KiB.
MAX_BODY_BYTES = 262144
HEALTH = "/healthz"
CONTENT_TYPE = "application/x-amz-json-1.1"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
INTERNAL = "KMSInternalException"
UNAVAILABLE = "KeyUnavailableException"

_TARGET_PREFIX = "TrentService."
_MAX_OPERATION_CHARACTERS = 64
_MAX_LENGTH_DIGITS = 9
_SINGLE = frozenset(("content-length", "expect", "host", "transfer-encoding", "x-amz-target"))
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOOPBACK_NAMES = frozenset(("127.0.0.1", "localhost"))
#: Their lists of errors have KeyUnavailableException. Source: service model kms 2014-11-01.
_WITH_KEY_UNAVAILABLE = frozenset(
    (
        "Decapsulate",
        "Decrypt",
        "DeriveSharedSecret",
        "Encapsulate",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "GetPublicKey",
        "ReEncrypt",
        "Sign",
        "Verify",
        "VerifyMac",
    )
)
_REASONS = {
    200: "OK",
    400: "Bad Request",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class RefusedRequest(Exception):  # noqa: N818 - an answer, not a failure of this process
    """The request isn't forwarded.

    Attributes:
        status: HTTP status of the answer.
        code: Error name for ``__type``.
        text: For ``message``: fixed, ASCII, nothing of the request is quoted.
    """

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.text = text


def _malformed(text: str, status: int = 400) -> RefusedRequest:
    return RefusedRequest(status, "MalformedHttpRequestException", text)


TOO_LARGE_HEAD = _malformed("the request line and headers are too large", 431)
TOO_SLOW = RefusedRequest(408, "RequestTimeoutException", "the request did not arrive in time")


class RequestHead:
    """What matters of a request's head."""

    __slots__ = ("expects_continue", "keeps_alive", "length", "line", "target")

    def __init__(self, line: tuple[str, str], fields: dict[str, str], *, keeps_alive: bool) -> None:
        self.line = line
        self.length = _parse_length(fields) if line != ("GET", HEALTH) else 0
        self.target = fields.get("x-amz-target", "")
        self.keeps_alive = keeps_alive
        self.expects_continue = "expect" in fields

    @property
    def is_health(self) -> bool:
        """Return whether the startup probe asks."""
        return self.line == ("GET", HEALTH)


def parse_head(head: bytes) -> RequestHead:
    """Parse a head without its empty line.

    Raises:
        RefusedRequest: Where the request ends can't be told for sure; the connection is of no further use.
    """
    try:
        request_line, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise _malformed("the head is not ASCII") from None
    words = request_line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not _TOKEN.issuperset(words[0]):  # noqa: PLR2004
        raise _malformed("the request line is not valid")
    fields = _parse_fields(lines)
    if fields.get("host", "").partition(":")[0].lower() not in _LOOPBACK_NAMES:
        # A name that was rebound to loopback stays another's name.
        raise _malformed("the Host header must be 127.0.0.1 or localhost", 421)
    if fields.get("expect", "100-continue").lower() != "100-continue":
        raise _malformed("only 100-continue may be expected", 417)
    options = [option.strip().lower() for option in fields.get("connection", "").split(",")]
    keeps_alive = words[2] == "HTTP/1.1" and "close" not in options
    return RequestHead((words[0], words[1]), fields, keeps_alive=keeps_alive)


def _parse_fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or not _TOKEN.issuperset(name) or any(c in value for c in "\r\n\0"):
            raise _malformed("a header is not valid")
        name = name.lower()
        if name in _SINGLE and name in fields:
            raise _malformed("a header that must be single is repeated")
        fields[name] = value.strip(" \t")
    return fields


def _parse_length(fields: dict[str, str]) -> int:
    if "transfer-encoding" in fields:
        if "content-length" in fields:
            raise _malformed("the body's length is ambiguous")
        raise _malformed("send the body with Content-Length, as every AWS SDK does", 411)
    if "content-length" not in fields:
        raise _malformed("Content-Length is missing", 411)
    text = fields["content-length"]
    if not (text.isdecimal() and text.isascii()):
        raise _malformed("Content-Length is not a number")
    if len(text) > _MAX_LENGTH_DIGITS or int(text) > MAX_BODY_BYTES:
        raise RefusedRequest(413, "RequestEntityTooLargeException", "the body is too large")
    return int(text)


def find_operation(head: RequestHead) -> str:
    """Return the KMS operation that a request names.

    Raises:
        RefusedRequest: It names none; the connection stays usable.
    """
    operation = head.target[len(_TARGET_PREFIX) :]
    if (
        head.line != ("POST", "/")
        or not head.target.startswith(_TARGET_PREFIX)
        or not 0 < len(operation) <= _MAX_OPERATION_CHARACTERS
        or not operation.isalnum()
    ):
        raise RefusedRequest(400, "UnknownOperationException", "The operation is not known.")
    return operation


def decide_unavailable_code(operation: str) -> str:
    """Return the retryable error (HTTP status 500) that stands in an operation's list of errors."""
    return UNAVAILABLE if operation in _WITH_KEY_UNAVAILABLE else INTERNAL


def build_answer(status: int, body: bytes, *, request_id: str, keeps_alive: bool) -> bytes:
    """Return an answer as it goes over the wire; ``request_id`` is printable ASCII or empty."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if request_id:
        lines.append(f"x-amzn-RequestId: {request_id}")
    if not keeps_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def build_error(code: str, text: str) -> bytes:
    """Return the body of a KMS error; code and text are fixed ASCII texts without quotes."""
    return f'{{"__type":"{code}","message":"{text}"}}'.encode("ascii")


def build_request_id(random: bytes) -> str:
    """Return an id in the form of a UUID, made of 16 random bytes."""
    digits = random.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
