"""Who may ask for a data key by annotation, judged by a real API server.

The webhook's registration is removed: what it adds to a workload is in the builders.
"""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from annotated_workloads import KINDS, Json, WorkloadClient, build_owner, build_workload
from chart_installation import CONTROLLER, Installation, installed_chart, refusal
from custom_objects import REQUESTS, Objects
from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_WORKLOAD, LABEL_INJECT
from datakeys.controller.decisions.pod_view import parse_pod
from datakeys.controller.decisions.workload_request import decide_wanted_requests
from datakeys.controller.decisions.workload_view import parse_pod_workload, parse_workload
from in_force import leave_webhook_out
from kubernetes_controllers import running_controllers
from user_rights import GENERATE, Users, try_to
from waiting import wait_for
from workloads import build_request

ARN = "arn:k8s:kms:cluster-1:other:key/0a1b2c3d-0000-4000-8000-00000000000f"
ALL_KINDS = (*KINDS, "Pod")
PLURALS = [f"{kind.lower()}s" for kind in ALL_KINDS]
THIRD_PARTY = build_owner("Rollout", "orders", "example.org/v1")


@pytest.fixture(scope="module")
def installation(control_plane: Path, api_client: client.ApiClient) -> Iterator[Installation]:
    """The chart without the webhook's registration."""
    with installed_chart(control_plane) as installation:
        leave_webhook_out(api_client)
        yield installation


@pytest.fixture
def user(users: Users) -> str:
    """A user who may write workloads, and has no right on keys."""
    user = users.new()
    groups = ["", "apps", "batch"]
    rule = {"apiGroups": groups, "resources": PLURALS, "verbs": ["create", "update", "patch", "delete"]}
    users.allow_rule(user, rule)
    core = client.CoreV1Api(users.administrator)
    body: Any = {"metadata": {"name": "app"}}
    core.create_namespaced_service_account(users.namespace, body)
    return user


@contextmanager
def acting(users: Users, user: str) -> Iterator[WorkloadClient]:
    """Yield the namespace's workloads as a user sees them."""
    with users.acting_as(user) as objects:
        yield WorkloadClient(objects.api, users.namespace)


@pytest.fixture
def administrator(users: Users) -> WorkloadClient:
    """The namespace's workloads as the administrator sees them."""
    return WorkloadClient(users.administrator, users.namespace)


@pytest.mark.parametrize("on_template", [False, True], ids=["on-object", "on-template"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_annotation_needs_the_right_on_its_key(users: Users, user: str, kind: str, on_template: bool) -> None:
    """Who has no right on the key may not ask for a data key under it; with the right on that name he may."""
    body = build_workload(kind, on_template=on_template)
    users.allow(user, GENERATE, "another")
    with acting(users, user) as workloads:
        text = refusal(workloads.create, body)
        for part in (
            f'user \\"{user}\\"',
            f"kmskeys/{GENERATE}",
            '\\"alias/main\\"',
            "annotation datakeys.dev/key",
        ):
            assert part in text, part
        users.allow(user, GENERATE, "alias/main")
        workloads.create(body)


@pytest.mark.parametrize("kind", KINDS)
def test_annotation_of_the_object_counts_before_that_of_its_template(
    users: Users, user: str, kind: str
) -> None:
    """A right on the template's key is none on the object's, by which the data key is made."""
    body = build_workload(kind, annotations={"key": "secret"})
    template = body["spec"].get("template") or body["spec"]["jobTemplate"]["spec"]["template"]
    template["metadata"]["annotations"][ANNOTATION_KEY] = "main"
    users.allow(user, GENERATE, "main")
    with acting(users, user) as workloads:
        assert '\\"secret\\"' in refusal(workloads.create, body)


@pytest.mark.parametrize(
    ("key", "rbac_name"),
    [
        ("main", "main"),
        (" main ", "main"),
        (ARN, ARN.rpartition("/")[2]),
        ("arn:k8s:kms:cluster-1:other:alias/team/main", "alias/team/main"),
    ],
)
def test_rbac_compares_the_name_that_a_request_would_have(
    users: Users, user: str, key: str, rbac_name: str
) -> None:
    """Each form of naming a key needs the right on the same name as in a DataKeyRequest."""
    users.allow(user, GENERATE, rbac_name)
    with acting(users, user) as workloads:
        workloads.create(build_workload("Deployment", annotations={"key": key}))


@pytest.mark.parametrize("key", ["", "arn:nothing"])
def test_key_that_names_nothing_needs_the_right_on_all_keys(users: Users, user: str, key: str) -> None:
    """What can't be compared isn't let through."""
    users.allow(user, GENERATE, "main")
    with acting(users, user) as workloads:
        refusal(workloads.create, build_workload("Deployment", annotations={"key": key}))


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {ANNOTATION_KEY: "secret"}}},
        {"metadata": {"annotations": {"datakeys.dev/scope": "pod"}}},
        {"spec": {"template": {"spec": {"serviceAccountName": "other"}}}},
    ],
    ids=["key", "scope", "service-account"],
)
def test_change_that_gives_a_data_key_to_others_is_judged(
    users: Users, user: str, administrator: WorkloadClient, change: Json
) -> None:
    """Another key, other data keys or another ServiceAccount need the right on the key."""
    administrator.create(build_workload("StatefulSet"))
    with acting(users, user) as workloads:
        assert f"kmskeys/{GENERATE}" in refusal(workloads.patch, "StatefulSet", "orders", change)
        users.allow(user, GENERATE)
        workloads.patch("StatefulSet", "orders", change)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"replicas": 5}},
        {"spec": {"template": {"metadata": {"annotations": {"restarted-at": "now"}}}}},
        {"metadata": {"annotations": {ANNOTATION_KEY: None}}, "spec": {"template": {"metadata": None}}},
    ],
    ids=["scale", "restart", "give-up"],
)
def test_other_changes_need_no_right_on_the_key(
    users: Users, user: str, administrator: WorkloadClient, change: Json
) -> None:
    """Scaling, restarting and giving the data key up are for whoever may write the workload."""
    administrator.create(build_workload("Deployment"))
    change = {**change}
    if change.get("spec", {}).get("template", {}).get("metadata", {}) is None:
        change["spec"] = {"template": {"metadata": {"annotations": {ANNOTATION_KEY: None}}}}
    with acting(users, user) as workloads:
        workloads.patch("Deployment", "orders", change)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_annotation_and_label_added_later_are_judged(
    users: Users, user: str, administrator: WorkloadClient, kind: str
) -> None:
    """A harmless object can't be turned into one that gets a data key, in one step or in two."""
    body = build_workload(kind)
    # Not empty: a Job without labels gets those of its template.
    body["metadata"]["labels"] = {"app": "test"}
    administrator.create(body)
    with acting(users, user) as workloads:
        refusal(workloads.patch, kind, "orders", {"metadata": {"labels": {LABEL_INJECT: "true"}}})
        workloads.annotate(kind, "orders", key="other")
        refusal(workloads.patch, kind, "orders", {"metadata": {"labels": {LABEL_INJECT: "true"}}})


