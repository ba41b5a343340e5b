"""What a pod asks for, whoever it belongs to."""

from typing import Any

import pytest

from datakeys.kubectl.explain.pod_wishes import read_wishes
from kubectl_objects import build_injected_pod


def pod(*, owner: tuple[str, str] | None = None, name: str = "db-1", **annotations: str) -> dict[str, Any]:
    """Return a pod that asks by annotation; without prefix, dashes as underscores."""
    body = build_injected_pod()
    named = {f"datakeys.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    body["metadata"] |= {"name": name, "annotations": named}
    if owner:
        body["metadata"]["ownerReferences"] = [
            {"kind": "Node", "name": "x"},
            {"kind": owner[0], "name": owner[1], "controller": True},
        ]
    return body


@pytest.mark.parametrize(
    ("body", "requests"),
    [
        (pod(requests="a, b,a"), ("a", "b")),
        (pod(key="main", workload="Deployment/orders"), ("orders.deployment",)),
        # The stamp says more than the owner, which here lives for one rollout only.
        (pod(key="main", workload="Deployment/orders", owner=("ReplicaSet", "x")), ("orders.deployment",)),
        (pod(key="main", owner=("DaemonSet", "agent")), ("agent.daemonset",)),
        (pod(key="main", owner=("StatefulSet", "db"), scope="pod"), ("db-1.statefulset",)),
        (pod(key="main", owner=("StatefulSet", "db"), requests="extra"), ("db.statefulset", "extra")),
        (pod(key="main"), ("db-1.pod",)),
        (pod(), ()),
    ],
)
def test_requests_of_a_pod(body: dict[str, Any], requests: tuple[str, ...]) -> None:
    """Those it names, and the one that the operator makes for its workload."""
    wishes = read_wishes(body)
    assert (wishes.requests, wishes.fault) == (requests, "")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (pod(key="main", workload="nonsense"), "datakeys.dev/workload"),
        (pod(key="main", owner=("StatefulSet", "db"), scope="pod", name="other"), "datakeys.dev/scope"),
        (pod(key="no/such form"), "datakeys.dev/key"),
        (pod(key="main", owner=("ReplicaSet", "x")), "ReplicaSet/x"),
    ],
)
def test_faults_name_the_annotation(body: dict[str, Any], fault: str) -> None:
    """As the webhook would refuse them."""
    assert fault in read_wishes(body).fault


def test_endpoint_alone_is_a_wish() -> None:
    """It needs no data key."""
    wishes = read_wishes(pod(aws_endpoint="true"))
    assert wishes.endpoint
    assert wishes.asks
    assert not read_wishes(pod(aws_endpoint="false")).asks
