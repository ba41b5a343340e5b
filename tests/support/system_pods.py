"""Pods of the system namespace."""

from typing import Any

from deployment import SYSTEM_NAMESPACE, Cluster, wait_until


def system_pods(cluster: Cluster, room: str) -> list[dict[str, Any]]:
    """Return the pods of a room."""
    found = cluster.get("pods", "-n", SYSTEM_NAMESPACE, "-l", f"app.kubernetes.io/component={room}")["items"]
    assert isinstance(found, list)
    return found


def ready_pod(cluster: Cluster, room: str) -> str:
    """Return a Ready pod of a room; after the fault tests one may still be starting again."""

    def ready() -> str:
        return min(
            (pod["metadata"]["name"] for pod in system_pods(cluster, room) if _is_ready(pod)), default=""
        )

    return str(wait_until(f"a pod of {room} is Ready", 300, ready))


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
