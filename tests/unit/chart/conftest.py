"""The chart as an installation with default values renders it."""

import pytest

from chart_rendering import Manifest, render


@pytest.fixture(scope="session")
def manifests() -> list[Manifest]:
    """Return all objects of the default installation; tests must not change them."""
    return render()
