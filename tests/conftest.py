"""Marks every test with its tier, which is its folder, and runs the cheap tiers first."""

import os
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
#: Folder -> marker, in the order in which they run.
TIERS = {
    "unit": "unit",
    "layout": "unit",
    "property": "property",
    "control_plane": "control_plane",
    "node_e2e": "node_e2e",
}
#: A slow answer of a busy machine is no defect.
_PATIENT: Final[dict[str, Any]] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("search", **_PATIENT)
#: What continuous integration takes: a red run is about the change, not about a new draw.
settings.register_profile("repeat", **_PATIENT, derandomize=True, print_blob=True)
settings.register_profile("deep", **_PATIENT, max_examples=3000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "search"))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder; a test outside the known folders is an error, so no tier can be forgotten."""
    order = list(TIERS)
    for item in items:
        tier = _tier(item)
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.nodeid} is in no tier: use one of {', '.join(TIERS)}")
        item.add_marker(TIERS[tier])
        if tier == "node_e2e":
            # The first one starts the cluster; the others wait as long as a slow machine may need.
            item.add_marker(pytest.mark.timeout(3600))
    items.sort(key=lambda item: order.index(_tier(item)))
