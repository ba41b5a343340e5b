"""An annotated workload as the decisions see it. Zone: no secrets, no I/O; annotations are untrusted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_WORKLOAD, DEFAULT_SERVICE_ACCOUNT, GROUP
from datakeys.contract.pod_workload import POD
from datakeys.contract.workload import STATEFUL_SET, Workload, find_ordinal
from datakeys.controller.decisions.pod_view import PodView

_CRON_JOB: Final = "CronJob"
#: The kinds that are watched, each with its API version.
API_VERSIONS: Final = {
    "Deployment": "apps/v1",
    STATEFUL_SET: "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    _CRON_JOB: "batch/v1",
}


@dataclass(frozen=True, slots=True)
class Told:
    """The object that is told about a workload by Events."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload that may ask for a data key.

    Attributes:
        workload: Whom the data key is made for.
        uid: UID of that object; None if there is no such object, but pods of one prefix.
        annotations: This project's own, those of the object before those of its pod template.
        service_account: Under which the pods run.
        ordinals: Of the pods of a StatefulSet that there should be; None for another kind.
        told: Doesn't count when two views are compared.
    """

    namespace: str
    workload: Workload
    api_version: str
    uid: str | None
    annotations: Mapping[str, str]
    service_account: str
    ordinals: range | None
    told: Told = field(compare=False)


def parse_workload(kind: str, body: Mapping[str, Any]) -> WorkloadView | None:
    """Return the view of an object of a watched kind; None if there is nothing to do for it.

    That is so if it is being deleted, or if its pods belong to another workload: a Job to its CronJob.
    """
    metadata, template = body["metadata"], _pod_template(kind, body["spec"])
    workload = Workload(kind, metadata["name"])
    if "deletionTimestamp" in metadata or _belongs_to_another(workload, metadata, template):
        return None
    api_version = API_VERSIONS[kind]
    return WorkloadView(
        namespace=metadata["namespace"],
        workload=workload,
        api_version=api_version,
        uid=metadata["uid"],
        annotations={**_own_annotations(template.get("metadata") or {}), **_own_annotations(metadata)},
        service_account=(template.get("spec") or {}).get("serviceAccountName") or DEFAULT_SERVICE_ACCOUNT,
        ordinals=_parse_ordinals(body["spec"]) if kind == STATEFUL_SET else None,
        told=Told(api_version, kind, metadata["name"], metadata["uid"]),
    )


def parse_pod_workload(pod: PodView) -> WorkloadView | None:
    """Return the workload of a pod that asks for a data key itself; None if its workload does that for it.

    A pod with a controlling owner counts as that owner, one of a ``generateName`` as its prefix.
    """
    workload = pod.workload
    if workload is None or pod.deleting or (ANNOTATION_WORKLOAD in pod.annotations and workload.kind != POD):
        return None
    is_owner = pod.owner == workload
    is_pod = workload == Workload(POD, pod.key.name)
    ordinal = find_ordinal(workload, pod.key.name)
    return WorkloadView(
        namespace=pod.key.namespace,
        workload=workload,
        api_version=(pod.owner_api_version or "v1") if is_owner else "v1",
        uid=pod.owner_uid if is_owner else pod.uid if is_pod else None,
        annotations=pod.annotations,
        service_account=pod.service_account,
        ordinals=None if ordinal is None else range(ordinal, ordinal + 1),
        told=Told("v1", POD, pod.key.name, pod.uid),
    )


def reduce_workload(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``parse_workload`` needs of an object, so that a list of thousands isn't held in full."""
    metadata, spec, template = body["metadata"], body["spec"], _pod_template(kind, body["spec"])
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "ownerReferences")
    pod: dict[str, Any] = {
        "metadata": {"annotations": _own_annotations(template.get("metadata") or {})},
        "spec": {"serviceAccountName": (template.get("spec") or {}).get("serviceAccountName")},
    }
    return {
        "metadata": {
            **{name: metadata[name] for name in kept if name in metadata},
            "annotations": _own_annotations(metadata),
        },
        "spec": {
            "replicas": spec.get("replicas"),
            "ordinals": spec.get("ordinals"),
            **({"jobTemplate": {"spec": {"template": pod}}} if kind == _CRON_JOB else {"template": pod}),
        },
    }


def _pod_template(kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    template: Mapping[str, Any] = (spec["jobTemplate"]["spec"] if kind == _CRON_JOB else spec)["template"]
    return template


def _belongs_to_another(workload: Workload, metadata: Mapping[str, Any], template: Mapping[str, Any]) -> bool:
    if any(
        owner.get("controller") and owner["kind"] == _CRON_JOB
        for owner in metadata.get("ownerReferences") or ()
    ):
        return True
    # "kubectl create job --from=cronjob/…" copies the CronJob's template, and with it the stamp.
    stamp = _own_annotations(template.get("metadata") or {}).get(ANNOTATION_WORKLOAD)
    return stamp is not None and stamp != str(workload)


def _own_annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    annotations = metadata.get("annotations") or {}
    return {name: annotations[name] for name in annotations if name.startswith(f"{GROUP}/")}


def _parse_ordinals(spec: Mapping[str, Any]) -> range:
    replicas, start = spec.get("replicas"), (spec.get("ordinals") or {}).get("start") or 0
    return range(start, start + (1 if replicas is None else replicas))
