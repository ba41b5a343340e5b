"""Workloads of every kind with every delivery under every Pod Security level, and what their apps report.

Zone: tests. An app never prints its data key, only the key's SHA-256.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from deployment import Cluster, wait_until
from workloads import Manifest, build_pod

KINDS: Final = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
#: Kinds whose pods end by themselves.
FINITE: Final = ("Pod", "Job", "CronJob")
DELIVERIES: Final = ("file", "socket", "init", "aws-endpoint")
#: Much longer than a slow machine needs to end a pod.
GRACE_SECONDS: Final = 180
LABEL_CELL: Final = "matrix-cell"
#: The DataKeyRequest that all cells of a namespace ask for, the name of their own, the alias of the KMS key.
SHARED: Final = "shared"
OWN: Final = "data-key"
ALIAS: Final = "alias/main"

#: Prints one JSON object: the app's user, and of every data key the SHA-256 and the mode of its file.
REPORT: Final = """
import hashlib, json, os, signal, socket, sys, urllib.request
delivery, names, lasting = sys.argv[1], sys.argv[2].split(","), sys.argv[3] == "lasting"
root = "/var/run/datakeys/keys/"

def over_socket(name):
    client = socket.socket(socket.AF_UNIX)
    client.connect(root + "datakeys.sock")
    client.sendall(f"GET /v1/data-keys/{name} HTTP/1.1\\r\\n".encode())
    client.sendall(b"Host: x\\r\\nConnection: close\\r\\n\\r\\n")
    head, body = b"".join(iter(lambda: client.recv(4096), b"")).split(b"\\r\\n\\r\\n", 1)
    assert head.split()[1] == b"200", head
    return body

def ask(operation, **body):
    headers = {"X-Amz-Target": "TrentService." + operation, "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 any"}
    url = os.environ["AWS_ENDPOINT_URL_KMS"]
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=30))

found = {"uid": os.getuid(), "keys": {}, "modes": {}}
for name in names:
    if delivery == "aws-endpoint":
        made = ask("GenerateDataKey", KeyId=name, KeySpec="AES_256")
        opened = ask("Decrypt", CiphertextBlob=made["CiphertextBlob"])
        found["same"] = opened["Plaintext"] == made["Plaintext"]
        continue
    key = over_socket(name) if delivery == "socket" else open(root + name, "rb").read()
    found["keys"][name] = hashlib.sha256(key).hexdigest()
    if delivery != "socket":
        found["modes"][name] = oct(os.stat(root + name).st_mode & 0o777)
print(json.dumps(found), flush=True)
if lasting:
    signal.sigwait([signal.SIGTERM])
"""


@dataclass(frozen=True)
class Profile:
    """A Pod Security level, and a user that a pod of that level runs as."""

    level: str
    uid: int

    def build_security(self) -> tuple[Manifest, Manifest]:
        """Return the security contexts of pod and container: those that need the level, and no more."""
        if self.level == "restricted":
            container = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            seccomp = {"type": "RuntimeDefault"}
            return {"runAsUser": self.uid, "runAsNonRoot": True, "seccompProfile": seccomp}, container
        if self.level == "baseline":
            return {"runAsUser": self.uid}, {"capabilities": {"add": ["NET_BIND_SERVICE"]}}
        return {"runAsUser": self.uid}, {"privileged": True}


PROFILES: Final = (
    Profile("restricted", 10001),
    Profile("restricted", 1000660000),
    Profile("baseline", 10001),
    Profile("privileged", 0),
)


@dataclass(frozen=True)
class Cell:
    """One workload of the matrix."""

    kind: str
    delivery: str
    profile: Profile

    @property
    def name(self) -> str:
        """Return the workload's name."""
        return f"{self.kind.lower()}-{self.delivery}"

    @property
    def lasting(self) -> bool:
        """Return whether its pods go on until they are deleted."""
        return self.kind not in FINITE

    @property
    def pods(self) -> int:
        """Return how many pods it has."""
        return 2 if self.kind in ("Deployment", "StatefulSet") else 1

    def __str__(self) -> str:
        """Return the cell as a test's id."""
        return f"{self.kind}-{self.delivery}-{self.profile.level}-{self.profile.uid}"


