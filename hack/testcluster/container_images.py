"""Stub."""
from testcluster.layout import ClusterLayout

def ensure_pause() -> None:
    """Stub."""

def load_pause(layout: ClusterLayout) -> None:
    """Stub."""