def test_pods_of_a_stamped_workload_are_not_judged_again(users: Users, administrator: WorkloadClient) -> None:
    """The cluster's own controllers, without a right on keys, create pods and Jobs of annotated workloads."""
    administrator.create(build_workload("CronJob", "backup"))
    pod = build_workload(
        "Pod", "orders-1", stamp="Deployment/orders", owners=[build_owner("ReplicaSet", "o", "apps/v1")]
    )
    job = build_workload(
        "Job", "backup-1", stamp="CronJob/backup", owners=[build_owner("CronJob", "backup", "batch/v1")]
    )
    unstamped_job = {**job, "metadata": {**job["metadata"], "name": "backup-2"}}
    core = client.CoreV1Api(users.administrator)
    body: Any = {"metadata": {"name": "app"}}
    core.create_namespaced_service_account(users.namespace, body)
    for account in ("replicaset-controller", "cronjob-controller"):
        name = f"system:serviceaccount:kube-system:{account}"
        users.allow_rule(
            name, {"apiGroups": ["", "batch"], "resources": ["pods", "jobs"], "verbs": ["create"]}
        )
        with acting(users, name) as workloads:
            for item in (pod, job, unstamped_job):
                workloads.create(item, dry_run="All")


@pytest.mark.parametrize("kind", ["Pod", "Job"])
def test_owned_object_may_use_the_right_of_its_service_account(users: Users, user: str, kind: str) -> None:
    """Other controllers need no right if their pods' ServiceAccount has it; an owner alone is no right."""
    body = build_workload(kind, owners=[THIRD_PARTY])
    account = f"system:serviceaccount:{users.namespace}:app"
    with acting(users, user) as workloads:
        assert '(nor may the ServiceAccount \\"app\\" of its pods)' in refusal(workloads.create, body)
        users.allow(account, GENERATE, "alias/main")
        workloads.create(body)
        refusal(workloads.create, build_workload(kind, "unowned"))


