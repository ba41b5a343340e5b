"""Any pod, any workload: what a real API server accepts stays valid, and changes by our own fields alone.

Everything goes through the running webhook by server-side dry run, beside the same object that doesn't ask.
"""

import copy
import re
from dataclasses import dataclass, replace
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client, dynamic

from chart_installation import Installation, named
from datakeys.webhook.patches import SidecarKind, SidecarSettings, build_injection, build_stamps
from datakeys.webhook.patches.aws_endpoint import DUMMY_CREDENTIALS, ENDPOINT_VARIABLE, REGION_VARIABLES
from datakeys.webhook.patches.stamps import COPIED
from pod_shapes import annotations, pod_specs

Json = dict[str, Any]

OWN_VOLUME = re.compile(r"datakeys-(keys|encrypted|token|trust)(-[0-9]+)?")
OWN_CONTAINERS = ("datakeys-sidecar", "datakeys-sidecar-start")
OWN_VARIABLES = {ENDPOINT_VARIABLE, *REGION_VARIABLES, *DUMMY_CREDENTIALS}
#: The API server's own token volume has a random name.
RANDOM = re.compile(r"kube-api-access-[a-z0-9]+")
#: Given anew to every object.
VOLATILE = ("uid", "creationTimestamp", "managedFields", "generation", "resourceVersion")
KINDS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}
NATIVE = SidecarSettings("datakeys-sidecar:test", "Never", "https://k.example", "c-1")
ORDINARY = replace(NATIVE, kind=SidecarKind.ORDINARY)

searching = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@dataclass
class DryRun:
    """Creates objects by server-side dry run, in a namespace without limits or in a restricted one."""

    api: client.ApiClient
    free: str
    restricted: str

    def create_pod(self, pod: Any, *, restricted: bool) -> Json:
        """Return what would be stored."""
        namespace = self.restricted if restricted else self.free
        made = client.CoreV1Api(self.api).create_namespaced_pod(namespace, pod, dry_run="All")
        stored: Json = self.api.sanitize_for_serialization(made)  # type: ignore[no-untyped-call]
        return stored

    def create(self, workload: Json) -> Json:
        """Return what would be stored."""
        resources = dynamic.DynamicClient(self.api).resources  # type: ignore[no-untyped-call]
        found = resources.get(api_version=workload["apiVersion"], kind=workload["kind"])
        made: Json = found.create(body=workload, namespace=self.free, dry_run="All").to_dict()
        return made


@pytest.fixture(scope="module")
def dry_run(api_client: client.ApiClient, webhook: Installation) -> DryRun:
    """Make both namespaces."""
    core = client.CoreV1Api(api_client)
    found = DryRun(api_client, f"{webhook.namespace}-free", f"{webhook.namespace}-restricted")
    for name, level in ((found.free, "privileged"), (found.restricted, "restricted")):
        core.create_namespace(named(name, labels={"pod-security.kubernetes.io/enforce": level}))
        core.create_namespaced_service_account(name, named("app"))
    return found


def build_pod(spec: Json, asked: dict[str, str] | None = None, **metadata: Any) -> Json:
    described = {"name": "app-0", "labels": {"app": "x"}, "annotations": {"note": "stays", **(asked or {})}}
    return {"metadata": {**described, **metadata}, "spec": copy.deepcopy(spec)}


def normalise(stored: Json) -> Json:
    """Return an object without what the API server gives each anew; absent lists are empty."""
    found: Json = _rename(copy.deepcopy(stored))
    for name in VOLATILE:
        found["metadata"].pop(name, None)
    for condition in (found.get("status") or {}).get("conditions", []):
        condition.pop("lastTransitionTime", None)
    return found


