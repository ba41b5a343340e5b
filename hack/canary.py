"""Look for known key bytes where they must never be: raw, in hex, in base64.

Used by the demo and by the tests. It never prints what it looks for.
"""

import base64
import contextlib
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A place that holds the bytes, and in which form."""

    place: str
    form: str


def build_needles(key: bytes) -> dict[str, bytes]:
    """Return every form in which key bytes could have leaked.

    Base64 has three alignments: the letters change with the offset of the key within the encoded text. The
    letters at both ends depend on the neighbours and are left out.

    Args:
        key: At least 12 bytes, so that a hit can't be chance.

    Raises:
        ValueError: The key is too short to be looked for.
    """
    if len(key) < 12:  # noqa: PLR2004
        raise ValueError("a canary needs at least 12 bytes")
    needles = {
        "raw": key,
        "hex": key.hex().encode(),
        "HEX": key.hex().upper().encode(),
        "python repr": repr(key)[2:-1].encode(),
        "percent-encoded": urllib.parse.quote_from_bytes(key, safe="").encode(),
        "list of numbers": ", ".join(map(str, key)).encode(),
        "compact list of numbers": ",".join(map(str, key)).encode(),
    }
    for alignment in range(3):
        start = (3 - alignment) % 3
        whole = key[start : start + (len(key) - start) // 3 * 3]
        text = base64.b64encode(whole)
        needles[f"base64 at {alignment}"] = text
        needles[f"urlsafe base64 at {alignment}"] = text.translate(bytes.maketrans(b"+/", b"-_"))
    return needles


def scan_bytes(place: str, data: bytes, needles: dict[str, bytes]) -> list[Finding]:
    """Return what is found in one piece of data."""
    return [Finding(place, form) for form, needle in needles.items() if needle in data]


def scan_file(path: Path, needles: dict[str, bytes]) -> list[Finding]:
    """Return what is found in one file, read in overlapping pieces."""
    overlap = max(map(len, needles.values()))
    found: dict[str, Finding] = {}
    tail = b""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            data = tail + chunk
            found |= {item.form: item for item in scan_bytes(str(path), data, needles)}
            tail = data[-overlap:]
    return list(found.values())


def iter_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield every regular file below the folders."""
    for folder in folders:
        # Unlike rglob it goes on where a folder is removed meanwhile.
        for root, _, names in os.walk(folder):
            yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def scan_folders(folders: Iterable[Path], needles: dict[str, bytes]) -> tuple[int, list[Finding]]:
    """Return how many bytes were read below the folders, and what was found in them."""
    size = 0
    findings: list[Finding] = []
    for path in iter_files(folders):
        # A log goes with its pod, meanwhile too.
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
            findings += scan_file(path, needles)
    return size, findings
