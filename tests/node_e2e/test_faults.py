"""Nothing is lost, whatever is killed."""

import json
import subprocess
import threading
import time

from crash import kill_containers
from deployment import SYSTEM_NAMESPACE, Cluster, run_testcluster, wait_for_rollout, wait_until
from workloads import APP_IMAGE, apply, build_key, build_pod, build_request, build_service_account

REQUESTS = 200
#: What is killed with SIGKILL, one after another, while the requests are being made.
VICTIMS = ["controller", "keyservice", "kube-apiserver", "controller", "keyservice"] * 2

# Runs in a pod of the requests' ServiceAccount: the only one that can tell whether a ciphertext decrypts.
AUDIT = """
import base64, hashlib, http.client, json, ssl
context = ssl.create_default_context(cafile="/trust/ca.crt")
token = open("/token/token").read().strip()
namespace, system = open("/ciphertexts/namespace").read(), open("/ciphertexts/system").read()
host = f"datakeys-keyservice.{system}.svc"
connection = http.client.HTTPSConnection(host, 443, context=context, timeout=30)
lengths, digests = set(), set()
for name, blob in json.load(open("/ciphertexts/blobs")).items():
    pairs = {"namespace": namespace, "request": name, "service-account": "app"}
    body = {"CiphertextBlob": blob, "EncryptionContext": {"datakeys.dev/" + k: v for k, v in pairs.items()}}
    connection.request("POST", "/", json.dumps(body), {
        "X-Amz-Target": "TrentService.Decrypt", "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "Bearer " + token})
    answer = connection.getresponse()
    payload = json.loads(answer.read())
    assert answer.status == 200, (name, answer.status, payload)
    plaintext = base64.b64decode(payload["Plaintext"])
    lengths.add(len(plaintext))
    digests.add(hashlib.sha256(plaintext).digest())
print(json.dumps({"lengths": sorted(lengths), "distinct": len(digests)}))
"""


def _kill(cluster: Cluster, victim: str) -> None:
    """End a component with SIGKILL; its supervisor brings it back."""
    if victim.startswith("kube-"):
        run_testcluster("restart", "--component", victim, "--name", cluster.name)
    else:
        wait_until("a victim runs", 300, lambda: _try_kill(cluster, victim), interval=1.0)


def _try_kill(cluster: Cluster, victim: str) -> bool:
    try:
        return kill_containers(cluster, SYSTEM_NAMESPACE, f"datakeys-{victim}") > 0
    except (LookupError, subprocess.CalledProcessError):
        return False


def _apply_patiently(cluster: Cluster, *manifests: dict[str, object]) -> None:
    """Apply as a GitOps tool does: again, until it is taken."""

    def attempt() -> bool:
        try:
            apply(cluster, *manifests)
        except subprocess.CalledProcessError:
            return False
        return True

    wait_until("the manifests are taken", 300, attempt, interval=1.0)


