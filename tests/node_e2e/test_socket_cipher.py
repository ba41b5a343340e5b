"""Apps in real pods encrypt and decrypt through their sidecar, and only pods with the same data key can."""

import base64
from pathlib import Path

import pytest

from deployment import Cluster
from streaming_aead_reference import decrypt
from workloads import apply, build_pod, build_request, build_service_account, read_over_socket

#: The client that the documentation gives to apps: Python's standard library only.
CLIENT = (
    (Path(__file__).parents[2] / "docs" / "socket-api.md").read_text().split("```python\n")[1].split("```")[0]
)
ROUND_TRIP = """
import hashlib, os
body = os.urandom(10_000_000)
pieces = lambda data: (data[start:start + 65536] for start in range(0, len(data), 65536))
ciphertext = b"".join(call("encrypt", "disk", pieces(body), "YQ=="))
plaintext = b"".join(call("decrypt", "disk", pieces(ciphertext), "YQ=="))
print(len(ciphertext), plaintext == body, body[:1000] in ciphertext)
"""
ENCRYPT = """
import base64
print(base64.b64encode(b"".join(call("encrypt", "disk", [b"from pod to pod"]))).decode())
"""
DECRYPT = """
import base64, sys
try:
    print(b"".join(call("decrypt", sys.argv[1], [base64.b64decode(sys.argv[2])])).decode())
except RuntimeError as error:
    print(error)
"""


def _run(cluster: Cluster, namespace: str, pod: str, script: str, *arguments: str) -> str:
    command = ["python3", "-c", CLIENT + script, *arguments]
    return cluster.kubectl("exec", "-n", namespace, pod, "-c", "app", "--", *command).strip()


def _apply_pods(cluster: Cluster, namespace: str, pods: dict[str, tuple[str, str]]) -> None:
    """Apply pods by name -> (request, ServiceAccount), and wait until their keys are there."""
    annotations = {"datakeys.dev/delivery": "socket"}
    for name, (request, account) in pods.items():
        pod = build_pod(namespace, name, requests=request, account=account, annotations=annotations)
        apply(cluster, pod)
    for name in pods:
        cluster.wait(f"pod/{name}", "condition=Ready", namespace)


@pytest.mark.usefixtures("key")
def test_app_encrypts_ten_megabytes_through_its_sidecar(cluster: Cluster, namespace: str) -> None:
    """Under Pod Security ``restricted``, with the documented client, within the container's memory limit."""
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk"))
    _apply_pods(cluster, namespace, {"consumer": ("disk", "app")})
    assert _run(cluster, namespace, "consumer", ROUND_TRIP) == "10000200 True False"
    status = cluster.get("pod", "consumer", "-n", namespace)["status"]
    assert [one["restartCount"] for one in status["initContainerStatuses"]] == [0]


@pytest.mark.usefixtures("key")
def test_only_pods_with_the_data_key_decrypt(cluster: Cluster, namespace: str) -> None:
    """A second pod of the account can; one of another account can't, neither with its own key nor by name."""
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_service_account(namespace, "other"),
        build_request(namespace, "disk"),
        build_request(namespace, "own", account="other"),
    )
    pods = {"first": ("disk", "app"), "second": ("disk", "app"), "stranger": ("own", "other")}
    _apply_pods(cluster, namespace, pods)
    ciphertext = _run(cluster, namespace, "first", ENCRYPT)
    status, key = read_over_socket(cluster, namespace, "first", "disk")
    assert status == 200
    assert decrypt(key, base64.b64decode(ciphertext)) == b"from pod to pod"
    assert _run(cluster, namespace, "second", DECRYPT, "disk", ciphertext) == "from pod to pod"
    assert "InvalidCiphertextException" in _run(cluster, namespace, "stranger", DECRYPT, "own", ciphertext)
    assert "NotFoundException" in _run(cluster, namespace, "stranger", DECRYPT, "disk", ciphertext)