def _rename(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rename(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rename(item) for item in value]
    return RANDOM.sub("kube-api-access", value) if isinstance(value, str) else value


def own_volumes(plain: Json, injected: Json) -> set[str]:
    """Return the names of the volumes that the injection brought."""
    before = {one["name"] for one in plain["spec"].get("volumes", [])}
    names = {one["name"] for one in injected["spec"].get("volumes", [])} - before
    return {name for name in names if OWN_VOLUME.fullmatch(name)}


def strip(pod: Json, own: set[str], asked: dict[str, str]) -> Json:
    """Return a stored pod without what is the webhook's."""
    found = normalise(pod)
    for name in ("datakeys.dev/injected", *asked):
        found["metadata"]["annotations"].pop(name, None)
    found["metadata"]["labels"].pop("datakeys.dev/inject", None)
    spec = found["spec"]
    for kind in ("containers", "initContainers"):
        spec[kind] = [one for one in spec.get(kind, []) if one["name"] not in OWN_CONTAINERS]
        for one in spec[kind]:
            one["volumeMounts"] = [mount for mount in one.get("volumeMounts", []) if mount["name"] not in own]
            one["env"] = [
                variable for variable in one.get("env", []) if variable["name"] not in OWN_VARIABLES
            ]
    spec["volumes"] = [one for one in spec.get("volumes", []) if one["name"] not in own]
    # A pod without any resources gets some by its sidecar; every other class stays.
    if found["status"].get("qosClass") in ("BestEffort", "Burstable"):
        found["status"]["qosClass"] = "not Guaranteed"
    return found


@searching
@given(st.data(), st.booleans())
def test_any_pod_stays_valid_and_keeps_everything_of_its_own(
    dry_run: DryRun, data: st.DataObject, restricted: bool
) -> None:
    """Accepted without asking, accepted with it; the difference is ours alone, and comes once."""
    spec = data.draw(pod_specs(restricted=restricted))
    asked = data.draw(annotations(spec))
    plain = dry_run.create_pod(build_pod(spec), restricted=restricted)
    injected = dry_run.create_pod(build_pod(spec, asked), restricted=restricted)
    own = own_volumes(plain, injected)
    assert len(own) == (2 if set(asked) & {"datakeys.dev/key", "datakeys.dev/requests"} == set() else 4)
    assert injected["spec"]["initContainers"][0]["name"] == "datakeys-sidecar"
    assert strip(injected, own, asked) == strip(plain, set(), asked)
    metadata = {name: injected["metadata"][name] for name in ("name", "labels", "annotations")}
    again = dry_run.create_pod({"metadata": metadata, "spec": injected["spec"]}, restricted=restricted)
    assert normalise(again) == normalise(injected)


@searching
@given(st.data(), st.booleans())
def test_any_pod_stays_valid_with_an_ordinary_sidecar(
    dry_run: DryRun, data: st.DataObject, restricted: bool
) -> None:
    """The other kind of sidecar, by the same pure function; the webhook takes such a pod as injected."""
    spec = data.draw(pod_specs(restricted=restricted))
    asked = data.draw(annotations(spec))
    asked.pop("datakeys.dev/containers", None)
    pod = build_pod(spec, asked)
    decision = build_injection(pod, {}, ORDINARY)
    assert decision.refusal is None
    patched = jsonpatch.apply_patch(pod, list(decision.patch))
    plain = dry_run.create_pod(build_pod(spec), restricted=restricted)
    injected = dry_run.create_pod(patched, restricted=restricted)
    assert strip(injected, own_volumes(plain, injected), asked) == strip(plain, set(), asked)


def build_workload(kind: str, spec: Json, own: dict[str, str], template: dict[str, str]) -> Json:
    restart_policy = {"restartPolicy": "Never"} if kind in ("Job", "CronJob") else {}
    pods = {
        "metadata": {"labels": {"app": "x"}, "annotations": {"note": "stays", **template}},
        "spec": {**copy.deepcopy(spec), **restart_policy},
    }
    found: Json = {"template": pods}
    if not restart_policy:
        found["selector"] = {"matchLabels": {"app": "x"}}
        pods["spec"].pop("activeDeadlineSeconds", None)
    if kind == "CronJob":
        found = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": found}}
    # A Job without labels gets its template's.
    metadata = {"name": "app", "labels": {"team": "x"}, "annotations": {"team": "x", **own}}
    return {"apiVersion": KINDS[kind], "kind": kind, "metadata": metadata, "spec": found}


def template_of(workload: Json) -> Json:
    spec = workload["spec"]
    template: Json = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    return template


def strip_uid(workload: Json) -> Json:
    """Return a stored workload without the uid that the API server writes into a Job's labels."""
    found = copy.deepcopy(workload)
    selector = found["spec"].get("selector") or {}
    for members in (template_of(found)["metadata"]["labels"], selector.get("matchLabels", {})):
        for name in ("controller-uid", "batch.kubernetes.io/controller-uid"):
            members.pop(name, None)
    return found


def strip_stamp(workload: Json) -> Json:
    """Return a stored workload without annotations and labels of the operator."""
    found = normalise(strip_uid(workload))
    for metadata in (found["metadata"], template_of(found)["metadata"]):
        for field in ("labels", "annotations"):
            members = metadata.get(field) or {}
            metadata[field] = {name: value for name, value in members.items() if "datakeys.dev/" not in name}
    return found


@searching
@given(st.data(), st.sampled_from(sorted(KINDS)), st.booleans())
def test_any_workload_stays_valid_and_its_pods_are_injected(
    dry_run: DryRun, data: st.DataObject, kind: str, on_template: bool
) -> None:
    """Accepted without asking, accepted and stamped with it, and a pod of its template is accepted too."""
    spec = data.draw(pod_specs(restricted=False))
    asked = data.draw(annotations(spec))
    own, template = ({}, asked) if on_template else (asked, {})
    plain = dry_run.create(build_workload(kind, spec, {}, {}))
    manifest = build_workload(kind, spec, own, template)
    stamped = dry_run.create(manifest)
    assert strip_stamp(stamped) == strip_stamp(plain)
    metadata = template_of(stamped)["metadata"]
    assert metadata["labels"]["datakeys.dev/inject"] == "true"
    assert {name for name in metadata["annotations"] if name in asked} >= set(asked) & set(COPIED)
    workload = metadata["annotations"].get("datakeys.dev/workload")
    assert workload == (f"{kind}/app" if "datakeys.dev/key" in asked else None)
    again = jsonpatch.apply_patch(manifest, list(build_stamps(manifest, None, NATIVE).patch))
    assert normalise(strip_uid(dry_run.create(again))) == normalise(strip_uid(stamped))
    pod = build_pod(template_of(stamped)["spec"], metadata["annotations"], labels=metadata["labels"])
    made = dry_run.create_pod(pod, restricted=False)
    assert made["spec"]["initContainers"][0]["name"] == "datakeys-sidecar"