@pytest.mark.parametrize(
    "change",
    [{ANNOTATION_KEY: "secret"}, {ANNOTATION_WORKLOAD: None}, {ANNOTATION_WORKLOAD: "Pod/other"}],
    ids=["key", "stamp-removed", "stamp-forged"],
)
def test_change_of_a_running_pod_is_judged(
    users: Users, user: str, administrator: WorkloadClient, change: Json
) -> None:
    """A pod of a stamped workload can't be turned into one that gets a data key of its own."""
    account: Json = {"stamp": "Deployment/orders", "owners": [THIRD_PARTY]}
    if ANNOTATION_KEY in change:
        account = {}
    administrator.create(build_workload("Pod", **account))
    with acting(users, user) as workloads:
        refusal(workloads.patch, "Pod", "orders", {"metadata": {"annotations": change}})
        workloads.patch("Pod", "orders", {"metadata": {"annotations": {"other": "x"}}})


def test_removal_of_an_annotated_workload_is_not_held_up(users: Users, administrator: WorkloadClient) -> None:
    """The garbage collector takes its finalizer off an object that the policies never saw in this state."""
    body = build_workload("Deployment")
    body["metadata"]["labels"].pop(LABEL_INJECT)
    body["metadata"]["finalizers"] = ["example.org/wait"]
    administrator.create(body)
    administrator.delete("Deployment", "orders")
    name = "system:serviceaccount:kube-system:generic-garbage-collector"
    with acting(users, name) as workloads:
        change: Json = {"metadata": {"finalizers": None, "labels": {LABEL_INJECT: "true"}}}
        workloads.patch("Deployment", "orders", change)


def build_shapes(kind: str) -> Iterator[Json]:
    """Return workloads of a kind with every combination of what decides whether the controller acts."""
    stamps = [None, f"{kind}/orders", f"{kind}/other", "CronJob/orders", "Pod/other", "nonsense"]
    owners: list[list[Json]] = [[]]
    for owner_kind, controls in product(("CronJob", "ReplicaSet", "Node", "Rollout"), (True, False)):
        owners.append([{**build_owner(owner_kind, "orders", "example.org/v1"), "controller": controls}])
    for label, stamp, owner, keyed in product(
        ("true", "false", None), stamps, owners, ("object", "pods", None)
    ):
        body = build_workload(kind, owners=owner)
        spec = body["spec"].get("jobTemplate", body)["spec"]
        for metadata, has_key in (
            (spec.get("template", body)["metadata"], keyed == "pods"),
            (body["metadata"], keyed == "object" or (kind == "Pod" and keyed == "pods")),
        ):
            metadata["annotations"] = {ANNOTATION_KEY: "main"} if has_key else {}
        if stamp:
            spec.get("template", body)["metadata"]["annotations"][ANNOTATION_WORKLOAD] = stamp
        body["metadata"]["labels"] = {"app": "test"} | ({LABEL_INJECT: label} if label else {})
        yield body


def is_acted_on(kind: str, body: Json) -> bool:
    """Return whether the controller would make a request for an object that the API server has accepted."""
    if body["metadata"]["labels"].get(LABEL_INJECT) != "true":
        return False
    stored = {**body, "metadata": {"namespace": "t", "uid": "u", "resourceVersion": "1", **body["metadata"]}}
    view = parse_pod_workload(parse_pod(stored)) if kind == "Pod" else parse_workload(kind, stored)
    return view is not None and decide_wanted_requests(view) is not None


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_exactly_what_the_controller_acts_on_is_judged(users: Users, user: str, kind: str) -> None:
    """There is no shape by which a user without the right gets a data key, and none is refused in vain."""
    outcomes: dict[bool, int] = {True: 0, False: 0}
    with acting(users, user) as workloads:
        for body in build_shapes(kind):
            acted_on = is_acted_on(kind, body)
            refused = f"kmskeys/{GENERATE}" in try_to(workloads.create, body, dry_run="All")
            assert refused == acted_on, body
            outcomes[acted_on] += 1
    assert all(outcomes.values()), outcomes


@pytest.mark.parametrize(
    "kind", [kind for kind in ALL_KINDS if kind != "Job"]
)  # its template can't be changed
def test_exactly_the_updates_by_which_the_controller_acts_anew_are_judged(
    users: Users, user: str, administrator: WorkloadClient, kind: str
) -> None:
    """Judged is a change to what the controller acts on, from what it didn't act on under the same key."""
    chance = random.Random(f"updates of {kind}")  # noqa: S311 - picks test cases
    shapes = list(build_shapes(kind))
    outcomes: dict[bool, int] = {True: 0, False: 0}
    # Half of the shapes are acted on in the beginning: most changes would otherwise change nothing.
    acted_on = [body for body in shapes if is_acted_on(kind, body)]
    with acting(users, user) as workloads:
        for number in range(60):
            old, new = (copy.deepcopy(chance.choice(chance.choice([shapes, acted_on]))) for _ in range(2))
            changes_key = chance.random() < 0.3
            if changes_key:
                for metadata in _metadata_of(new):
                    metadata["annotations"] = {
                        name: "other" if name == ANNOTATION_KEY else value
                        for name, value in metadata["annotations"].items()
                    }
            expected = is_acted_on(kind, new) and (changes_key or not is_acted_on(kind, old))
            old["metadata"]["name"] = new["metadata"]["name"] = "orders"
            made = administrator.create(old)
            stored = users.administrator.sanitize_for_serialization(made)  # type: ignore[no-untyped-call]
            for present, wanted in zip(_metadata_of(stored), _metadata_of(new), strict=True):
                present |= {part: wanted.get(part) for part in ("labels", "annotations", "ownerReferences")}
            refused = f"kmskeys/{GENERATE}" in try_to(
                workloads.replace, kind, "orders", stored, dry_run="All"
            )
            assert refused == expected, (number, old, new)
            outcomes[expected] += 1
            administrator.delete(kind, "orders")
    assert min(outcomes.values()) > 5, outcomes


