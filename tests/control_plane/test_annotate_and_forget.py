"""Annotate and forget: one annotation by a user with the right on the key, and all the way to the pods.

Webhook, controller and key service are real processes with the chart's rights, and so are the controllers of
Kubernetes that make pods. What is missing is a node: the pods are made, not run.
"""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from annotated_workloads import KINDS, Json, WorkloadClient, build_owner, build_workload
from chart_installation import refusal
from controller_rig import Rig
from custom_objects import KEYS, REQUESTS, Objects
from datakeys.contract.identity import ANNOTATION_INJECTED, ANNOTATION_WORKLOAD, LABEL_INJECT
from kubernetes_controllers import running_controllers
from user_rights import GENERATE, Users
from waiting import eventually
from webhook_rig import running_webhook

NODE = "made-up"
CONTROLLERS = (
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)


@pytest.fixture(scope="module")
def rig(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """Run webhook, key service and controller."""
    folder = tmp_path_factory.mktemp("rig")
    with running_webhook(control_plane, api_client, tmp_path_factory.mktemp("webhook")) as installation:
        rig = Rig(installation, api_client, folder)
        try:
            rig.start_keyservice()
            rig.start_controller().wait_led()
            yield rig
        finally:
            rig.stop_all()


@pytest.fixture(scope="module")
def kubernetes(control_plane: Path, api_client: client.ApiClient, rig: Rig) -> Iterator[None]:
    """Run the controllers of Kubernetes that make pods, each as its own ServiceAccount, and have a node."""
    node: Any = {"metadata": {"name": NODE}}
    core = client.CoreV1Api(api_client)
    core.create_node(node)
    # A new node isn't ready; nobody would say so of this one.
    untainted: Any = {"spec": {"taints": None}}
    core.patch_node(NODE, untainted)
    options = ("--use-service-account-credentials=true",)
    with running_controllers(control_plane, rig.folder, *CONTROLLERS, options=options):
        yield
    core.delete_node(NODE)


@pytest.fixture
def users(rig: Rig, api_client: client.ApiClient, namespace: str) -> Users:
    """Return a namespace with a KMS key and the ServiceAccount of the pods."""
    body: Any = {"metadata": {"name": "app"}}
    client.CoreV1Api(api_client).create_namespaced_service_account(namespace, body)
    objects = Objects(api_client, namespace)
    objects.create_key("payments")
    objects.wait_ready("payments", plural=KEYS)
    return Users(api_client, rig.installation.kubeconfig, namespace)


@pytest.fixture
def alice(users: Users) -> str:
    """Return a user who may write workloads and use the key payments."""
    alice = users.new()
    plurals = [f"{kind.lower()}s" for kind in (*KINDS, "Pod")]
    users.allow_rule(alice, {"apiGroups": ["", "apps", "batch"], "resources": plurals, "verbs": ["*"]})
    users.allow(alice, GENERATE, "payments")
    return alice


def build_plain(kind: str, name: str, key: str | None = None, **options: Any) -> Json:
    """Return a workload as a person writes it: no label, no stamp, and the annotation on the object alone."""
    body = build_workload(kind, name, **options)
    annotations = {} if key is None else {"datakeys.dev/key": key}
    if kind != "Pod":
        spec = body["spec"].get("jobTemplate", body)["spec"]
        metadata = spec["template"]["metadata"]
        del metadata["annotations"], metadata["labels"][LABEL_INJECT]
        spec["template"]["spec"]["securityContext"] = {"runAsUser": 10001}
    else:
        body["spec"]["securityContext"] = {"runAsUser": 10001}
    del body["metadata"]["labels"][LABEL_INJECT]
    body["metadata"]["annotations"] = {**body["metadata"]["annotations"], **annotations}
    if key is None:
        del body["metadata"]["annotations"]["datakeys.dev/key"]
    return body


def find_pods(users: Users, workload: str) -> list[Any]:
    """Return the injected pods of a workload."""
    listed: Any = client.CoreV1Api(users.administrator).list_namespaced_pod(users.namespace)
    return [
        pod
        for pod in listed.items
        if ANNOTATION_INJECTED in pod.metadata.annotations
        and pod.metadata.annotations.get(ANNOTATION_WORKLOAD, workload) == workload
    ]


def mounted(pod: Any) -> set[str]:
    """Return the names of the Secrets that a pod mounts."""
    sources = [
        source
        for volume in pod.spec.volumes
        for source in (volume.projected.sources if volume.projected else [])
    ]
    named = {source.secret.name for source in sources if source.secret}
    return named | {volume.secret.secret_name for volume in pod.spec.volumes if volume.secret}


@pytest.mark.usefixtures("kubernetes")
@pytest.mark.parametrize("kind", KINDS)
def test_one_annotation_is_enough(users: Users, alice: str, kind: str) -> None:
    """The pods that Kubernetes makes mount the Secret of the request that the operator makes."""
    spec = {"schedule": "* * * * *"} if kind == "CronJob" else {}
    with users.acting_as(alice) as objects:
        WorkloadClient(objects.api, users.namespace).create(build_plain(kind, "orders", "payments", **spec))
    if kind == "CronJob":
        _let_it_be_due(users)
    administrator = Objects(users.administrator, users.namespace)
    name = f"orders.{kind.lower()}"
    assert eventually(lambda: administrator.exists(REQUESTS, name))
    administrator.wait_ready(name)
    assert eventually(lambda: bool(find_pods(users, f"{kind}/orders"))), administrator.event_notes("orders")
    for pod in find_pods(users, f"{kind}/orders"):
        assert mounted(pod) == {name}
    assert [item["metadata"]["name"] for item in administrator.list(REQUESTS)] == [name]


def _let_it_be_due(users: Users) -> None:
    """Make a CronJob believe that it ran some time ago, so that its next run is due."""
    ago = (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body: Any = {"status": {"lastScheduleTime": ago}}
    batch = client.BatchV1Api(users.administrator)
    batch.patch_namespaced_cron_job_status("orders", users.namespace, body)


@pytest.mark.usefixtures("kubernetes")
def test_each_pod_of_a_stateful_set_mounts_its_own(users: Users, alice: str) -> None:
    """With the scope pod the name of the request is the name of the pod, on both sides."""
    body = build_plain("StatefulSet", "db", "payments", annotations={"scope": "pod"}, replicas=2)
    body["spec"]["podManagementPolicy"] = "Parallel"
    with users.acting_as(alice) as objects:
        WorkloadClient(objects.api, users.namespace).create(body)
    administrator = Objects(users.administrator, users.namespace)
    assert eventually(lambda: len(find_pods(users, "StatefulSet/db")) == 2)
    for pod in find_pods(users, "StatefulSet/db"):
        assert mounted(pod) == {f"{pod.metadata.name}.statefulset"}
        administrator.wait_ready(f"{pod.metadata.name}.statefulset")


def test_bare_pods_mount_theirs(users: Users, alice: str) -> None:
    """By name, by prefix, or by the owner that somebody else's controller gives them."""
    prefixed = build_plain("Pod", "", "payments")
    prefixed["metadata"] |= {"generateName": "load-", "name": None}
    owner = build_owner("Rollout", "canary", "example.org/v1")
    bodies = [
        build_plain("Pod", "batch", "payments"),
        prefixed,
        build_plain("Pod", "x1", "payments", owners=[owner]),
    ]
    administrator = Objects(users.administrator, users.namespace)
    with users.acting_as(alice) as objects:
        workloads = WorkloadClient(objects.api, users.namespace)
        for body, name in zip(bodies, ("batch.pod", "load.pod", "canary.rollout"), strict=True):
            assert mounted(workloads.create(body)) == {name}
            assert eventually(lambda: administrator.exists(REQUESTS, name))  # noqa: B023
            administrator.wait_ready(name)


@pytest.mark.parametrize("kind", [*KINDS, "Pod"])
def test_annotation_without_the_right_on_the_key_is_refused_at_once(
    users: Users, alice: str, kind: str
) -> None:
    """The label and the stamp that the webhook adds are there when the right is judged."""
    with users.acting_as(alice) as objects:
        workloads = WorkloadClient(objects.api, users.namespace)
        assert '\\"secret\\"' in refusal(workloads.create, build_plain(kind, "orders", "secret"))
        workloads.create(build_plain(kind, "orders", None))
        if kind != "Job":  # its template can't be changed
            change = {
                "metadata": {"annotations": {"datakeys.dev/key": "secret"}, "labels": {LABEL_INJECT: "true"}}
            }
            refusal(workloads.patch, kind, "orders", change)


def read_examples() -> list[Any]:
    """Return the workloads of the user's page."""
    text = (Path(__file__).parents[2] / "docs" / "workloads.md").read_text()
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("example", read_examples(), ids=lambda example: example["kind"])
def test_examples_of_the_documentation_are_accepted(users: Users, alice: str, example: Json) -> None:
    """As they are written, by a user with the right on their key; the webhook stamps each."""
    users.allow(alice, GENERATE, "alias/payments")
    body = {**example, "metadata": {**example["metadata"], "namespace": users.namespace}}
    account = (body["spec"].get("jobTemplate") or body)["spec"]
    named: Any = {"metadata": {"name": (account.get("template") or body)["spec"]["serviceAccountName"]}}
    client.CoreV1Api(users.administrator).create_namespaced_service_account(users.namespace, named)
    with users.acting_as(alice) as objects:
        made = WorkloadClient(objects.api, users.namespace).create(body, dry_run="All")
    assert made.metadata.labels[LABEL_INJECT] == "true"


def test_every_kind_has_an_example() -> None:
    """None is left to the reader."""
    assert {example["kind"] for example in read_examples()} == {*KINDS, "Pod"}


def test_annotation_can_be_taken_back(users: Users, alice: str) -> None:
    """The pods of the next rollout have no data key, which stays."""
    administrator = Objects(users.administrator, users.namespace)
    with users.acting_as(alice) as objects:
        workloads = WorkloadClient(objects.api, users.namespace)
        workloads.create(build_plain("Deployment", "orders", "payments"))
        assert eventually(lambda: administrator.exists(REQUESTS, "orders.deployment"))
        administrator.wait_ready("orders.deployment")
        workloads.annotate("Deployment", "orders", key=None)
    assert eventually(lambda: "Retained" in administrator.event_reasons("orders.deployment"))
