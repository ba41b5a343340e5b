"""The tiny HTTP/1.1 that apps speak over the Unix socket; pure. Zone: no secrets: heads only, never bodies.

One request per connection. A POST is the cipher process's: see ``cipher_messages``.
Source: RFC 9110 and RFC 9112.
"""

MAX_HEAD_BYTES = 4096
PREFIX = "/v1/data-keys/"
HEALTH = "/healthz"
#: What a request begins with that is handed on: nothing behind it is read here.
POST = b"POST "
_CIPHER_PATHS = ("/encrypt", "/decrypt")

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    410: "Gone",
    503: "Service Unavailable",
}
_METHOD_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def is_complete(head: bytes) -> bool:
    """Return whether the head of a request is all there."""
    return b"\r\n\r\n" in head


def split_request_line(line: str) -> list[str]:
    """Return method, path and version, or nothing if the line is malformed."""
    words = line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):  # noqa: PLR2004
        return []
    if not words[0] or not _METHOD_CHARACTERS.issuperset(words[0]) or not words[1].startswith("/"):
        return []
    return words


def parse_fields(lines: list[str]) -> list[tuple[str, str]] | None:
    """Return the headers with their names in lower case, or None if one is malformed."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return None
        fields.append((name.lower(), value.strip()))
    return fields


def parse_head(head: bytes) -> tuple[int, str]:
    """Return (200, path) of a GET without a body, or the error status and the path if there is one."""
    try:
        request_line, *lines = head.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return 400, ""
    words = split_request_line(request_line)
    if not words:
        return 400, ""
    if words[0] != "GET":
        return 405, words[1]
    fields = parse_fields(lines)
    if fields is None:
        return 400, ""
    for name, value in fields:
        if name == "transfer-encoding" or (name == "content-length" and value != "0"):
            return 400, ""
    return 200, words[1]


def decide_target(path: str, states: dict[str, int]) -> tuple[int, str]:
    """Return (status, name of the data key to send or "").

    Args:
        path: Of a GET.
        states: Name -> 200 if the data key is delivered, 503 if not yet, 410 if its lifetime is over.
    """
    if path == HEALTH:
        return (503 if 503 in states.values() else 200), ""  # noqa: PLR2004
    if decide_allowed(path) == "POST":
        return 405, ""
    name = path[len(PREFIX) :] if path.startswith(PREFIX) else ""
    status = states.get(name, 404)
    return status, (name if status == 200 else "")  # noqa: PLR2004


def decide_allowed(path: str) -> str:
    """Return the method that a path is for."""
    return "POST" if path.startswith(PREFIX) and path.endswith(_CIPHER_PATHS) else "GET"


def build_head(status: int, length: int, allowed: str = "GET") -> bytes:
    """Return the head of a response with ``length`` bytes of body; ``allowed`` is told with status 405."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status == 405:  # noqa: PLR2004
        lines.append(f"Allow: {allowed}")
    if status == 503:  # noqa: PLR2004
        lines.append("Retry-After: 1")
    return "\r\n".join([*lines, "", ""]).encode()
