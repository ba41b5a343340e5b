"""Fixtures of the local mode's tests."""

from collections.abc import Iterator

import pytest

from local_mode import LocalProcess, Starter, running_processes


@pytest.fixture
def start_local() -> Iterator[Starter]:
    """Give a function that starts a local mode; all end with the test."""
    with running_processes() as starter:
        yield starter


@pytest.fixture(scope="module")
def shared_local() -> Iterator[LocalProcess]:
    """Give one local mode in memory to all tests of a module."""
    with running_processes() as starter:
        yield starter()
