"""Which pods and workloads lack what they asked for, and what a person is told. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_WORKLOAD, LABEL_INJECT
from datakeys.contract.workload import Workload
from datakeys.controller.decisions.pod_view import PodView

#: Controllers that make a pod again whatever became of the former one. A Job counts an evicted pod as failed.
REPLACING_OWNERS: Final = frozenset({"ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet"})
_ENDED: Final = frozenset({"Succeeded", "Failed"})
#: Workloads whose pods are replaced by ``kubectl rollout restart``.
_RESTARTABLE: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


def is_uninjected(pod: PodView) -> bool:
    """Return whether a labelled pod runs, or is about to run, without its sidecar."""
    return not pod.injected and not pod.deleting and pod.phase not in _ENDED


def is_evictable(pod: PodView) -> bool:
    """Return whether a pod comes back by itself after an eviction."""
    return pod.owner is not None and pod.owner.kind in REPLACING_OWNERS


def describe_uninjected(pod: PodView, *, excluded: bool) -> str:
    """Return what a person is told about an uninjected pod: what is so, why, and the next step."""
    if excluded:
        return (
            f"The pod has the label {LABEL_INJECT} but no sidecar: its namespace is excluded from injection. "
            f"Run it in another namespace, take this one out of the chart's excludedNamespaces, "
            "or remove the label"
        )
    return (
        f"The pod has the label {LABEL_INJECT} but no sidecar, so it gets no data key: it was admitted "
        "without the webhook (webhook.failurePolicy Ignore, or before the chart was installed). "
        f"{_next_step(pod)}"
    )


def is_unstamped(kind: str, workload: Mapping[str, Any]) -> bool:
    """Return whether a workload asks for a data key by annotation and was never seen by the webhook.

    A workload with a controller is that one's business; a Job that has ended needs nothing any more.
    """
    metadata = workload["metadata"]
    if (metadata.get("labels") or {}).get(LABEL_INJECT) == "true" or "deletionTimestamp" in metadata:
        return False
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or ()):
        return False
    if kind == "Job" and (workload.get("status") or {}).get("completionTime"):
        return False
    return any(ANNOTATION_KEY in (one.get("annotations") or {}) for one in (metadata, *_templates(workload)))


def describe_unstamped(workload: Workload, *, excluded: bool) -> str:
    """Return what a person is told about an unstamped workload."""
    if excluded:
        return (
            f"The annotation {ANNOTATION_KEY} has no effect: the namespace is excluded from injection. Run "
            "the workload in another namespace, or take this one out of the chart's excludedNamespaces"
        )
    text = f"The annotation {ANNOTATION_KEY} was written without the webhook, so the pods get no data key. "
    name = f"{workload.kind.lower()}/{workload.name}"
    if workload.kind in _RESTARTABLE:
        return f"{text}Next step: kubectl rollout restart {name}"
    if workload.kind == "Job":
        return (
            f"{text}Next step: delete {name} and create it again; the pod template of a Job can't be changed"
        )
    return f"{text}Next step: apply {name} again with a change, such as one more annotation"


def _templates(workload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metadata of a workload's pod template; a CronJob's is in its Job's."""
    spec = workload.get("spec") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    return [(one.get("template") or {}).get("metadata") or {} for one in (spec, job)]


def _next_step(pod: PodView) -> str:
    delete = f"kubectl delete pod {pod.key.name} -n {pod.key.namespace}"
    kind, _, name = pod.annotations.get(ANNOTATION_WORKLOAD, "").partition("/")
    if kind in _RESTARTABLE and name:
        return f"Next step: kubectl rollout restart {kind.lower()}/{name} -n {pod.key.namespace}"
    if pod.owner is None:
        return f"Next step: {delete}, then create it again"
    return f"Next step: {delete}; {pod.owner} makes it again"
