"""``kubectl kms`` as a person runs it: program, kubectl and API server are real, the rights that person's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from annotated_workloads import WorkloadClient, build_workload
from chart_installation import Installation, named
from controller_rig import Process, Rig
from custom_objects import GRANTS, KEYS, REQUESTS, Objects
from datakeys.contract.identity import ANNOTATION_INJECTED, ANNOTATION_REQUESTS, LABEL_INJECT
from in_force import Asked, wait_asked, wait_roles_in_force
from testcluster.binaries import path_of
from testcluster.recipes import KUBECTL
from user_rights import Users, build_grant
from waiting import eventually

OPERATOR = Path(__file__).parents[2] / "operator"


@dataclass(frozen=True)
class Plugin:
    """The program, as one user in one namespace."""

    kubeconfig: Path
    namespace: str

    def run(self, *words: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """Run it as a user, or as the administrator."""
        impersonated = ("--as", user) if user else ()
        return subprocess.run(
            [
                *(sys.executable, "-m", "datakeys.kubectl", *words),
                *("-n", self.namespace, "--kubeconfig", str(self.kubeconfig), *impersonated),
            ],
            env={
                "PATH": f"{path_of(KUBECTL).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(OPERATOR),
                "HOME": str(self.kubeconfig.parent),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def read(self, *words: str, user: str = "", status: int = 0) -> dict[str, Any]:
        """Run it for machines; it must end with a status."""
        done = self.run(*words, "-o", "json", user=user)
        assert done.returncode == status, (done.stdout, done.stderr)
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    def verdicts(self, *words: str, user: str = "", status: int = 0) -> dict[str, str]:
        """Explain something; give the verdicts by the names of the checks."""
        document = self.read("explain", *words, user=user, status=status)
        return {check["check"]: check["verdict"] for check in document["checks"]}


@pytest.fixture(scope="module")
def installation(rig: Rig) -> Installation:
    """The chart that the controller and the key service run in."""
    return rig.installation


@pytest.fixture
def shop(objects: Objects) -> Objects:
    """A namespace with the ServiceAccount app, the key main and its request orders."""
    body: Any = named("app")
    client.CoreV1Api(objects.api).create_namespaced_service_account(objects.namespace, body)
    objects.create_key()
    objects.create_request("orders")
    objects.wait_ready("main", plural=KEYS)
    objects.wait_ready("orders")
    return objects


@pytest.fixture
def plugin(rig: Rig, shop: Objects) -> Plugin:
    """The program in that namespace."""
    return Plugin(rig.installation.kubeconfig, shop.namespace)


@pytest.fixture
def members(rig: Rig, api_client: client.ApiClient, shop: Objects) -> Users:
    """The users of that namespace."""
    return Users(api_client, rig.installation.kubeconfig, shop.namespace)


@pytest.fixture
def pod(shop: Objects) -> Callable[..., str]:
    """Return a function that makes a pod with the marks of an injected one.

    The webhook doesn't run here, and without its marks a pod isn't sent to it.
    """

    def make(name: str, *, account: str = "app", started: bool = True, marked: bool = True) -> str:
        core = client.CoreV1Api(shop.api)
        mounts = [{"name": "keys", "mountPath": "/var/run/datakeys/encrypted"}]
        sidecar = {
            "name": "datakeys-sidecar",
            "image": "x:1",
            "restartPolicy": "Always",
            "volumeMounts": mounts,
        }
        spec = {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "x:1"}],
            "initContainers": [sidecar],
            "volumes": [{"name": "keys", "projected": {"sources": [{"secret": {"name": "orders"}}]}}],
        }
        body: Any = {**named(name), "spec": spec}
        core.create_namespaced_pod(shop.namespace, body)
        annotations = {ANNOTATION_REQUESTS: "orders", **({ANNOTATION_INJECTED: "x:1"} if marked else {})}
        marks = {"metadata": {"labels": {LABEL_INJECT: "true"}, "annotations": annotations}}
        core.patch_namespaced_pod(name, shop.namespace, marks)
        if started:
            state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
            running = {"name": "datakeys-sidecar", "started": True, "ready": True, "restartCount": 0}
            statuses = [{**running, "state": state, "image": "x:1", "imageID": ""}]
            patch = {"status": {"initContainerStatuses": statuses}}
            core.patch_namespaced_pod_status(name, shop.namespace, patch)
        return name

    return make


def test_viewer_sees_keys_and_requests_but_not_the_secrets(plugin: Plugin, members: Users) -> None:
    """What may not be seen is null, not wrong."""
    viewer = members.with_cluster_role("view")
    (key,) = plugin.read("keys", user=viewer)["items"]
    assert (key["name"], key["keyState"], key["requests"]) == ("main", "Enabled", 1)
    (request,) = plugin.read("requests", user=viewer)["items"]
    assert (request["name"], request["ready"], request["missingSecrets"]) == ("orders", "True", None)
    (request,) = plugin.read("requests")["items"]
    assert (request["secrets"], request["missingSecrets"], request["note"]) == (["orders"], [], "")


def test_all_namespaces_are_listed_with_theirs(plugin: Plugin) -> None:
    """An administrator's view of the cluster."""
    done = plugin.run("requests", "-A")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split()[:2] == ["NAMESPACE", "NAME"]
    assert any(row.split()[:2] == [plugin.namespace, "orders"] for row in rows)


