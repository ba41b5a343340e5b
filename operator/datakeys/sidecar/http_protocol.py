"""The tiny HTTP/1.1 that apps speak over the Unix socket; pure. Zone: no secrets: heads only, never bodies.

One request per connection. Source: RFC 9110 and RFC 9112.
"""

MAX_HEAD_BYTES = 4096
PREFIX = "/v1/data-keys/"
HEALTH = "/healthz"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    503: "Service Unavailable",
}
_METHOD_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def is_complete(head: bytes) -> bool:
    """Return whether the head of a request is all there."""
    return b"\r\n\r\n" in head


def parse_head(head: bytes) -> tuple[int, str]:
    """Return (200, path) of a GET without a body, or the error status and an empty path."""
    try:
        request_line, *fields = head.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return 400, ""
    words = request_line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):  # noqa: PLR2004
        return 400, ""
    method, path, _ = words
    if not method or not _METHOD_CHARACTERS.issuperset(method) or not path.startswith("/"):
        return 400, ""
    if method != "GET":
        return 405, ""
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip():
            return 400, ""
        if name.lower() == "transfer-encoding" or (name.lower() == "content-length" and value.strip() != "0"):
            return 400, ""
    return 200, path


def decide_target(path: str, ready: dict[str, bool]) -> tuple[int, str]:
    """Return (status, name of the data key to send or ""); ``ready`` says of each name if it is delivered."""
    if path == HEALTH:
        return (200 if all(ready.values()) else 503), ""
    name = path[len(PREFIX) :] if path.startswith(PREFIX) else ""
    if name not in ready:
        return 404, ""
    return (200, name) if ready[name] else (503, "")


def build_head(status: int, length: int) -> bytes:
    """Return the head of a response with ``length`` bytes of body."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status == 405:  # noqa: PLR2004
        lines.append("Allow: GET")
    if status == 503:  # noqa: PLR2004
        lines.append("Retry-After: 1")
    return "\r\n".join([*lines, "", ""]).encode()
