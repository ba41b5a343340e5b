"""Workloads that the webhook process stamps beside a real API server, and the pods of their templates."""

from typing import Any

import pytest
from kubernetes import client, dynamic
from kubernetes.client.exceptions import ApiException

from chart_installation import named

KEY = {"datakeys.dev/key": "alias/payments"}
GROUPS = {
    "Deployment": "apps",
    "StatefulSet": "apps",
    "DaemonSet": "apps",
    "Job": "batch",
    "CronJob": "batch",
}

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("webhook")


class Workloads:
    """Writes workloads of one namespace."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._client = dynamic.DynamicClient(api)  # type: ignore[no-untyped-call]
        self.namespace = namespace

    def _find(self, kind: str) -> Any:
        return self._client.resources.get(api_version=f"{GROUPS[kind]}/v1", kind=kind)

    def create(self, workload: Json, **options: Any) -> Json:
        """Create a workload; return what is stored."""
        made: Json = (
            self._find(workload["kind"]).create(body=workload, namespace=self.namespace, **options).to_dict()
        )
        return made

    def patch(self, kind: str, patch: Json, name: str = "orders") -> Json:
        """Change a workload by a merge patch; return what is stored."""
        made: Json = (
            self._find(kind)
            .patch(
                body=patch, name=name, namespace=self.namespace, content_type="application/merge-patch+json"
            )
            .to_dict()
        )
        return made

    def apply(self, workload: Json) -> Json:
        """Apply a workload on the server's side; return what is stored."""
        found = self._find(workload["kind"])
        made: Json = found.server_side_apply(
            body=workload, namespace=self.namespace, field_manager="gitops"
        ).to_dict()
        return made

    def replace(self, workload: Json) -> Json:
        """Replace a workload; return what is stored."""
        made: Json = self._find(workload["kind"]).replace(body=workload, namespace=self.namespace).to_dict()
        return made


@pytest.fixture
def workloads(api_client: client.ApiClient, namespace: str) -> Workloads:
    return Workloads(api_client, namespace)


def build_workload(kind: str, annotations: dict[str, str] | None = None, **metadata: Any) -> Json:
    """Return a workload with annotations of its own."""
    labels = {"app": "orders"}
    template: Json = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [{"name": "app", "image": "app:1"}],
            "securityContext": {"runAsUser": 10001},
        },
    }
    spec: Json = {"template": template}
    if kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": labels}
    if kind == "StatefulSet":
        spec["serviceName"] = "orders"
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    described = named("orders", annotations=annotations or {})["metadata"]
    return {
        "apiVersion": f"{GROUPS[kind]}/v1",
        "kind": kind,
        "metadata": {**described, **metadata},
        "spec": spec,
    }


def template_of(workload: Json) -> Json:
    spec = workload["spec"]
    template: Json = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    return template


@pytest.mark.parametrize("kind", GROUPS)
def test_annotated_workload_is_stamped_when_it_is_created(workloads: Workloads, kind: str) -> None:
    """On the object or on its template: the API server sends both, and takes the stamp."""
    on_template = build_workload(kind, name="other")
    template_of(on_template)["metadata"]["annotations"] = KEY
    for workload in (build_workload(kind, KEY), on_template):
        made = workloads.create(workload)
        metadata = template_of(made)["metadata"]
        assert made["metadata"]["labels"]["datakeys.dev/inject"] == "true"
        assert metadata["labels"]["datakeys.dev/inject"] == "true"
        name = workload["metadata"]["name"]
        assert metadata["annotations"]["datakeys.dev/workload"] == f"{kind}/{name}"
        assert metadata["annotations"]["datakeys.dev/key"] == "alias/payments"


@pytest.mark.parametrize("kind", GROUPS)
def test_workload_that_asks_for_nothing_is_stored_as_it_is(workloads: Workloads, kind: str) -> None:
    made = workloads.create(build_workload(kind, {"datakeys.dev/delivery": "pigeon"}))
    assert "datakeys.dev/inject" not in template_of(made)["metadata"]["labels"]
    assert "labels" not in made["metadata"] or "datakeys.dev/inject" not in made["metadata"]["labels"]


@pytest.mark.parametrize("kind", [kind for kind in GROUPS if kind != "Job"])
def test_annotation_that_comes_and_goes_changes_the_template(workloads: Workloads, kind: str) -> None:
    """After both changes the template is what it was."""
    plain = template_of(workloads.create(build_workload(kind)))
    annotated = workloads.patch(kind, {"metadata": {"annotations": KEY}})
    assert template_of(annotated)["metadata"]["annotations"]["datakeys.dev/workload"] == f"{kind}/orders"
    removed = workloads.patch(kind, {"metadata": {"annotations": {"datakeys.dev/key": None}}})
    assert template_of(removed)["metadata"].get("annotations", {}) == {}
    assert template_of(removed)["metadata"]["labels"] == plain["metadata"]["labels"]
    assert template_of(removed)["spec"] == plain["spec"]
    assert removed["metadata"].get("labels", {}) == {}