def test_user_without_rights_gets_one_line(plugin: Plugin) -> None:
    """With the right that is lacking, and whom to ask."""
    for words in (("keys",), ("requests",), ("explain", "pod", "x"), ("who-can", "decrypt", "main")):
        done = plugin.run(*words, user="nobody")
        assert done.returncode == 3, done.stdout
        assert "forbidden" in done.stderr
        assert "ask an administrator" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_injected_pod_has_its_key(plugin: Plugin, pod: Callable[..., str]) -> None:
    """Every link of the chain is looked at."""
    verdicts = plugin.verdicts("pod", pod("orders-1"))
    assert set(verdicts.values()) == {"pass"}, verdicts
    assert {"request", "key", "secret", "service-account", "trust-bundle", "delivered"} <= set(verdicts)


def test_viewer_s_explanation_says_what_it_can_t_see(
    plugin: Plugin, members: Users, pod: Callable[..., str]
) -> None:
    """It isn't a failure: the status is 0."""
    name, viewer = pod("orders-1"), members.with_cluster_role("view")
    # What the cluster's own role view has beside the project's part; nobody aggregates it here.
    resources = ["pods", "pods/log", "configmaps", "events"]
    members.allow_rule(viewer, {"apiGroups": [""], "resources": resources, "verbs": ["get", "list"]})
    assert eventually(lambda: plugin.run("explain", "pod", name, user=viewer).returncode == 0)
    verdicts = plugin.verdicts("pod", name, user=viewer)
    assert verdicts["secret"] == "unseen"
    assert verdicts["request"] == verdicts["key"] == "pass"


def test_pod_of_another_account_is_told_so(plugin: Plugin, shop: Objects, pod: Callable[..., str]) -> None:
    """The one check that nobody sees in the pod's events."""
    body: Any = named("other")
    client.CoreV1Api(shop.api).create_namespaced_service_account(shop.namespace, body)
    name = pod("orders-1", account="other", started=False)
    verdicts = plugin.verdicts("pod", name, status=1)
    assert verdicts["service-account"] == "fail"


def test_uninjected_pod_is_told_so(plugin: Plugin, pod: Callable[..., str]) -> None:
    """The webhook's configuration here has no caBundle, since its process doesn't run."""
    document = plugin.read("explain", "pod", pod("orders-1", marked=False), status=1)
    failures = [check for check in document["checks"] if check["verdict"] == "fail"]
    assert [check["check"] for check in failures] == ["injected", "webhook"]
    assert "caBundle" in failures[1]["detail"]


def test_disabled_key_is_the_cause(plugin: Plugin, shop: Objects, pod: Callable[..., str]) -> None:
    """And enabling it the next step."""
    name = pod("orders-1", started=False)
    shop.patch(KEYS, "main", {"spec": {"enabled": False}})
    assert eventually(lambda: shop.get(KEYS, "main")["status"]["keyState"] == "Disabled")
    done = plugin.run("explain", "pod", name)
    assert done.returncode == 1
    assert "✗ KmsKey main is Disabled" in done.stdout
    assert "→ enable it" in done.stdout


