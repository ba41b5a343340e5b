"""The sidecar of clusters without native ones, on a real kubelet: the app starts when its data key is there.

The webhook of this cluster makes native ones, so these are injected here, by its own pure function.
"""

from typing import Any

import jsonpatch
import pytest

from datakeys.webhook.patches import SidecarKind, SidecarSettings, build_injection
from deployment import SYSTEM_NAMESPACE, Cluster, wait_until
from workloads import apply, build_pod, build_request, build_service_account

#: Reads at the first try, without waiting for anything.
READ_SOCKET = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect('/var/run/datakeys/keys/datakeys.sock')
s.sendall(b'GET /v1/data-keys/disk HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
answer = b''.join(iter(lambda: s.recv(4096), b''))
print(answer.split()[1].decode(), len(answer.split(b'\\r\\n\\r\\n', 1)[1]))
"""
READ_FILE = "print(len(open('/var/run/datakeys/keys/disk', 'rb').read()))"
WAIT = "\nimport signal\nsignal.sigwait([signal.SIGTERM])"


def inject(cluster: Cluster, namespace: str, *, delivery: str, script: str, **spec: Any) -> dict[str, Any]:
    """Return a pod injected with an ordinary sidecar."""
    pod = build_pod(
        namespace,
        "consumer",
        requests="disk",
        command=["python3", "-uc", script],
        annotations={"datakeys.dev/delivery": delivery},
        **spec,
    )
    deployment = cluster.get("deployment", "datakeys-webhook", "-n", SYSTEM_NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value", "") for one in container["env"]}
    settings = SidecarSettings(
        image=variables["DATAKEYS_SIDECAR_IMAGE"],
        image_pull_policy=variables["DATAKEYS_SIDECAR_IMAGE_PULL_POLICY"],
        keyservice_url=variables["DATAKEYS_KEYSERVICE_URL"],
        region=variables["DATAKEYS_CLUSTER_NAME"],
        kind=SidecarKind.ORDINARY,
    )
    decision = build_injection(pod, {}, settings)
    assert decision.refusal is None
    patched: dict[str, Any] = jsonpatch.apply_patch(pod, list(decision.patch))
    return patched


@pytest.mark.usefixtures("key")
def test_app_beside_an_ordinary_sidecar_starts_with_its_data_key(cluster: Cluster, namespace: str) -> None:
    """The pod comes before its request: the app must not start meanwhile, and reads at its first try."""
    pod = inject(cluster, namespace, delivery="socket", script=READ_SOCKET + WAIT, restartPolicy="Always")
    assert [one["name"] for one in pod["spec"]["containers"]] == ["datakeys-sidecar", "app"]
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["datakeys-sidecar-start"]
    apply(cluster, build_service_account(namespace, "app"), pod)
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("pod/consumer", "condition=Ready", namespace)

    def read() -> str:
        return cluster.kubectl("logs", "-n", namespace, "consumer", "-c", "app").strip()

    assert wait_until("the app has read its data key", 180, read) == "200 32"
    statuses = cluster.get("pod", "consumer", "-n", namespace)["status"]["containerStatuses"]
    assert [one["restartCount"] for one in statuses] == [0, 0]


@pytest.mark.usefixtures("key")
def test_pod_that_runs_once_completes_without_native_sidecars(cluster: Cluster, namespace: str) -> None:
    """The key comes by an init container that is gone."""
    pod = inject(cluster, namespace, delivery="file", script=READ_FILE)
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk"), pod)
    cluster.wait("pod/consumer", "jsonpath={.status.phase}=Succeeded", namespace)
    assert cluster.kubectl("logs", "-n", namespace, "consumer", "-c", "app").strip() == "32"