def test_replacing_with_the_plain_manifest_makes_no_rollout(workloads: Workloads) -> None:
    """The stamp is put again, so the template, and with it the generation, stays."""
    made = workloads.create(build_workload("Deployment", KEY))
    again = workloads.replace(build_workload("Deployment", KEY))
    assert template_of(again) == template_of(made)
    assert again["metadata"]["generation"] == made["metadata"]["generation"]


def test_applying_the_same_manifest_again_makes_no_rollout(workloads: Workloads) -> None:
    """With server-side apply the stamp counts as the applier's, who doesn't send it: it must not flap."""
    manifest = build_workload("Deployment", KEY)
    made = workloads.apply(manifest)
    again = workloads.apply(manifest)
    assert template_of(again) == template_of(made)
    assert template_of(again)["metadata"]["annotations"]["datakeys.dev/workload"] == "Deployment/orders"
    assert again["metadata"]["generation"] == made["metadata"]["generation"]
    plain = workloads.apply(build_workload("Deployment"))
    assert "annotations" not in template_of(plain)["metadata"]
    assert template_of(plain)["metadata"]["labels"] == {"app": "orders"}


def test_job_can_still_be_changed(workloads: Workloads) -> None:
    """Its template is immutable; parallelism and labels aren't."""
    workloads.create(build_workload("Job", KEY))
    changed = workloads.patch("Job", {"spec": {"parallelism": 2}, "metadata": {"labels": {"a": "b"}}})
    assert changed["spec"]["parallelism"] == 2


def test_job_that_asks_too_late_is_refused(workloads: Workloads) -> None:
    workloads.create(build_workload("Job"))
    with pytest.raises(ApiException) as caught:
        workloads.patch("Job", {"metadata": {"annotations": KEY}})
    assert caught.value.status == 422
    assert "create it anew" in str(caught.value.body)


@pytest.mark.parametrize(
    ("kind", "annotations", "start"),
    [
        ("Deployment", {"datakeys.dev/key": "No Key"}, "annotation datakeys.dev/key: must be"),
        ("Deployment", {**KEY, "datakeys.dev/scope": "pod"}, "annotation datakeys.dev/scope: pod is for"),
        ("CronJob", {**KEY, "datakeys.dev/ttl": "soon"}, "annotation datakeys.dev/ttl: must be"),
    ],
)
def test_refusal_names_the_annotation(
    workloads: Workloads, kind: str, annotations: dict[str, str], start: str
) -> None:
    """When the workload is applied, not when its pods fail."""
    with pytest.raises(ApiException) as caught:
        workloads.create(build_workload(kind, annotations))
    assert caught.value.status == 422
    assert start in str(caught.value.body)


def test_job_with_a_generated_name_is_refused(workloads: Workloads) -> None:
    job = build_workload("Job", KEY, generateName="import-")
    del job["metadata"]["name"]
    with pytest.raises(ApiException) as caught:
        workloads.create(job)
    assert "metadata.generateName" in str(caught.value.body)
    job["metadata"]["annotations"] = {"datakeys.dev/requests": "orders"}
    assert template_of(workloads.create(job))["metadata"]["labels"]["datakeys.dev/inject"] == "true"


def test_pod_of_a_stamped_template_mounts_the_workload_s_secret(
    api_client: client.ApiClient, workloads: Workloads
) -> None:
    """The request doesn't exist yet: the pod is admitted without a warning, and waits for the Secret."""
    made = workloads.create(build_workload("StatefulSet", {**KEY, "datakeys.dev/scope": "pod"}))
    template = template_of(made)
    client.CoreV1Api(api_client).create_namespaced_service_account(workloads.namespace, named("default"))
    pod: Any = {
        "metadata": {
            "name": "orders-2",
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
        },
        "spec": template["spec"],
    }
    answer: Any = client.CoreV1Api(api_client).create_namespaced_pod_with_http_info(
        workloads.namespace, pod, dry_run="All"
    )
    created, _, headers = answer
    (encrypted,) = [one for one in created.spec.volumes if one.name == "datakeys-encrypted"]
    (source,) = encrypted.projected.sources
    assert source.secret.name == "orders-2.statefulset"
    assert source.secret.items[0].path.startswith("data-key/")
    assert "Warning" not in headers