def test_request_that_was_refused_is_explained_in_the_controller_s_words(
    plugin: Plugin, shop: Objects
) -> None:
    """Here a key that doesn't exist."""
    shop.create_request("lost", key="none")
    shop.wait_condition(REQUESTS, "lost", "False")
    document = plugin.read("explain", "request", "lost", status=1)
    assert document["verdict"] == "fail"
    assert "lost" in document["conclusion"]


@pytest.fixture
def workloads(shop: Objects) -> Iterator[WorkloadClient]:
    """The namespace's workloads, which the webhook that doesn't run needn't see."""
    patch: Any = [{"op": "replace", "path": "/webhooks/2/failurePolicy", "value": "Ignore"}]
    client.AdmissionregistrationV1Api(shop.api).patch_mutating_webhook_configuration(
        "datakeys-webhook", patch
    )
    wait_asked(shop.api, Asked.AS_IT_IS)
    workloads = WorkloadClient(shop.api, shop.namespace)
    yield workloads
    workloads.delete_all()


def test_workload_is_explained_and_its_request_outlives_it(
    plugin: Plugin, shop: Objects, workloads: WorkloadClient
) -> None:
    """Without pods; the data key is retained, and the list says for whom it was."""
    workloads.create(build_workload("Deployment", "web", annotations={"key": "main"}))
    assert eventually(lambda: shop.exists(REQUESTS, "web.deployment"))
    shop.wait_ready("web.deployment")
    verdicts = plugin.verdicts("deployment", "web")
    assert (verdicts["pods"], verdicts["request"], verdicts["secret"]) == ("wait", "pass", "pass")

    def read() -> tuple[str, str, bool]:
        items = plugin.read("requests")["items"]
        (item,) = (one for one in items if one["name"] == "web.deployment")
        return item["workload"], item["note"], item["workloadGone"]

    assert read() == ("Deployment/web", "", False)
    workloads.delete("Deployment", "web")
    assert eventually(lambda: read() == ("Deployment/web", "retained: its workload is gone", True))


def test_what_the_controller_told_about_a_workload_is_shown(
    plugin: Plugin, shop: Objects, workloads: WorkloadClient
) -> None:
    """Here that the request of its name belongs to somebody else."""
    shop.create_request("web.deployment")
    workloads.create(build_workload("Deployment", "web", annotations={"key": "main"}))
    assert eventually(lambda: "RequestConflict" in shop.event_reasons("web"))
    checks = plugin.read("explain", "deployment", "web")["checks"]
    (told,) = (check for check in checks if check["check"] == "controller")
    assert "web.deployment exists and wasn't made for Deployment/web" in told["detail"]


RULES = [
    {"resources": ["kmskeys/decrypt"]},
    {"resources": ["*/decrypt"]},
    {"resources": ["*"], "apiGroups": ["*"], "verbs": ["*"]},
    {"resources": ["kmskeys/decrypt"], "resourceNames": ["main"]},
    {"resources": ["kmskeys/decrypt"], "resourceNames": ["other"]},
    {"resources": ["kmskeys/*"]},
    {"resources": ["kmskeys"]},
    {"resources": ["kmskeys/encrypt"]},
    {"resources": ["kmskeys/decrypt"], "verbs": ["get"]},
    {"resources": ["kmskeys/decrypt"], "apiGroups": ["apps"]},
]


