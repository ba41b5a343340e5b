"""A data key for each ordinal of a StatefulSet: with its volume, it outlives pod, scale and workload."""

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deployment import Cluster, wait_until
from workload_matrix import wait_for_reports, wrap_pod
from workloads import (
    Manifest,
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_service_account,
    status_of,
)

REPLICAS = 2
#: Seals a file on the volume at the first start, and opens it with the delivered key at every later one.
SEAL = """
import hashlib, json, os, signal, socket
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
key = open("/var/run/datakeys/keys/data-key", "rb").read()
path, text = "/data/sealed", socket.gethostname().encode()
found = {"keys": hashlib.sha256(key).hexdigest(), "opened": os.path.exists(path)}
if found["opened"]:
    sealed = open(path, "rb").read()
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], None) == text
else:
    nonce = os.urandom(12)
    open(path, "wb").write(nonce + AESGCM(key).encrypt(nonce, text, None))
print(json.dumps(found), flush=True)
signal.sigwait([signal.SIGTERM])
"""


@dataclass(frozen=True)
class Database:
    """A StatefulSet ``db`` with a volume and a data key for each ordinal."""

    cluster: Cluster
    namespace: str

    def build(self) -> Manifest:
        """Return the StatefulSet."""
        pod = build_pod(self.namespace, "db", command=["python3", "-c", SEAL])
        # Only root may write to a folder that the kubelet has made for a volume of this kind.
        pod["spec"]["securityContext"] = {"runAsUser": 0}
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        claim = {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": self.namespace,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }
        workload = wrap_pod("StatefulSet", pod, replicas=REPLICAS, volumeClaimTemplates=[claim])
        workload["metadata"]["annotations"] = {"datakeys.dev/key": "main", "datakeys.dev/scope": "pod"}
        return workload

    def build_volume(self, number: int) -> Manifest:
        """Return a volume of the node; the test cluster has no provisioner."""
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.namespace}-{number}"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Mi"},
                "storageClassName": self.namespace,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": f"{self.folder}/{number}", "type": "DirectoryOrCreate"},
            },
        }

    @property
    def folder(self) -> str:
        """Return the folder of all volumes."""
        return f"/var/tmp/{self.namespace}"  # noqa: S108 - on the node, named for this run

    def wait_ready(self) -> dict[str, Manifest]:
        """Wait until all pods are Ready; return what they report, by name."""
        wait_until("the StatefulSet is ready", 300, self._is_ready)
        pods = [f"db-{number}" for number in range(REPLICAS)]
        return wait_for_reports(self.cluster, self.namespace, "app=db", pods)

    def wait_gone(self) -> None:
        """Wait until no pod is left."""
        self.cluster.kubectl(
            "wait", "--for=delete", "pod", "-l", "app=db", "-n", self.namespace, "--timeout=300s"
        )

    def _is_ready(self) -> bool:
        return status_of(self.cluster, "statefulset", "db", self.namespace).get("readyReplicas") == REPLICAS


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[Database]:
    """Make the namespace, the key and the volumes."""
    database = Database(cluster, f"db-{uuid.uuid4().hex[:6]}")
    volumes = [database.build_volume(number) for number in range(REPLICAS)]
    apply(
        cluster,
        build_namespace(database.namespace, "baseline"),
        build_service_account(database.namespace, "app"),
        build_key(database.namespace, "main"),
        *volumes,
    )
    try:
        yield database
    finally:
        cluster.kubectl("delete", "namespace", database.namespace, "--wait=true", "--timeout=300s")
        cluster.kubectl("delete", "pv", *[one["metadata"]["name"] for one in volumes])
        shutil.rmtree(database.folder, ignore_errors=True)


def test_each_ordinal_keeps_its_data_key_whatever_becomes_of_its_pod(database: Database) -> None:
    """Two ordinals, two keys. Each opens its volume after the pod, the scale or the workload was gone."""
    cluster, namespace = database.cluster, database.namespace
    apply(cluster, database.build())
    first = database.wait_ready()
    assert set(first) == {"db-0", "db-1"}
    assert first["db-0"]["keys"] != first["db-1"]["keys"]
    assert not first["db-0"]["opened"]
    opened = {pod: {**report, "opened": True} for pod, report in first.items()}

    cluster.kubectl("delete", "pod", "db-0", "-n", namespace, "--wait=true")
    assert database.wait_ready() == {**opened, "db-1": first["db-1"]}

    cluster.kubectl("scale", "statefulset/db", "--replicas=0", "-n", namespace)
    database.wait_gone()
    cluster.kubectl("scale", "statefulset/db", f"--replicas={REPLICAS}", "-n", namespace)
    assert database.wait_ready() == opened

    cluster.kubectl("delete", "statefulset", "db", "-n", namespace, "--wait=true")
    database.wait_gone()
    for request in ("db-0.statefulset", "db-1.statefulset"):
        assert cluster.get("datakeyrequest", request, "-n", namespace)["status"]["ciphertextBlob"]
    apply(cluster, database.build())
    assert database.wait_ready() == opened
