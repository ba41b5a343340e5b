"""The startup probe: passes only when the app could read every data key and use the KMS endpoint.

Zone: opens the data keys but reads at most one byte of each and drops it; prints nothing.
"""

import os

from datakeys.sidecar.settings import DELIVERY_SOCKET, Settings, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_TIMEOUT_SECONDS = 2.0
_STATUS_BYTES = 12  # "HTTP/1.1 200"


def probe(settings: Settings) -> bool:
    """Return whether every data key can be read, and the endpoint has reached the key service."""
    if settings.endpoint_port and not _is_endpoint_ready(settings.endpoint_port):
        return False
    check = _is_served if settings.delivery == DELIVERY_SOCKET else _is_readable
    return all(check(settings, name) for name in settings.requests)


def probe_from_environment() -> int:
    """Return the exit status of the probe: 0 if every data key can be read."""
    try:
        return 0 if probe(read_settings(dict(os.environ))) else 1
    except (ValueError, OSError):
        return 1


def _is_readable(settings: Settings, name: str) -> bool:
    fd = os.open(f"{settings.keys_directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return len(os.read(fd, 1)) == 1
    finally:
        os.close(fd)


def _is_served(settings: Settings, name: str) -> bool:
    # Imported here: the probe of delivery by file starts faster without it.
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT_SECONDS)
        client.connect(settings.socket_path)
        return _is_answered(client, f"/v1/data-keys/{name}")


def _is_endpoint_ready(port: int) -> bool:
    import socket  # noqa: PLC0415

    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as client:
        return _is_answered(client, "/healthz")


def _is_answered(client: "socket.socket", path: str) -> bool:
    """Return whether a GET is answered with status 200."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    status = b""
    while len(status) < _STATUS_BYTES:
        chunk = client.recv(_STATUS_BYTES - len(status))
        if not chunk:
            return False
        status += chunk
    return status == b"HTTP/1.1 200"
