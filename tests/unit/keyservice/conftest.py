"""Fixtures of the key service's unit tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_api_fake import FakeClusterApi
from keyservice_rig import DispatchRig, Rig


@pytest.fixture
def rig() -> Rig:
    """Return the operations on a memory store."""
    return Rig()


@pytest.fixture
def api() -> FakeClusterApi:
    """Return an empty cluster."""
    return FakeClusterApi()


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    """Return where `dispatch_rig` writes its audit records."""
    return tmp_path / "audit.jsonl"


@pytest.fixture
def dispatch_rig(audit_file: Path) -> Iterator[DispatchRig]:
    """Return the whole way of a request but for the socket."""
    fd = os.open(audit_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rig = DispatchRig(fd)
    yield rig
    rig.close()
    os.close(fd)