def _metadata_of(body: Json) -> list[Json]:
    """Return the metadata of an object and of its pod template, if it has one."""
    spec = body["spec"].get("jobTemplate", body)["spec"]
    return [body["metadata"], *([spec["template"]["metadata"]] if "template" in spec else [])]


# The requests that the controller makes.
def _made(namespace: str, name: str = "orders.deployment", **spec: Any) -> Json:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"}
    return build_request(namespace, name, workloadRef=ref, **spec)


def test_controller_makes_requests_of_workloads_without_a_right_on_keys(
    installation: Installation, users: Users
) -> None:
    """It is exempt for requests that look as it makes them, and for no others."""
    with installation.acting_as(CONTROLLER) as api:
        objects = Objects(api, users.namespace)
        objects.create(REQUESTS, _made(users.namespace))
        for body in (
            build_request(users.namespace, "plain"),
            _made(users.namespace, "plain"),
            _made(users.namespace, "b.deployment", secretName="other"),
            _made(users.namespace, "c.deployment", grantTokens=["x"]),
        ):
            assert f"kmskeys/{GENERATE}" in refusal(objects.create, REQUESTS, body)


def test_exemption_is_for_the_controller_alone(users: Users) -> None:
    """A user's request of the same shape is judged like any other."""
    with users.acting_as(users.new()) as objects:
        refusal(objects.create, REQUESTS, _made(users.namespace))


@pytest.mark.usefixtures("installation")
def test_policies_have_no_type_errors(
    control_plane: Path, api_client: client.ApiClient, tmp_path: Path
) -> None:
    """Kubernetes finds nothing to warn of in the expressions, for any kind that they judge."""
    admission = client.AdmissionregistrationV1Api(api_client)

    def checks() -> dict[str, Any]:
        policies: Any = admission.list_validating_admission_policy().items
        return {one.metadata.name: one.status.type_checking for one in policies}

    with running_controllers(control_plane, tmp_path, "validatingadmissionpolicy-status-controller"):
        wait_for(lambda: None not in checks().values(), "all policies are checked")
    assert "datakeys-annotated-workloads" in checks()
    assert {name: one.expression_warnings for name, one in checks().items() if one.expression_warnings} == {}


def _warnings(workloads: WorkloadClient, body: Json) -> str:
    """Return what the API server warns of when a workload is created."""
    response = workloads.create(body, dry_run="All", _preload_content=False)
    return str(response.headers.get("Warning") or "")


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_misspelt_annotation_is_warned_of(administrator: WorkloadClient, kind: str) -> None:
    """It would be without effect in silence; a right one is no reason to warn."""
    assert not _warnings(administrator, build_workload(kind, annotations={"delivery": "socket"}))
    body = build_workload(kind, annotations={"deliver": "socket"}, on_template=kind != "Pod")
    assert "annotation datakeys.dev/deliver is unknown" in _warnings(administrator, body)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        (
            {"datakeys.dev/keys": "main"},
            "datakeys.dev/keys is unknown and has no effect; there are key, key-spec,",
        ),
        ({"datakeys.dev/ttl": "15m"}, "datakeys.dev/ttl has no effect without datakeys.dev/key, "),
        ({"datakeys.dev/aws-endpoint": "yes"}, "datakeys.dev/aws-endpoint: must be"),
        ({"example.org/keys": "main"}, ""),
    ],
    ids=["misspelt-key", "nothing-asked-for", "endpoint", "another-project"],
)
def test_a_pod_that_asks_for_nothing_by_mistake_is_warned_of(
    administrator: WorkloadClient, annotations: Json, text: str
) -> None:
    """The webhook is asked only about pods that ask for something, so it can't tell these."""
    body = build_workload("Pod")
    body["metadata"]["annotations"] = annotations
    del body["metadata"]["labels"]
    warnings = _warnings(administrator, body)
    assert text in warnings
    assert bool(text) == bool(warnings)
