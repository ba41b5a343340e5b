"""The startup probe: passes only when every data key was delivered and the KMS endpoint can be used.

A data key whose lifetime is over was delivered: without this a pod with a short one might never start.
What it prints when it fails the kubelet puts into the pod's Events, where people look first.
Zone: no secrets: looks at names, modes and sizes; a look must not count as the one read of a data key.
"""

import os
import stat

from datakeys.sidecar.lifetime import read_boot_clock, read_mark
from datakeys.sidecar.settings import DELIVERY_SOCKET, Settings, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_TIMEOUT_SECONDS = 2.0
_STATUS_BYTES = 12  # "HTTP/1.1 200"


def probe(settings: Settings) -> bool:
    """Return whether every data key was delivered, and the endpoint has reached the key service."""
    if settings.endpoint_port and not _is_endpoint_ready(settings.endpoint_port):
        return False
    if settings.requests and settings.delivery == DELIVERY_SOCKET:
        return _is_served(settings.socket_path)
    return all(_is_delivered(settings, name) for name in settings.requests)


def explain(settings: Settings) -> list[str]:
    """Return what a failed probe waits for, with the next step: a line per data key that isn't delivered."""
    # Imported here: a probe that passes does without them.
    from datakeys.sidecar.advice import advise  # noqa: PLC0415
    from datakeys.sidecar.hints import read_hint  # noqa: PLC0415

    codes = {name: read_hint(settings.keys_directory, name) for name in settings.requests}
    lines = [f"{name}: {code}: {advise(code)}" for name, code in codes.items() if code]
    if settings.endpoint_port and not lines:
        lines.append("the KMS endpoint has not reached the key service yet")
    return lines or ["not delivered yet, as is usual in the first second"]


def probe_from_environment() -> int:
    """Return the exit status of the probe: 0 if every data key was delivered; else print why not."""
    try:
        settings = read_settings(dict(os.environ))
        lines = [] if _passes(settings) else explain(settings)
    except ValueError as error:
        lines = [str(error)]
    if lines:
        os.write(1, "\n".join(lines).encode() + b"\n")
    return 1 if lines else 0


def _passes(settings: Settings) -> bool:
    try:
        return probe(settings)
    except OSError:
        return False


def _is_delivered(settings: Settings, name: str) -> bool:
    path = f"{settings.keys_directory}/{name}"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        end = read_mark(settings.keys_directory, name)
        return end is not None and end <= read_boot_clock()
    return stat.S_ISREG(found.st_mode) and found.st_size > 0 and os.access(path, os.R_OK)


def _is_served(socket_path: str) -> bool:
    # Imported here: the probe of delivery by file starts faster without it.
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT_SECONDS)
        client.connect(socket_path)
        return _is_answered(client, "/healthz")


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
