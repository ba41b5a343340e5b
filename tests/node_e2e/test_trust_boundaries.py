"""What each process can and can't do, tried from inside the running processes."""

import json

import pytest

from deployment import SYSTEM_NAMESPACE, Cluster, wait_until
from system_pods import ready_pod
from workloads import apply, build_pod, build_request, build_service_account, status_of

# Runs inside the controller's container, with the controller's own token and trust bundle.
CALL_KEY_SERVICE = """
import http.client, json, os, ssl, sys, urllib.parse
operation, body, account = sys.argv[1], sys.argv[2], sys.argv[3]
url = urllib.parse.urlsplit(os.environ["DATAKEYS_KEYSERVICE_URL"])
context = ssl.create_default_context(cafile=os.environ["DATAKEYS_KEYSERVICE_CA_FILE"])
connection = http.client.HTTPSConnection(url.hostname, url.port or 443, context=context, timeout=20)
headers = {
    "X-Amz-Target": "TrentService." + operation,
    "Content-Type": "application/x-amz-json-1.1",
    "X-Datakeys-Account": account,
}
if os.path.exists(os.environ["DATAKEYS_TOKEN_FILE"]) and sys.argv[4:] != ["anonymous"]:
    headers["Authorization"] = "Bearer " + open(os.environ["DATAKEYS_TOKEN_FILE"]).read().strip()
connection.request("POST", "/", body, headers)
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "body": json.loads(answer.read() or b"{}")}))
"""


def _call(
    cluster: Cluster, operation: str, body: object, account: str, *more: str
) -> tuple[int, str, object]:
    answer = cluster.kubectl(
        "exec", "-n", SYSTEM_NAMESPACE, ready_pod(cluster, "controller"), "--",
        "python3", "-c", CALL_KEY_SERVICE, operation, json.dumps(body), account, *more,
    )  # fmt: skip
    parsed = json.loads(answer.strip().splitlines()[-1])
    return parsed["status"], parsed["body"].get("__type", ""), parsed["body"]


@pytest.mark.usefixtures("key")
def test_the_controller_can_not_decrypt(cluster: Cluster, namespace: str) -> None:
    """With its own token it gets AccessDenied for Decrypt, with and without the right context."""
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    blob = status_of(cluster, "datakeyrequest", "disk", namespace)["ciphertextBlob"]
    context = {
        "datakeys.dev/namespace": namespace,
        "datakeys.dev/request": "disk",
        "datakeys.dev/service-account": "app",
    }
    for body in ({"CiphertextBlob": blob}, {"CiphertextBlob": blob, "EncryptionContext": context}):
        status, code, answer = _call(cluster, "Decrypt", body, namespace)
        assert (status, code) == (400, "AccessDeniedException")
        assert "Plaintext" not in str(answer)


@pytest.mark.parametrize(
    ("operation", "extra"), [("GenerateDataKey", {"KeySpec": "AES_256"}), ("Encrypt", {"Plaintext": "AAAA"})]
)
def test_the_controller_can_not_get_or_choose_plaintext(
    cluster: Cluster, namespace: str, key: str, operation: str, extra: dict[str, str]
) -> None:
    """Only the operation that returns no plaintext is open to it."""
    body = {"KeyId": status_of(cluster, "kmskey", key, namespace)["arn"], **extra}
    status, code, answer = _call(cluster, operation, body, namespace)
    assert (status, code) == (400, "AccessDeniedException")
    assert "Plaintext" not in str(answer)


def test_a_caller_without_a_token_is_refused(cluster: Cluster, namespace: str) -> None:
    """The network alone gives nothing."""
    status, code, _ = _call(cluster, "DescribeKey", {"KeyId": "alias/x"}, namespace, "anonymous")
    assert (status, code) == (400, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    ("verb", "resource", "scope"),
    [
        ("get", "secrets/datakeys-root-key", ["-n", SYSTEM_NAMESPACE]),
        ("list", "secrets", ["-n", SYSTEM_NAMESPACE]),
        ("watch", "secrets", ["-n", SYSTEM_NAMESPACE]),
        ("list", "secrets", ["-A"]),
        ("create", "pods", ["-A"]),
        ("create", "serviceaccounts/token", ["-A"]),
    ],
)
@pytest.mark.parametrize("account", ["datakeys-controller", "datakeys-webhook"])
def test_only_the_key_service_can_read_the_sealed_records(
    cluster: Cluster, verb: str, resource: str, scope: list[str], account: str
) -> None:
    """No other ServiceAccount of the chart reads Secrets there, or could become somebody else."""
    user = f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:{account}"
    answer = cluster.kubectl("auth", "can-i", verb, resource, *scope, user, check=False)
    assert answer.strip().splitlines()[-1].startswith("no")


@pytest.mark.parametrize("room", ["controller", "webhook"])
@pytest.mark.parametrize("module", ["datakeys.keyservice", "datakeys.sidecar", "cryptography"])
def test_images_hold_no_code_of_other_rooms(cluster: Cluster, room: str, module: str) -> None:
    """What isn't in the image can't be abused."""
    code = f"import importlib.util; print(importlib.util.find_spec({module!r}))"
    pod = ready_pod(cluster, room)
    assert cluster.kubectl("exec", "-n", SYSTEM_NAMESPACE, pod, "--", "python3", "-c", code).strip() == "None"


@pytest.mark.usefixtures("key")
def test_the_sidecar_image_holds_the_standard_library_only(cluster: Cluster, namespace: str) -> None:
    """No package index, no key service, no third-party module beside the app."""
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_request(namespace, "disk"),
        build_pod(namespace, "consumer", requests="disk"),
    )
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    code = (
        "import importlib.util as u\n"
        "print([m for m in ('datakeys.keyservice', 'datakeys.controller', 'datakeys.webhook', 'cryptography',"
        " 'kubernetes', 'aiohttp', 'kopf') if u.find_spec(m)])"
    )
    answer = cluster.kubectl(
        "exec", "-n", namespace, "consumer", "-c", "datakeys-sidecar", "--", "python3", "-c", code
    )
    assert answer.strip() == "[]"


def test_own_pods_run_under_pod_security_restricted(cluster: Cluster) -> None:
    """The system namespace enforces it, and all pods run there."""
    namespace = cluster.get("namespace", SYSTEM_NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

    def running() -> int:
        pods = cluster.get("pods", "-n", SYSTEM_NAMESPACE)["items"]
        return len([pod for pod in pods if pod["status"]["phase"] == "Running"])

    wait_until("all run", 180, lambda: running() >= 6)
