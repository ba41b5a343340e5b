"""A cluster is saved, destroyed and restored as docs/backup.md says, by the very commands of that page.

Two real API servers, one after the other; the processes of this project run beside each. In the second the
garbage collector of Kubernetes is at work, which removes what has an owner that doesn't exist.
"""

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from annotated_workloads import WorkloadClient, build_workload
from chart_installation import Installation, impersonating, named
from chart_rendering import CLUSTER_NAME, SYSTEM_NAMESPACE, find_helm
from controller_rig import ROOT, Process, Rig
from controller_wire import Wire
from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS, Json, Objects
from in_force import wait_in_force
from pod_caller import decrypt, start_pod
from testcluster import backend, binaries
from user_rights import build_alias
from waiting import eventually

PAGE: Final = ROOT / "docs" / "backup.md"
SHOP: Final = "shop"
BY_ANNOTATION: Final = "orders.deployment"
REQUEST_NAMES: Final = ("by-alias", "by-arn", "by-key", "versions", BY_ANNOTATION)
_BLOCK: Final = re.compile(r"<!-- run: (.+?) -->\n```\n(.+?)```", re.DOTALL)


@dataclass(frozen=True)
class Cluster:
    """A control plane, and this project's processes beside it."""

    objects: Objects
    rig: Rig

    def start(self) -> Process:
        """Start key service and controller; return the controller."""
        # Nobody serves the webhooks of the chart here.
        self.rig.leave_webhook_out()
        wait_in_force(self.rig.api, self.rig.installation.namespace)
        self.rig.start_keyservice()
        return self.rig.start_controller()

    def statuses(self, plural: str) -> dict[str, Json]:
        """Return the statuses of a kind, by name."""
        return {item["metadata"]["name"]: item.get("status") or {} for item in self.objects.list(plural)}

    def uids(self) -> set[str]:
        """Return the UIDs of all objects of this project."""
        kinds = (KEYS, ALIASES, GRANTS, REQUESTS)
        return {item["metadata"]["uid"] for plural in kinds for item in self.objects.list(plural)}

    def plaintexts(self) -> dict[str, bytes]:
        """Return every data key in every version, former ciphertexts too, as a pod decrypts them."""
        pod, found = start_pod(self.rig, SHOP), {}
        for item in self.objects.list(REQUESTS):
            name, status = item["metadata"]["name"], item["status"]
            pairs = item["spec"].get("encryptionContext", {})
            for version in (status, *status.get("previousVersions", ())):
                for member in ("ciphertextBlob", "formerCiphertextBlob"):
                    if member in version:
                        label = f"{name}@{version.get('version', 1)} {member}"
                        found[label] = decrypt(pod, version[member], SHOP, name, **pairs)
        return found

    def secret_data(self) -> dict[str, Json]:
        """Return what the pods' Secrets hold, by name."""
        core = client.CoreV1Api(self.rig.api)
        found: Any = core.list_namespaced_secret(SHOP, label_selector="datakeys.dev/request")
        return {item.metadata.name: item.data for item in found.items}


@dataclass
class Saved:
    """What the former cluster was, and where its backup is."""

    folder: Path
    statuses: dict[str, dict[str, Json]] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    plaintexts: dict[str, bytes] = field(default_factory=dict)
    secret_data: dict[str, Json] = field(default_factory=dict)
    grants: list[str] = field(default_factory=list)