def _batches(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _kill_while_applying(
    cluster: Cluster, victim: str, requests: list[dict[str, object]], number: int
) -> None:
    """Kill after a part of the batch, another part each time."""
    applying = threading.Thread(target=_apply_patiently, args=(cluster, *requests))
    applying.start()
    time.sleep(0.1 * (1 + number))
    _kill(cluster, victim)
    applying.join()


def _statuses(cluster: Cluster, namespace: str) -> dict[str, dict[str, object]]:
    try:
        items = cluster.get("datakeyrequests", "-n", namespace)["items"]
    except subprocess.CalledProcessError:
        return {}
    return {item["metadata"]["name"]: item.get("status", {}) for item in items}


def _ready(statuses: dict[str, dict[str, object]]) -> int:
    conditions = [status.get("conditions", []) for status in statuses.values()]
    return sum(
        any(item["type"] == "Ready" and item["status"] == "True" for item in found)
        for found in conditions
        if isinstance(found, list)
    )


def _blobs(statuses: dict[str, dict[str, object]]) -> dict[str, str]:
    return {
        name: str(status["ciphertextBlob"]) for name, status in statuses.items() if "ciphertextBlob" in status
    }


def _audit(cluster: Cluster, namespace: str, blobs: dict[str, str]) -> dict[str, object]:
    data = {"blobs": json.dumps(blobs), "namespace": namespace, "system": SYSTEM_NAMESPACE, "audit.py": AUDIT}
    token = {"serviceAccountToken": {"audience": "keyservice.datakeys.dev", "path": "token"}}
    pod = build_pod(namespace, "auditor", command=["python3", "/ciphertexts/audit.py"])
    pod["spec"]["volumes"] = [
        {"name": "ciphertexts", "configMap": {"name": "ciphertexts"}},
        {"name": "trust", "configMap": {"name": "datakeys-trust-bundle"}},
        {"name": "token", "projected": {"sources": [token]}},
    ]
    pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in pod["spec"]["volumes"]
    ]
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ciphertexts", "namespace": namespace},
        "data": data,
    }
    apply(cluster, build_service_account(namespace, "app"), config_map, pod)
    assert pod["spec"]["containers"][0]["image"] == APP_IMAGE

    def finished() -> str:
        phase = cluster.kubectl(
            "get", "pod", "auditor", "-n", namespace, "-o", "jsonpath={.status.phase}", check=False
        )
        return phase if phase in {"Succeeded", "Failed"} else ""

    wait_until("the audit has ended", 600, finished)
    log = cluster.kubectl("logs", "-n", namespace, "auditor")
    report = json.loads(log.strip().splitlines()[-1])
    assert isinstance(report, dict)
    return report


def wait_recovered(cluster: Cluster) -> None:
    """Wait until all of the system's containers run: a killed one is started again after a while."""
    for room in ("controller", "keyservice", "webhook"):
        wait_for_rollout(cluster, f"deployment/datakeys-{room}", SYSTEM_NAMESPACE)


def test_killing_everything_while_requests_are_made_loses_nothing(cluster: Cluster, namespace: str) -> None:
    """Ten kills among 200 requests: all Ready, all with a Secret, all decrypt, no ciphertext ever changes."""
    apply(cluster, build_key(namespace, "main"))
    cluster.wait("kmskey/main", "condition=Ready", namespace)
    seen: dict[str, set[str]] = {}
    stop = threading.Event()

    def observe() -> None:
        while not stop.wait(1.0):
            for name, blob in _blobs(_statuses(cluster, namespace)).items():
                seen.setdefault(name, set()).add(blob)

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        names = [f"r{number:03d}" for number in range(REQUESTS)]
        batches = _batches(names, REQUESTS // len(VICTIMS))
        for number, (victim, batch) in enumerate(zip(VICTIMS, batches, strict=True)):
            _kill_while_applying(cluster, victim, [build_request(namespace, name) for name in batch], number)
        wait_until(
            "all are Ready", 900, lambda: _ready(_statuses(cluster, namespace)) == REQUESTS, interval=2.0
        )
    finally:
        stop.set()
        observer.join()
    statuses = _statuses(cluster, namespace)
    blobs = _blobs(statuses)
    secrets = cluster.get("secrets", "-n", namespace, "-l", "datakeys.dev/request")["items"]
    assert {item["metadata"]["name"]: item["data"]["ciphertextBlob"] for item in secrets} == blobs
    assert len(blobs) == REQUESTS
    assert all(versions == {blobs[name]} for name, versions in seen.items())
    wait_recovered(cluster)
    report = _audit(cluster, namespace, blobs)
    assert report == {"lengths": [32], "distinct": REQUESTS}


def test_the_standby_controller_takes_over(cluster: Cluster, namespace: str, key: str) -> None:
    """The leader is killed; a request made right then is served."""

    def leader() -> str:
        return cluster.kubectl(
            "get",
            "lease",
            "datakeys-controller",
            "-n",
            SYSTEM_NAMESPACE,
            "-o",
            "jsonpath={.spec.holderIdentity}",
        )

    wait_recovered(cluster)
    before = wait_until("there is a leader", 180, leader)
    pods = cluster.get("pods", "-n", SYSTEM_NAMESPACE)["items"]
    [name] = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"] in before]
    kill_containers(cluster, SYSTEM_NAMESPACE, name)
    apply(cluster, build_request(namespace, "disk", key=key))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
