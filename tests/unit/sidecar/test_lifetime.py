"""The lifetime of a data key: its marks, its end, and that nothing brings it back."""

import mmap
import os
from pathlib import Path

import pytest

from datakeys.sidecar.delivery import Slot, _overwrite
from datakeys.sidecar.lifetime import OVER, read_mark, write_mark

PLAINTEXT = bytes(range(32))


def _publish(folder: Path, *, reads_once: bool) -> Slot:
    slot = Slot(str(folder), "orders", named=False, reads_once=reads_once)
    os.write(slot.open(), PLAINTEXT)
    assert slot.publish()
    return slot


def test_mark_is_found_again(memory_folder: Path) -> None:
    """A mark keeps its time to the millisecond and is replaced in one step; without one there is no end."""
    folder = str(memory_folder)
    assert read_mark(folder, "orders") is None
    write_mark(folder, "orders", 12.3456)
    assert read_mark(folder, "orders") == 12.345
    write_mark(folder, "orders", OVER)
    assert read_mark(folder, "orders") == OVER
    assert os.listdir(folder) == [".~orders"]  # noqa: PTH208


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "²"])
def test_mark_that_makes_no_sense_counts_as_over(memory_folder: Path, text: str) -> None:
    """The key stays away rather than live too long."""
    (memory_folder / ".~orders").symlink_to(text)
    assert read_mark(str(memory_folder), "orders") == OVER
    (memory_folder / ".~other").write_text("5")
    assert read_mark(str(memory_folder), "other") == OVER


def test_longest_name_has_a_mark(memory_folder: Path) -> None:
    """A name of 253 characters still fits into a file name of 255."""
    write_mark(str(memory_folder), "a" * 253, 1.0)
    assert read_mark(str(memory_folder), "a" * 253) == 1.0


def test_read_ends_a_key_that_may_be_read_once(memory_folder: Path) -> None:
    """After the first whole read the key is gone, and marked; any other key stays."""
    slot = _publish(memory_folder, reads_once=True)
    slot.note_read()
    assert (slot.gone, slot.ready, slot.fd) == (True, False, -1)
    assert read_mark(str(memory_folder), "orders") == OVER
    lasting = _publish(memory_folder, reads_once=False)
    lasting.note_read()
    assert (lasting.gone, lasting.ready) == (False, True)
    lasting.close()


def test_page_itself_is_overwritten(memory_folder: Path) -> None:
    """A process that has mapped the file before sees the page: the key is in it first, then zeros."""
    slot = _publish(memory_folder, reads_once=False)
    with mmap.mmap(slot.fd, len(PLAINTEXT), prot=mmap.PROT_READ) as page:
        assert page[:] == PLAINTEXT
        with pytest.MonkeyPatch.context() as patch:
            # The last step would take the page away from the file, and so from this mapping.
            truncate = os.ftruncate
            patch.setattr(os, "ftruncate", lambda fd, size: truncate(fd, size) if size else None)
            _overwrite(slot.fd)
        assert page[:] == bytes(32)
    slot.close()
