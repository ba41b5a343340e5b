"""Where things are kept: what is costly to make in the cache, what one cluster owns in the state."""

import os
import re
from pathlib import Path

from testcluster.progress import TestclusterError

PACKAGE = Path(__file__).resolve().parent
TREE = PACKAGE.parent.parent
GO_MODULES = PACKAGE / "gomod"
IMAGE_RECIPES = PACKAGE / "images"

_CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def cache_root() -> Path:
    """Folder of binaries and images, shared by all clusters and all working trees."""
    if chosen := os.environ.get("DATAKEYS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datakey-operator"


def state_root() -> Path:
    """Folder of running clusters; short, because socket paths below it must fit in 108 bytes."""
    return Path(os.environ.get("DATAKEYS_STATE") or "/var/tmp/datakeys-testcluster")  # noqa: S108 - checked below


def make_state_root() -> Path:
    """Make the state folder, and refuse one that another user has put there.

    Raises:
        TestclusterError: The folder belongs to someone else.
    """
    root = state_root()
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.geteuid():
        raise TestclusterError(f"{root} is not ours: set DATAKEYS_STATE to another folder")
    return root


def cluster_directory(name: str) -> Path:
    """State folder of one cluster.

    Raises:
        TestclusterError: The name would not do as part of a path and of a namespace's name.
    """
    if not _CLUSTER_NAME.fullmatch(name):
        raise TestclusterError(f"cluster name {name!r}: lower-case letters, digits and '-', at most 32")
    return state_root() / name
