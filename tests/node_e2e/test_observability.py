"""What an operator of the system sees: health, metrics, structured logs, audit records."""

import json
from typing import Any

import pytest

from deployment import SYSTEM_NAMESPACE, Cluster, wait_until
from system_pods import ready_pod, system_pods
from workloads import apply, build_request

FETCH = (
    "import sys, urllib.request\n"
    "print(urllib.request.urlopen('http://127.0.0.1:9443' + sys.argv[1]).read().decode())"
)
METRICS = {
    "controller": "datakeys_reconcile_seconds",
    "keyservice": "datakeys_keyservice_requests",
    "webhook": "datakeys_webhook_admissions",
}


def _fetch(cluster: Cluster, room: str, path: str) -> str:
    pod = ready_pod(cluster, room)
    return cluster.kubectl("exec", "-n", SYSTEM_NAMESPACE, pod, "--", "python3", "-c", FETCH, path)


@pytest.mark.parametrize("room", METRICS)
def test_health_and_readiness_answer(cluster: Cluster, room: str) -> None:
    """The probes' addresses answer 200 in every process."""
    _fetch(cluster, room, "/healthz")
    _fetch(cluster, room, "/readyz")


@pytest.mark.parametrize("room", METRICS)
def test_metrics_are_served_in_prometheus_format(cluster: Cluster, room: str) -> None:
    """Each process counts its own work."""
    text = _fetch(cluster, room, "/metrics")
    assert f"# TYPE {METRICS[room]}" in text


@pytest.mark.parametrize("room", METRICS)
def test_every_log_line_is_json(cluster: Cluster, room: str) -> None:
    """A log pipeline can parse all of it."""
    log = cluster.kubectl("logs", "-n", SYSTEM_NAMESPACE, ready_pod(cluster, room))
    lines = log.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.usefixtures("key")
def test_every_call_has_an_audit_record(cluster: Cluster, namespace: str) -> None:
    """The generation of a data key can be found by namespace and request in the audit stream."""
    apply(cluster, build_request(namespace, "audited"))
    cluster.wait("datakeyrequest/audited", "condition=Ready", namespace)
    pairs = {"datakeys.dev/namespace": namespace, "datakeys.dev/request": "audited"}

    def records() -> list[dict[str, Any]]:
        return [
            record
            for pod in system_pods(cluster, "keyservice")
            for record in _audit_records(cluster, pod["metadata"]["name"])
            if record.get("eventName") == "GenerateDataKeyWithoutPlaintext"
            and pairs.items() <= (record.get("encryptionContext") or {}).items()
        ]

    assert len(wait_until("the call is on record", 120, records)) == 1


def _audit_records(cluster: Cluster, pod: str) -> list[dict[str, Any]]:
    log = cluster.kubectl("logs", "-n", SYSTEM_NAMESPACE, pod)
    return [json.loads(line) for line in log.splitlines() if "eventName" in line]