def test_who_can_says_what_the_api_server_s_authorizer_says(
    plugin: Plugin, shop: Objects, members: Users
) -> None:
    """Rule by rule, for a ServiceAccount each."""
    rbac = client.RbacAuthorizationV1Api(shop.api)
    for number, rule in enumerate(RULES):
        name = f"sa-{number}"
        whole = {"apiGroups": ["datakeys.dev"], "verbs": ["create"], **rule}
        role: Any = {**named(name), "rules": [whole]}
        rbac.create_namespaced_role(shop.namespace, role)
        subject = {"kind": "ServiceAccount", "name": name, "namespace": shop.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        binding: Any = {**named(name), "roleRef": reference, "subjects": [subject]}
        rbac.create_namespaced_role_binding(shop.namespace, binding)
    prefix = f"system:serviceaccount:{shop.namespace}:"
    wait_roles_in_force(shop.api, shop.namespace)
    items = plugin.read("who-can", "decrypt", "main")["items"]
    told = {item["principal"]["name"] for item in items if item["by"] == "RBAC" and item["effective"]}
    accounts = [f"sa-{number}" for number in range(len(RULES))]
    allowed = {name for name in accounts if members.may(f"{prefix}{name}", "decrypt", "main")}
    assert told & set(accounts) == allowed
    assert allowed == {"sa-0", "sa-1", "sa-2", "sa-3"}


def test_who_can_names_requests_and_grants(plugin: Plugin, shop: Objects, members: Users) -> None:
    """By every form of the key's name; a viewer is told what he can't see."""
    shop.create(GRANTS, build_grant(shop.namespace, keyRef={"name": "main"}))
    shop.wait_ready("g", plural=GRANTS)
    arn = shop.get(KEYS, "main")["status"]["arn"]
    viewer = members.with_cluster_role("view")
    document = plugin.read("who-can", "decrypt", arn, user=viewer)
    found = {(item["by"], item["object"], item["principal"]["name"]) for item in document["items"]}
    assert {
        ("DataKeyRequest", f"{shop.namespace}/orders", "app"),
        ("KmsGrant", f"{shop.namespace}/g", "app"),
    } <= found
    assert any("RoleBindings" in text for text in document["unseen"])


def test_editor_sees_what_the_webhook_would_inject(
    plugin: Plugin, members: Users, shop: Objects, installation: Installation, tmp_path: Path
) -> None:
    """With the Secret that the cluster's request names; the webhook's settings he can't see."""
    shop.create_request("sealed", secretName="under-this-name")
    editor = members.with_cluster_role("edit")
    spec = {
        "serviceAccountName": "app",
        "securityContext": {"runAsUser": 10001},
        "containers": [{"name": "app", "image": "x:1"}],
    }
    annotations = {ANNOTATION_REQUESTS: "sealed"}
    template = {"metadata": {"labels": {"app": "a"}, "annotations": annotations}, "spec": spec}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "orders"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
    }
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(deployment))
    done = plugin.run("inject", "-f", str(path), user=editor)
    assert done.returncode == 0, done.stderr
    assert "under-this-name" in done.stdout
    assert "are guesses" in done.stdout
    (item,) = plugin.read("inject", "-f", str(path))["items"]
    (sidecar,) = item["manifest"]["spec"]["template"]["spec"]["initContainers"]
    deployed = client.AppsV1Api(shop.api).read_namespaced_deployment(
        "datakeys-webhook", installation.namespace
    )
    assert sidecar["image"] in str(deployed)


def test_rotation_is_followed_until_every_data_key_is_re_encrypted(
    plugin: Plugin, shop: Objects, controller: Process
) -> None:
    """Under the new material, and the data keys still decrypt to the same."""
    for number in range(3):
        shop.create_request(f"r{number}")
    shop.wait_ready(*(f"r{number}" for number in range(3)))
    former = shop.get(KEYS, "main")["status"]["currentKeyMaterialId"]
    done = plugin.run("rotate", "main", "--re-encrypt", "--wait")
    assert done.returncode == 0, (done.stdout, done.stderr, controller.log.read_text()[-2000:])
    assert done.stdout.splitlines()[-1] == "4/4 re-encrypted, done"
    material = shop.get(KEYS, "main")["status"]["currentKeyMaterialId"]
    assert material != former
    for name in ("orders", "r0", "r1", "r2"):
        assert shop.get(REQUESTS, name)["status"]["keyMaterialId"] == material


def test_viewer_can_t_rotate(plugin: Plugin, members: Users, shop: Objects) -> None:
    """And nothing is changed."""
    before = shop.get(KEYS, "main")["spec"]
    done = plugin.run("rotate", "main", user=members.with_cluster_role("view"))
    assert done.returncode == 3
    assert "cannot patch" in done.stderr
    assert shop.get(KEYS, "main")["spec"] == before
