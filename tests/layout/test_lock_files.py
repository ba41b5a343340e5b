"""What is shipped is what is tested."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("room", ["controller", "webhook", "keyservice"])
def test_each_room_ships_the_versions_that_the_tests_run_with(room: str) -> None:
    """A room's lock file is a part of the developers' lock file."""
    assert _pins(REQUIREMENTS / f"{room}.lock").items() <= _pins(REQUIREMENTS / "dev.lock").items()


@pytest.mark.parametrize("lock", sorted(REQUIREMENTS.glob("*.lock")), ids=lambda path: path.name)
def test_lock_files_pin_hashes_and_name_no_index(lock: Path) -> None:
    """Every package has a hash, and a mirror gives the same files."""
    text = lock.read_text()
    assert len(_pins(lock)) == len(re.findall(r"==[^\n]*\\\n    --hash=sha256:", text))
    assert "://" not in text
