"""A key service in local mode, as a developer starts it, shared by all tests of a module."""

from collections.abc import Iterator
from typing import Any

import pytest

from kms_endpoint import LocalKms, RawConnection


@pytest.fixture(scope="module")
def local_kms() -> Iterator[LocalKms]:
    """Return the running process."""
    with LocalKms() as running:
        yield running


@pytest.fixture(scope="module")
def client(local_kms: LocalKms) -> Iterator[Any]:
    """Return an ordinary boto3 client."""
    made = local_kms.client()
    yield made
    made.close()


@pytest.fixture(scope="module")
def raw(local_kms: LocalKms) -> Iterator[RawConnection]:
    """Return a connection that sends anything."""
    connection = local_kms.connect()
    yield connection
    connection.close()
