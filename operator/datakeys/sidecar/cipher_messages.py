"""The HTTP/1.1 of encrypt and decrypt over the Unix socket: heads in, heads and problems out; pure.

Zone: heads only; bodies pass beside this module, and nothing of a request is quoted in an answer.
Source: RFC 9110, RFC 9112; RFC 9457 for problems, with the member ``name``.
"""

import binascii

from datakeys.sidecar.cipher_slots import DECRYPT, ENCRYPT
from datakeys.sidecar.http_protocol import PREFIX, parse_fields, split_request_line

MAX_HEAD_BYTES = 8192
MAX_ASSOCIATED_DATA_BYTES = 4096
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_ASSOCIATED_DATA = "datakeys-associated-data"
_MAX_LENGTH_DIGITS = 17
_MAX_CHUNK_DIGITS = 15
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
_SINGLE = ("content-length", "transfer-encoding", "expect", _ASSOCIATED_DATA)
_REASONS = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    413: "Content Too Large",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Problem(Exception):  # noqa: N818 - an answer, not a failure of this process
    """The request isn't done.

    Attributes:
        status: HTTP status of the answer.
        name: Error name.
        detail: What is wrong and the next step: fixed, printable ASCII without quotes.
    """

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(name)
        self.status = status
        self.name = name
        self.detail = detail


def malformed(detail: str, status: int = 400) -> Problem:
    """Return a problem with the form of the request."""
    return Problem(status, "MalformedHttpRequestException", detail)


def not_ready() -> Problem:
    """Return the problem of a data key that isn't delivered yet."""
    return Problem(503, "DataKeyNotReadyException", "a data key is not delivered yet: try again")


def unknown() -> Problem:
    """Return the problem of a name that no data key has."""
    return Problem(404, "NotFoundException", "the pod has no data key of this name: look at its annotations")


def gone() -> Problem:
    """Return the problem of a data key whose lifetime is over."""
    return Problem(
        410, "DataKeyGoneException", "the lifetime of the data key is over in this pod: start a new one"
    )


def beyond() -> Problem:
    """Return the problem of a pod with too many data keys."""
    return Problem(
        501, "TooManyDataKeysException", "the pod has too many data keys: encrypt with one of the first 250"
    )


def too_short() -> Problem:
    """Return the problem of a data key that AES-256 can't be derived from."""
    return Problem(
        409,
        "DataKeyTooShortException",
        "the data key has less than 32 bytes: make a DataKeyRequest with keySpec AES_256",
    )


def invalid_ciphertext() -> Problem:
    """Return the one problem of everything that can't be decrypted, whatever the cause."""
    return Problem(
        422,
        "InvalidCiphertextException",
        "the body can not be decrypted: compare data key, associated data and body with those of encrypt",
    )


def too_slow() -> Problem:
    """Return the problem of a client that stopped."""
    return Problem(
        408, "RequestTimeoutException", "nothing of the request came, or could be sent, for 30 seconds"
    )


def too_large() -> Problem:
    """Return the problem of a body with more than 2^32 segments."""
    return Problem(413, "RequestEntityTooLargeException", "the body is larger than 4 PiB: send it in parts")


def unusable() -> Problem:
    """Return the problem of a sidecar without AES."""
    return Problem(
        501,
        "CipherUnavailableException",
        "libcrypto of this image can not do AES-256-GCM: use the image of the project, or read the data key",
    )


class CipherRequest:
    """What matters of a request's head; ``length`` in bytes, None for a chunked body."""

    __slots__ = ("associated_data", "expects_continue", "length", "name", "operation")

    def __init__(self, operation: str, name: str, fields: dict[str, str]) -> None:
        self.operation = operation
        self.name = name
        self.length = _parse_length(fields)
        self.associated_data = _parse_associated_data(fields.get(_ASSOCIATED_DATA, ""))
        self.expects_continue = "expect" in fields


