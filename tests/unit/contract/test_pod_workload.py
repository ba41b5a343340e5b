"""Which workload a pod belongs to, and when nobody can tell."""

from typing import Any

import pytest

from datakeys.contract.pod_workload import PodWorkloadError, find_controller, find_pod_workload
from datakeys.contract.workload import Workload

pytestmark = pytest.mark.unit


def build_metadata(
    *, stamp: str | None = None, owner: tuple[str, str] | None = None, **named: str
) -> dict[str, Any]:
    """Return a pod's metadata; somebody who doesn't control it comes before its owner."""
    metadata: dict[str, Any] = dict(named)
    if stamp is not None:
        metadata["annotations"] = {"datakeys.dev/workload": stamp}
    if owner:
        reference = {"kind": owner[0], "name": owner[1], "controller": True}
        metadata["ownerReferences"] = [{"kind": "Node", "name": "x"}, reference]
    return metadata


@pytest.mark.parametrize(
    ("metadata", "workload"),
    [
        (build_metadata(stamp="Deployment/orders", owner=("ReplicaSet", "orders-6d8f")), "Deployment/orders"),
        (build_metadata(stamp="Pod/batch", name="batch-x1"), "Pod/batch"),
        (build_metadata(owner=("DaemonSet", "agent"), generateName="agent-"), "DaemonSet/agent"),
        (build_metadata(owner=("Notebook", "n1"), name="n1-0"), "Notebook/n1"),
        (build_metadata(name="one-off"), "Pod/one-off"),
        (build_metadata(name="one-off", generateName=""), "Pod/one-off"),
        (build_metadata(generateName="import-"), "Pod/import"),
    ],
)
def test_stamp_counts_before_the_controller_and_that_before_the_pod_itself(
    metadata: dict[str, Any], workload: str
) -> None:
    """An owner without ``controller: true`` doesn't count."""
    assert find_pod_workload(metadata) == Workload.parse(workload)


def test_name_made_of_a_prefix_changes_nothing() -> None:
    """The controller sees the pod after the API server has named it, the webhook before."""
    before, after = (
        build_metadata(generateName="a.b-."),
        build_metadata(generateName="a.b-.", name="a.b-.x7f2k"),
    )
    assert find_pod_workload(before) == find_pod_workload(after) == Workload("Pod", "a.b")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            build_metadata(stamp="", name="p"),
            "datakeys.dev/workload: is not of the form Kind/name",
        ),
        (build_metadata(stamp="Pod/Bad Name", name="p"), "annotation datakeys.dev/workload: "),
        (build_metadata(owner=("ReplicaSet", "r")), "the pod's owner ReplicaSet/r lives only until"),
        (build_metadata(owner=("Node", "n")), "a static pod of Node/n, .* make it a DaemonSet"),
        (build_metadata(generateName="-"), "metadata.generateName: "),
        (build_metadata(), "metadata.generateName: .* give metadata.name"),
    ],
)
def test_pod_that_no_lasting_data_key_can_be_named_after(metadata: dict[str, Any], text: str) -> None:
    """The error names the field and the next step."""
    with pytest.raises(PodWorkloadError, match=text):
        find_pod_workload(metadata)


def test_controller_is_the_owner_that_says_so() -> None:
    """Most objects have none."""
    assert find_controller({"ownerReferences": None}) is None
    assert find_controller({"ownerReferences": [{"kind": "Node", "name": "x"}]}) is None
    found = find_controller(build_metadata(owner=("Job", "j")))
    assert found is not None
    assert found["name"] == "j"
