"""Marks every test with its tier, which is its folder, and runs the cheap tiers first."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: Folder -> marker, in the order in which they run.
TIERS = {
    "unit": "unit",
    "layout": "unit",
    "property": "property",
    "control_plane": "control_plane",
    "node_e2e": "node_e2e",
}


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
    items.sort(key=lambda item: order.index(_tier(item)))