def run_block(title: str, kubeconfig: Path, folder: Path) -> None:
    """Run a code block of the page, with its files in a folder and the rest as in a checkout."""
    code = dict(_BLOCK.findall(PAGE.read_text()))[title].replace(
        "clusterName=prod", f"clusterName={CLUSTER_NAME}"
    )
    for name in ("charts", "crds"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    tools = f"{binaries.link_all()}:{Path(find_helm()).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", code],
        cwd=folder,
        env={"PATH": tools, "HOME": str(folder), "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, (title, done.stdout, done.stderr)


@contextmanager
def running_cluster(folder: Path, *, collector: bool) -> Iterator[tuple[Path, Cluster]]:
    """Start an empty control plane; its etcd and all that is in it are gone afterwards."""
    name = f"cp{uuid.uuid4().hex[:4]}"
    kubeconfig = backend.up(name, control_plane_only=True, controller_manager=collector)
    try:
        with impersonating(kubeconfig) as api:
            rig = Rig(Installation(kubeconfig, SYSTEM_NAMESPACE), api, folder)
            try:
                yield kubeconfig, Cluster(Objects(api, SHOP), rig)
            finally:
                rig.stop_all()
    finally:
        backend.down(name)


def fill(cluster: Cluster) -> None:
    """Make keys and data keys of every history that a backup must carry."""
    objects = cluster.objects
    for name in ("main", "other"):
        objects.create_key(name)
    objects.wait_ready("main", "other", plural=KEYS)
    made = Wire(cluster.rig, SHOP).call("CreateKey")["KeyMetadata"]  # by the API: there is no KmsKey
    objects.create(ALIASES, build_alias(SHOP, "main", targetKeyRef={"name": "main"}))
    grantee = {"granteePrincipal": {"serviceAccountName": "reader"}, "operations": ["Encrypt"]}
    objects.create_manifest(GRANTS, "KmsGrant", "reader", {"keyRef": {"name": "main"}, **grantee})
    objects.wait_ready("main", plural=ALIASES)
    objects.wait_ready("reader", plural=GRANTS)
    objects.create_request("by-key", encryptionContext={"purpose": "tests"})
    objects.create_request("by-alias", keyId="alias/main", numberOfBytes=24)
    objects.create_request("by-arn", keyId=made["Arn"])
    objects.create_request("versions", key="other")
    WorkloadClient(objects.api, SHOP).create(
        build_workload("Deployment", annotations={"deletion-policy": "Delete"})
    )
    assert eventually(lambda: objects.exists(REQUESTS, BY_ANNOTATION))
    objects.wait_ready(*REQUEST_NAMES)
    objects.patch(REQUESTS, "versions", {"spec": {"version": 2}})
    assert eventually(lambda: "previousVersions" in cluster.statuses(REQUESTS)["versions"])
    re_encrypt = {"rotateOnDemand": "now", "reEncryption": {"enabled": True}}
    objects.patch(KEYS, "other", {"spec": re_encrypt})

    assert eventually(lambda: is_re_encrypted(cluster))


def is_re_encrypted(cluster: Cluster) -> bool:
    """Return whether both versions are re-encrypted, all is told, and the Secrets have followed."""
    key, status = cluster.statuses(KEYS)["other"], cluster.statuses(REQUESTS)["versions"]
    versions, secrets = (status, *status["previousVersions"]), cluster.secret_data()
    names = ("versions.v2", "versions")
    return (
        "finishedAt" in (key.get("reEncryption") or {})
        and key.get("onDemandRotation") == {"request": "now"}
        and all("formerCiphertextBlob" in one for one in versions)
        and all(
            (secrets.get(name) or {}).get("ciphertextBlob") == one["ciphertextBlob"]
            for name, one in zip(names, versions, strict=True)
        )
    )


def list_grants(cluster: Cluster) -> list[str]:
    """Return the ids of the grants that the key service knows."""
    key_id = cluster.statuses(KEYS)["main"]["keyId"]
    return [grant["GrantId"] for grant in Wire(cluster.rig, SHOP).call("ListGrants", KeyId=key_id)["Grants"]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Fill a cluster, save it, and destroy it."""
    saved = Saved(tmp_path_factory.mktemp("backup"))
    with running_cluster(tmp_path_factory.mktemp("former"), collector=False) as (kubeconfig, cluster):
        core = client.CoreV1Api(cluster.rig.api)
        for namespace in (SYSTEM_NAMESPACE, SHOP):
            core.create_namespace(named(namespace))
        run_block("install", kubeconfig, saved.folder)
        cluster.start()
        fill(cluster)
        saved.uids, saved.plaintexts = cluster.uids(), cluster.plaintexts()
        saved.secret_data, saved.grants = cluster.secret_data(), list_grants(cluster)
        saved.statuses = {plural: cluster.statuses(plural) for plural in (KEYS, ALIASES, GRANTS, REQUESTS)}
        run_block("backup", kubeconfig, saved.folder)
        run_block("root key", kubeconfig, saved.folder)
    return saved


@pytest.fixture(scope="module")
def restored(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Process]]:
    """Restore the backup in a new cluster, and run this project's processes there."""
    with running_cluster(tmp_path_factory.mktemp("new"), collector=True) as (kubeconfig, cluster):
        run_block("restore", kubeconfig, saved.folder)
        run_block("install", kubeconfig, saved.folder)
        controller = cluster.start()
        cluster.objects.wait_ready(*REQUEST_NAMES)
        yield cluster, controller


def test_every_data_key_decrypts_as_before(restored: tuple[Cluster, Process], saved: Saved) -> None:
    """All requests, versions and former ciphertexts; all objects are new ones for the API server."""
    cluster, _ = restored
    assert len(saved.plaintexts) == len(REQUEST_NAMES) + 1 + 2
    assert len(set(saved.plaintexts.values())) == len(REQUEST_NAMES) + 1
    assert cluster.plaintexts() == saved.plaintexts
    assert not cluster.uids() & saved.uids


def test_nothing_is_made_anew(restored: tuple[Cluster, Process], saved: Saved) -> None:
    """Ciphertexts, key ids, ARNs and grants are what they were, and no data key is generated."""
    cluster, controller = restored
    kept = {
        REQUESTS: ("version", "ciphertextBlob", "keyMaterialId", "formerCiphertextBlob", "previousVersions"),
        KEYS: ("keyId", "arn", "currentKeyMaterialId", "creationDate", "onDemandRotation"),
        ALIASES: ("arn", "targetKeyArn"),
        GRANTS: ("grantId", "keyArn"),
    }
    for plural, members in kept.items():
        now = cluster.statuses(plural)
        assert now.keys() == saved.statuses[plural].keys()
        for name, status in saved.statuses[plural].items():
            for member in members:
                assert now[name].get(member) == status.get(member), (plural, name, member)
    assert list_grants(cluster) == saved.grants
    for operation in ("GenerateDataKeyWithoutPlaintext", "CreateKey", "CreateGrant", "RotateKeyOnDemand"):
        assert controller.calls(operation) == 0, operation


def test_secrets_come_back_from_the_status(restored: tuple[Cluster, Process], saved: Saved) -> None:
    """Every version has its Secret again, with the same content."""
    cluster, _ = restored
    assert eventually(lambda: cluster.secret_data() == saved.secret_data)
    assert saved.secret_data.keys() == {*REQUEST_NAMES, "versions.v2"}


def test_a_workload_finds_its_data_key_again(restored: tuple[Cluster, Process], saved: Saved) -> None:
    """The request outlives the garbage collector without its owner; the new workload takes it over."""
    cluster, _ = restored
    objects = cluster.objects
    assert "ownerReferences" not in objects.get(REQUESTS, BY_ANNOTATION)["metadata"]
    workloads = WorkloadClient(objects.api, SHOP)
    uid = workloads.create(
        build_workload("Deployment", annotations={"deletion-policy": "Delete"})
    ).metadata.uid

    def owners() -> list[str]:
        found = objects.get(REQUESTS, BY_ANNOTATION)["metadata"].get("ownerReferences") or ()
        return [owner["uid"] for owner in found]

    assert eventually(lambda: owners() == [uid])
    blob = saved.statuses[REQUESTS][BY_ANNOTATION]["ciphertextBlob"]
    assert cluster.statuses(REQUESTS)[BY_ANNOTATION]["ciphertextBlob"] == blob


def test_the_restored_keys_go_on(restored: tuple[Cluster, Process]) -> None:
    """New data keys, versions and rotations work as in any cluster."""
    cluster, _ = restored
    objects = cluster.objects
    objects.create_request("new")
    objects.patch(REQUESTS, "versions", {"spec": {"version": 3}})
    objects.wait_ready("new")
    assert eventually(lambda: cluster.statuses(REQUESTS)["versions"].get("version") == 3)
    key = cluster.statuses(KEYS)["main"]
    objects.patch(KEYS, "main", {"spec": {"rotateOnDemand": "after"}})
    assert eventually(
        lambda: cluster.statuses(KEYS)["main"]["currentKeyMaterialId"] != key["currentKeyMaterialId"]
    )
    assert len(cluster.plaintexts()) >= len(REQUEST_NAMES) + 3
