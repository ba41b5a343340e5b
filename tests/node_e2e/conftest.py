"""One real cluster for the session, with the chart installed; pods really run."""

import os
import uuid
from collections.abc import Iterator

import pytest

from deployment import Cluster, install_chart, run_testcluster, start_cluster
from workloads import apply, build_key, build_namespace

NAME = os.environ.get("DATAKEYS_CLUSTER", "e2e")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start the cluster and install the chart; DATAKEYS_KEEP_CLUSTER=1 leaves it up to look at."""
    started = start_cluster(NAME)
    try:
        install_chart(started)
        yield started
    finally:
        if os.environ.get("DATAKEYS_KEEP_CLUSTER") != "1":
            run_testcluster("down", "--name", NAME)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """Make a namespace in which Pod Security ``restricted`` is enforced."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    apply(cluster, build_namespace(name))
    return name


@pytest.fixture
def key(cluster: Cluster, namespace: str) -> str:
    """Make a KmsKey and wait until it is Ready; gives its name."""
    apply(cluster, build_key(namespace, "main"))
    cluster.wait("kmskey/main", "condition=Ready", namespace)
    return "main"
