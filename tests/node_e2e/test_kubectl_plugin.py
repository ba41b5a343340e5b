"""``kubectl kms`` beside pods that really run: what it says is what is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployment import Cluster, wait_until
from workloads import apply, build_key, build_pod, build_request, build_service_account

OPERATOR = Path(__file__).parents[2] / "operator"

pytestmark = pytest.mark.usefixtures("key", "account")


@pytest.fixture
def account(cluster: Cluster, namespace: str) -> None:
    """Make the ServiceAccounts app and other."""
    apply(cluster, build_service_account(namespace, "app"), build_service_account(namespace, "other"))


def run(cluster: Cluster, namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the plugin as the administrator."""
    return subprocess.run(
        [sys.executable, "-m", "datakeys.kubectl", *words, "-n", namespace],
        env={
            "PATH": f"{cluster.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(OPERATOR),
            "KUBECONFIG": str(cluster.kubeconfig),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def read(cluster: Cluster, namespace: str, *words: str) -> dict[str, Any]:
    """Run it for machines; give the document, whatever the status."""
    done = run(cluster, namespace, *words, "-o", "json")
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def failures(document: dict[str, Any]) -> dict[str, str]:
    """Return the failed checks of an explanation."""
    return {check["check"]: check["detail"] for check in document["checks"] if check["verdict"] == "fail"}


def build_deployment(namespace: str) -> dict[str, Any]:
    """Return a Deployment that asks for a data key by annotation."""
    pod = build_pod(namespace, "unused")
    template = {"metadata": {"labels": {"app": "orders"}}, "spec": {**pod["spec"], "restartPolicy": "Always"}}
    metadata = {"name": "orders", "namespace": namespace, "annotations": {"datakeys.dev/key": "main"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
    }


def test_annotated_deployment_is_explained_and_was_foretold(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    """``inject`` before it is applied shows the very sidecar that its pod then has."""
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(build_deployment(namespace)))
    (foretold,) = read(cluster, namespace, "inject", "-f", str(path))["items"]
    cluster.kubectl("apply", "-f", str(path))
    cluster.wait("deployment/orders", "condition=Available", namespace)
    document = read(cluster, namespace, "explain", "deployment", "orders")
    assert (document["verdict"], failures(document)) == ("pass", {})
    (pod,) = cluster.get("pods", "-n", namespace, "-l", "app=orders")["items"]
    template = foretold["manifest"]["spec"]["template"]
    (sidecar,) = template["spec"]["initContainers"]
    (found,) = pod["spec"]["initContainers"]
    for member in (
        "image",
        "command",
        "env",
        "restartPolicy",
        "volumeMounts",
        "resources",
        "securityContext",
    ):
        assert found[member] == sidecar[member], member
    names = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == names
    assert template["metadata"]["annotations"].items() <= pod["metadata"]["annotations"].items()
    (request,) = read(cluster, namespace, "requests")["items"]
    assert (request["workload"], request["workloadGone"], request["note"]) == ("Deployment/orders", False, "")


def test_pod_of_another_account_is_explained_by_the_sidecar_s_own_log(
    cluster: Cluster, namespace: str
) -> None:
    """The key service's refusal and its cause, side by side."""
    apply(cluster, build_request(namespace, "disk"))
    apply(cluster, build_pod(namespace, "thief", requests="disk", account="other"))

    def refused() -> bool:
        return "AccessDeniedException" in failures(read(cluster, namespace, "explain", "pod", "thief")).get(
            "delivered", ""
        )

    wait_until("the sidecar is refused", 180, refused)
    found = failures(read(cluster, namespace, "explain", "pod", "thief"))
    assert "is for ServiceAccount app, but the pod runs as other" in found["service-account"]
    assert run(cluster, namespace, "explain", "pod", "thief").returncode == 1


def test_disabled_key_is_the_cause_until_it_is_enabled(cluster: Cluster, namespace: str) -> None:
    """The next step that is shown is the one that helps."""
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    apply(cluster, build_key(namespace, "main", enabled=False))
    cluster.wait("kmskey/main", "jsonpath={.status.keyState}=Disabled", namespace)
    apply(cluster, build_pod(namespace, "app", requests="disk"))

    def explained() -> bool:
        found = failures(read(cluster, namespace, "explain", "pod", "app"))
        return "KmsKey main is Disabled" in found.get("key", "") and "Disabled" in found.get("delivered", "")

    wait_until("the disabled key is told", 180, explained)
    done = run(cluster, namespace, "explain", "pod", "app")
    assert "→ enable it: set spec.enabled: true in KmsKey main" in done.stdout
    apply(cluster, build_key(namespace, "main", enabled=True))
    cluster.wait("pod/app", "condition=Ready", namespace)
    done = run(cluster, namespace, "explain", "pod", "app")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "The pod has what it asked for."


def test_rotation_is_followed_while_a_pod_holds_its_key(cluster: Cluster, namespace: str) -> None:
    """The data key stays what it was, for the pod that runs and for the next one."""
    apply(cluster, build_request(namespace, "disk"))
    apply(cluster, build_pod(namespace, "first", requests="disk"))
    cluster.wait("pod/first", "condition=Ready", namespace)
    before = cluster.read_file(namespace, "first", "app", "/var/run/datakeys/keys/disk")
    done = run(cluster, namespace, "rotate", "main", "--re-encrypt", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1/1 re-encrypted, done"
    apply(cluster, build_pod(namespace, "second", requests="disk"))
    cluster.wait("pod/second", "condition=Ready", namespace)
    assert cluster.read_file(namespace, "second", "app", "/var/run/datakeys/keys/disk") == before
    assert failures(read(cluster, namespace, "explain", "pod", "second")) == {}