def parse_cipher_head(head: bytes) -> CipherRequest:
    """Parse the head of a POST, without its empty line.

    Raises:
        Problem: It isn't a request to encrypt or decrypt.
    """
    try:
        line, *rest = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise malformed("the head is not ASCII") from None
    words = split_request_line(line)
    pairs = parse_fields(rest)
    if not words or pairs is None:
        raise malformed("the request line or a header is not valid")
    if words[2] != "HTTP/1.1":
        raise malformed(
            "use HTTP/1.1: without chunks a broken answer could not be told from a whole one", 505
        )
    operation, name = decide_operation(words[1])
    fields = dict(pairs)
    if any(sum(name == key for name, _ in pairs) > 1 for key in _SINGLE):
        raise malformed("a header that must be single is repeated")
    if fields.get("expect", "100-continue").lower() != "100-continue":
        raise malformed("only 100-continue may be expected", 417)
    return CipherRequest(operation, name, fields)


def decide_operation(path: str) -> tuple[str, str]:
    """Return what is to be done and the name of the data key.

    Raises:
        Problem: The path is another.
    """
    stem, slash, operation = path.rpartition("/")
    name = stem[len(PREFIX) :]
    if stem.startswith(PREFIX) and operation in (ENCRYPT, DECRYPT) and "/" not in name:
        if operation == ENCRYPT and "@" in name:
            raise malformed("encrypt uses the current version: leave out @ and the number")
        return operation, name
    if slash and (stem + slash) == PREFIX:
        raise Problem(
            405,
            "MethodNotAllowedException",
            "read a data key with GET, or add /encrypt or /decrypt to the path",
        )
    raise Problem(
        404, "NotFoundException", "the paths are /v1/data-keys/NAME/encrypt and /v1/data-keys/NAME/decrypt"
    )


def _parse_length(fields: dict[str, str]) -> int | None:
    coding, text = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is not None:
        if text is not None:
            raise malformed("the length of the body is ambiguous: Content-Length or chunks, not both")
        if coding.lower() != "chunked":
            raise malformed("the only transfer coding is chunked", 501)
        return None
    if text is None:
        raise malformed("send the body with Content-Length or in chunks", 411)
    if not (text.isascii() and text.isdecimal()):
        raise malformed("Content-Length is not a number")
    if len(text) > _MAX_LENGTH_DIGITS:
        raise too_large()
    return int(text)


def _parse_associated_data(text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise malformed("Datakeys-Associated-Data is not base64") from None
    if len(data) > MAX_ASSOCIATED_DATA_BYTES:
        raise malformed("Datakeys-Associated-Data has more than 4096 bytes", 431)
    return data


def parse_chunk_size(line: bytes) -> int:
    """Return the size in the first line of a chunk, in bytes; extensions are ignored.

    Raises:
        Problem: There is none.
    """
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not 0 < len(digits) <= _MAX_CHUNK_DIGITS or not _HEXADECIMAL.issuperset(digits):
        raise malformed("the size of a chunk is not valid")
    return int(digits, 16)


def build_stream_head() -> bytes:
    """Return the head of a response that comes in chunks."""
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/octet-stream",
        "Transfer-Encoding: chunked",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def build_problem(problem: Problem) -> bytes:
    """Return the whole answer for a problem."""
    title = _REASONS[problem.status]
    pairs = {"title": title, "name": problem.name, "detail": problem.detail}
    members = [f'"status":{problem.status}', *(f'"{key}":"{text}"' for key, text in pairs.items())]
    body = "{" + ",".join(members) + "}\n"
    lines = [
        f"HTTP/1.1 {problem.status} {title}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if problem.status == 405:  # noqa: PLR2004
        lines.append("Allow: GET")
    if problem.status == 503:  # noqa: PLR2004
        lines.append("Retry-After: 1")
    return ("\r\n".join([*lines, "", ""]) + body).encode("ascii")
