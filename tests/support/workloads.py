"""Builders of the objects that the cluster tests apply, and small questions about them."""

import json
from typing import Any

from deployment import Cluster, wait_until

APP_IMAGE = "datakeys-example-app:dev"
APP_UID = 10001
GROUP = "datakeys.dev/v1alpha1"
Manifest = dict[str, Any]


def apply(cluster: Cluster, *manifests: Manifest) -> None:
    """Apply manifests with kubectl, all in one call."""
    cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))


def build_namespace(name: str, level: str = "restricted") -> Manifest:
    """Return a namespace in which a Pod Security level is enforced."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def build_key(namespace: str, name: str, **spec: Any) -> Manifest:
    """Return a KmsKey."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": GROUP, "kind": "KmsKey", "metadata": metadata, "spec": spec}


def build_request(
    namespace: str, name: str, *, key: str = "main", account: str = "app", **spec: Any
) -> Manifest:
    """Return a DataKeyRequest for a 256-bit data key."""
    body = {"keyRef": {"name": key}, "serviceAccountName": account, **spec}
    if "keyId" in body:
        del body["keyRef"]
    if "numberOfBytes" not in body:
        body.setdefault("keySpec", "AES_256")
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": GROUP, "kind": "DataKeyRequest", "metadata": metadata, "spec": body}


def build_alias(namespace: str, name: str, key: str) -> Manifest:
    """Return a KmsAlias: ``alias/<name>``."""
    metadata, spec = {"name": name, "namespace": namespace}, {"targetKeyRef": {"name": key}}
    return {"apiVersion": GROUP, "kind": "KmsAlias", "metadata": metadata, "spec": spec}


def build_bindings(namespace: str, account: str, *roles: str) -> list[Manifest]:
    """Return RoleBindings of a ServiceAccount to the chart's ClusterRoles."""
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{account}-{role}", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }
        for role in roles
    ]


def build_service_account(namespace: str, name: str) -> Manifest:
    """Return a ServiceAccount."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def build_pod(
    namespace: str,
    name: str,
    *,
    requests: str = "",
    account: str = "app",
    command: list[str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    """Return a pod under Pod Security ``restricted``; with ``requests`` it asks for injection."""
    metadata: Manifest = {"name": name, "namespace": namespace, "annotations": dict(annotations or {})}
    if requests:
        metadata["labels"] = {"datakeys.dev/inject": "true"}
        metadata["annotations"]["datakeys.dev/requests"] = requests
    container = {
        "name": "app",
        "image": APP_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command or ["python3", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    body = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": APP_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def status_of(cluster: Cluster, kind: str, name: str, namespace: str) -> Manifest:
    """Return an object's status, empty if there is none."""
    status = cluster.get(kind, name, "-n", namespace).get("status", {})
    assert isinstance(status, dict)
    return status


def ready_condition(cluster: Cluster, kind: str, name: str, namespace: str) -> Manifest:
    """Return the condition Ready of an object, empty if there is none."""
    conditions = status_of(cluster, kind, name, namespace).get("conditions", [])
    return next((item for item in conditions if item["type"] == "Ready"), {})


def wait_reason(
    cluster: Cluster, kind: str, name: str, namespace: str, reason: str, seconds: int = 180
) -> Manifest:
    """Wait until the condition Ready has a reason; gives the condition."""

    def probe() -> Manifest | None:
        found = ready_condition(cluster, kind, name, namespace)
        return found if found.get("reason") == reason else None

    condition = wait_until(f"{kind}/{name} has reason {reason}", seconds, probe)
    assert isinstance(condition, dict)
    return condition


def sidecar_log(cluster: Cluster, namespace: str, pod: str) -> str:
    """Return the log of the injected sidecar, or the text of the error if there is none yet."""
    return cluster.kubectl("logs", "-n", namespace, pod, "-c", "datakeys-sidecar", check=False)


def read_over_socket(cluster: Cluster, namespace: str, pod: str, name: str) -> tuple[int, bytes]:
    """Ask the sidecar for a data key from within the app's container; gives HTTP status and body."""
    script = (
        "import socket\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect('/var/run/datakeys/keys/datakeys.sock')\n"
        f"s.sendall(b'GET /v1/data-keys/{name} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "head, body = b''.join(iter(lambda: s.recv(4096), b'')).split(b'\\r\\n\\r\\n', 1)\n"
        "print(head.split()[1].decode(), body.hex())\n"
    )
    answer = cluster.kubectl("exec", "-n", namespace, pod, "-c", "app", "--", "python3", "-c", script)
    status, _, body = answer.strip().partition(" ")
    return int(status), bytes.fromhex(body)
