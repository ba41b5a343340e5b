"""What the plugin's tests share."""

from pathlib import Path

import pytest

from kubectl_objects import FakeKubectl


@pytest.fixture
def kubectl(tmp_path: Path) -> FakeKubectl:
    """Return a kubectl that answers from a folder."""
    return FakeKubectl(tmp_path)