def list_cells() -> list[Cell]:
    """Return all pairs of kind and delivery; every profile meets every kind and every delivery."""
    return [
        Cell(kind, delivery, PROFILES[(row + column) % len(PROFILES)])
        for row, kind in enumerate(KINDS)
        for column, delivery in enumerate(DELIVERIES)
    ]


def build_cell(namespace: str, cell: Cell) -> Manifest:
    """Return the workload of a cell: plain but for annotations on the workload itself.

    It asks for a data key of its own, and for that of the request ``shared``; with ``aws-endpoint`` for the
    use of the KMS key.
    """
    asked = {
        "datakeys.dev/key": ALIAS,
        "datakeys.dev/requests": SHARED,
        "datakeys.dev/delivery": cell.delivery,
    }
    names = f"{OWN},{SHARED}"
    if cell.delivery == "aws-endpoint":
        asked, names = {"datakeys.dev/aws-endpoint": "true"}, ALIAS
    command = ["python3", "-c", REPORT, cell.delivery, names, "lasting" if cell.lasting else "finite"]
    pod_security, container_security = cell.profile.build_security()
    pod = build_pod(namespace, cell.name, command=command)
    pod["metadata"]["labels"] = {LABEL_CELL: cell.name}
    pod["spec"]["securityContext"] = pod_security
    pod["spec"]["containers"][0]["securityContext"] = container_security
    # A sidecar that ignores SIGTERM would hold its pod for that long.
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    workload = wrap_pod(cell.kind, pod, **({"replicas": cell.pods} if cell.pods > 1 else {}))
    workload["metadata"]["annotations"] = asked
    return workload


def wrap_pod(kind: str, pod: Manifest, **spec: Any) -> Manifest:
    """Return a workload whose pod template is the given pod, named like it."""
    if kind == "Pod":
        return pod
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    labels = {**pod["metadata"].get("labels", {}), "app": name}
    template = {
        "metadata": {"labels": labels, "annotations": pod["metadata"]["annotations"]},
        "spec": {**pod["spec"], "restartPolicy": "Never" if kind in FINITE else "Always"},
    }
    metadata = {"name": name, "namespace": namespace}
    if kind == "Job":
        body = {"template": template, "backoffLimit": 0, **spec}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": body}
    if kind == "CronJob":
        job = {"spec": {"template": template, "backoffLimit": 0}}
        # Every Job stays to be looked at.
        kept = {"successfulJobsHistoryLimit": 1000, "concurrencyPolicy": "Forbid"}
        body = {"schedule": "* * * * *", **kept, "jobTemplate": job, **spec}
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": body}
    body = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    if kind == "StatefulSet":
        body = {"serviceName": name, "podManagementPolicy": "Parallel", **body}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": body}


def is_done(pod: Manifest) -> bool:
    """Return whether a pod's app has reported: it has ended well, or it is Ready and will never end."""
    if pod["spec"]["restartPolicy"] == "Never":
        return bool(pod["status"].get("phase") == "Succeeded")
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_for_reports(
    cluster: Cluster, namespace: str, selector: str, pods: Collection[str], seconds: float = 300
) -> dict[str, Manifest]:
    """Return by pod what the apps have reported, as soon as all these pods' apps have.

    Raises:
        TimeoutError: One hasn't in time; the text names those that have.
    """
    found: dict[str, Manifest] = {}

    def read() -> bool:
        found.clear()
        log = cluster.kubectl(
            "logs", "-n", namespace, "-l", selector, "-c", "app", "--prefix", "--tail=-1",
            "--max-log-requests=100", "--ignore-errors", check=False,
        )  # fmt: skip
        for line in log.splitlines():
            prefix, _, text = line.partition("] ")
            if text.startswith("{"):
                found[prefix.split("/")[1]] = json.loads(text)
        return set(pods) <= set(found)

    try:
        wait_until("the apps report", seconds, read, interval=1)
    except TimeoutError:
        missing = sorted(set(pods) - set(found))
        state = cluster.kubectl("get", "pods", "-n", namespace, "-l", selector, check=False)
        raise TimeoutError(f"no report from {missing} after {seconds:.0f} s\n{state}") from None
    return found
