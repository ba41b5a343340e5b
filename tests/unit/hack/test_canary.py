"""The canary finds key bytes in every form; a scan that can't find anything proves nothing."""

import base64
from pathlib import Path

import pytest

from canary import build_needles, scan_bytes, scan_file

KEY = bytes(range(200, 232))


@pytest.mark.parametrize(
    "leak",
    [
        KEY,
        KEY.hex().encode(),
        KEY.hex().upper().encode(),
        repr(KEY).encode(),
        str(list(KEY)).encode(),
        *[base64.b64encode(b"p" * pad + KEY + b"suffix") for pad in range(3)],
        *[base64.urlsafe_b64encode(b"p" * pad + KEY) for pad in range(3)],
    ],
)
def test_every_form_is_found(leak: bytes) -> None:
    """Raw, hex, Python text and base64 at any alignment give a finding."""
    assert scan_bytes("here", b"before " + leak + b" after", build_needles(KEY))


def test_other_bytes_are_not_found() -> None:
    """There is no false alarm."""
    assert not scan_bytes("here", bytes(range(255)) * 3, build_needles(bytes(32)[:16] + KEY[:16]))


def test_a_leak_across_two_reads_is_found(tmp_path: Path) -> None:
    """The pieces of a large file overlap."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * ((1 << 20) - 5) + KEY + b"x" * 100)
    assert scan_file(path, build_needles(KEY))


def test_short_keys_are_refused() -> None:
    """A canary of a few bytes would hit by chance."""
    with pytest.raises(ValueError, match="12 bytes"):
        build_needles(b"short")
