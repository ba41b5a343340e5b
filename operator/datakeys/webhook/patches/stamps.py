"""The decision about one workload: what its annotations ask for is stamped on its pod template.

Zone: no secrets, no I/O. A pod doesn't know its Deployment, so the template must say it; and annotations of
the workload itself never reach its pods. What the stamp brings goes again when the workload no longer asks.
"""

from collections.abc import Mapping
from typing import Any, Final

from datakeys.contract.identity import (
    ANNOTATION_DELETION_POLICY,
    ANNOTATION_ENCRYPTION_CONTEXT,
    ANNOTATION_KEY,
    ANNOTATION_KEY_SPEC,
    ANNOTATION_NUMBER_OF_BYTES,
    ANNOTATION_REQUESTS,
    ANNOTATION_SCOPE,
    ANNOTATION_WORKLOAD,
    LABEL_INJECT,
    USER_ANNOTATIONS,
)
from datakeys.contract.workload import STATEFUL_SET, AnnotationError, Scope, Workload, parse_workload_wish
from datakeys.webhook.patches.annotations import parse_wishes
from datakeys.webhook.patches.injection import INJECT, Injection, build_injection, is_asking
from datakeys.webhook.patches.operations import Operation, add, set_members
from datakeys.webhook.patches.refusal import Refusal, RefusedError
from datakeys.webhook.patches.sidecar import SidecarSettings

WORKLOAD_KINDS: Final = ("Deployment", STATEFUL_SET, "DaemonSet", "Job", "CronJob")
#: These say what data key to make, which only the controller reads: a change of one must not restart the
#: pods.
_NOT_COPIED: Final = frozenset(
    {
        ANNOTATION_KEY_SPEC,
        ANNOTATION_NUMBER_OF_BYTES,
        ANNOTATION_ENCRYPTION_CONTEXT,
        ANNOTATION_DELETION_POLICY,
    }
)
#: What the pods must know.
COPIED: Final = tuple(name for name in USER_ANNOTATIONS if name not in _NOT_COPIED)
_JOB: Final = "Job"
_CRON_JOB: Final = "CronJob"

JsonObject = Mapping[str, Any]


def build_stamps(workload: JsonObject, old: JsonObject | None, settings: SidecarSettings) -> Injection:
    """Decide about a workload of :data:`WORKLOAD_KINDS`.

    Args:
        workload: The object as the API server sends it, with its ``kind``.
        old: What it was before an update; None on creation.
        settings: What would be injected: a template whose pods would be refused makes a warning.
    """
    label = _get_members(workload, "labels").get(LABEL_INJECT, INJECT)
    if workload["metadata"].get("deletionTimestamp") or label != INJECT:
        return Injection()
    dropped = _find_dropped(workload, old)
    asked = _find_asked(workload, dropped)
    try:
        if workload["kind"] == _JOB and old:
            return _judge_job_update(workload, old, asked)
        patch = _build_patch(workload, asked, dropped)
        return Injection(tuple(patch), tuple(_build_warnings(workload, asked, settings)))
    except (RefusedError, AnnotationError) as error:
        # An object from before this webhook: whatever else changes in it must not be held up.
        if old and asked == _find_asked(old, {}):
            return Injection(warnings=(str(error),))
        return Injection(refusal=Refusal(str(error)))


def _get_template(workload: JsonObject) -> dict[str, Any]:
    spec = workload["spec"]
    owner = spec["jobTemplate"]["spec"] if workload["kind"] == _CRON_JOB else spec
    template: dict[str, Any] = owner["template"]
    return template


def _get_members(workload: JsonObject, field: str) -> Mapping[str, str]:
    """Return labels or annotations of the pod template."""
    return (_get_template(workload).get("metadata") or {}).get(field) or {}


def _find_given(workload: JsonObject) -> dict[str, str]:
    """Return the workload's own annotations that its pods must know."""
    annotations = workload["metadata"].get("annotations") or {}
    return {name: annotations[name] for name in COPIED if name in annotations}


def _find_dropped(workload: JsonObject, old: JsonObject | None) -> dict[str, str]:
    """Return the copies in the template of annotations that an update removes from the workload."""
    if not old:
        return {}
    given, present = _find_given(workload), _get_members(workload, "annotations")
    before = _find_given(old).items()
    return {name: value for name, value in before if name not in given and present.get(name) == value}


def _find_asked(workload: JsonObject, dropped: Mapping[str, str]) -> dict[str, str]:
    """Return what is asked for by the template's annotations and the workload's, which win."""
    template = _get_members(workload, "annotations")
    own = workload["metadata"].get("annotations") or {}
    both = {name: value for name, value in template.items() if name not in dropped} | own
    prefix = ANNOTATION_KEY.partition("/")[0]
    return {
        name: value
        for name, value in both.items()
        if name.startswith(f"{prefix}/") and name != ANNOTATION_WORKLOAD
    }


def _judge_job_update(job: JsonObject, old: JsonObject, asked: Mapping[str, str]) -> Injection:
    if _find_given(job) == _find_given(old) or not is_asking(asked):
        return Injection()
    raise RefusedError(
        f"annotation {_find_changed(_find_given(job), _find_given(old))}: a Job's pod template can't be "
        "changed any more; delete the Job and create it anew"
    )


def _find_changed(given: Mapping[str, str], before: Mapping[str, str]) -> str:
    return next(name for name in COPIED if given.get(name) != before.get(name))


def _build_patch(
    workload: JsonObject, asked: Mapping[str, str], dropped: Mapping[str, str]
) -> list[Operation]:
    stamp = _find_stamp(workload, asked)
    given, present = _find_given(workload), _get_members(workload, "annotations")
    was_stamped = ANNOTATION_WORKLOAD in present
    annotations: dict[str, str | None] = dict.fromkeys(dropped)
    labels: dict[str, str | None] = {}
    own_labels: dict[str, str | None] = {}
    if is_asking(asked):
        annotations |= given
        labels[LABEL_INJECT] = INJECT
    else:
        # What the template says must not ask where the workload says no.
        annotations |= {name: value for name, value in given.items() if name in present}
        if _has_label_by_stamp(workload):
            labels[LABEL_INJECT] = None
    if stamp or was_stamped:
        annotations[ANNOTATION_WORKLOAD] = str(stamp) if stamp else None
        own_labels[LABEL_INJECT] = INJECT if stamp else None
    return [
        *set_members("/metadata/labels", workload["metadata"].get("labels"), own_labels),
        *_build_template_patch(workload, labels, annotations),
    ]


def _has_label_by_stamp(workload: JsonObject) -> bool:
    """Return whether the template's label came, or would have come, with what the template asks for."""
    present = _get_members(workload, "annotations")
    return ANNOTATION_WORKLOAD in present or is_asking(present)


def _find_stamp(workload: JsonObject, asked: Mapping[str, str]) -> Workload | None:
    """Return whose data key the pods get, None if they ask for none that the operator makes.

    Raises:
        AnnotationError: An annotation is malformed.
        RefusedError: The workload can't have what it asks for.
    """
    wish = parse_workload_wish(asked)
    if wish is None:
        return None
    kind, metadata = workload["kind"], workload["metadata"]
    if wish.scope is Scope.POD and kind != STATEFUL_SET:
        raise RefusedError(
            f"annotation {ANNOTATION_SCOPE}: pod is for StatefulSets, whose pods keep their names; a {kind} "
            "has one data key for all pods"
        )
    if not metadata.get("name"):
        raise RefusedError(
            f"metadata.generateName: the data key of annotation {ANNOTATION_KEY} is named after the {kind}; "
            f"give metadata.name, or make a DataKeyRequest and name it in annotation {ANNOTATION_REQUESTS}"
        )
    cron_job = _find_cron_job(workload) if kind == _JOB else None
    return cron_job or Workload(kind, metadata["name"])


def _find_cron_job(job: JsonObject) -> Workload | None:
    """Return the CronJob that a Job is a run of, also of one started by ``kubectl create job --from``."""
    stamp = _get_members(job, "annotations").get(ANNOTATION_WORKLOAD, "")
    if stamp.startswith(f"{_CRON_JOB}/"):
        try:
            return Workload.parse(stamp)
        except ValueError as error:
            raise RefusedError(f"annotation {ANNOTATION_WORKLOAD}: is {error}") from None
    owners = job["metadata"].get("ownerReferences") or ()
    return next((Workload(_CRON_JOB, one["name"]) for one in owners if one["kind"] == _CRON_JOB), None)


def _build_template_patch(
    workload: JsonObject, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
) -> list[Operation]:
    path = "/spec/jobTemplate/spec/template" if workload["kind"] == _CRON_JOB else "/spec/template"
    metadata = _get_template(workload).get("metadata")
    present = metadata or {}
    operations = [
        *set_members(f"{path}/metadata/labels", present.get("labels"), labels),
        *set_members(f"{path}/metadata/annotations", present.get("annotations"), annotations),
    ]
    return [add(f"{path}/metadata", {}), *operations] if operations and metadata is None else operations


def _build_warnings(workload: JsonObject, asked: Mapping[str, str], settings: SidecarSettings) -> list[str]:
    """Return why the pods would be refused: here the user sees it at once.

    Raises:
        RefusedError: An annotation is malformed. Everything else may still be mended by others on the way
            from the template to the pod.
    """
    pod = _build_pod(workload, asked)
    if is_asking(asked):
        parse_wishes(pod)
    elif LABEL_INJECT not in _get_members(workload, "labels") or _has_label_by_stamp(workload):
        return []
    refusal = build_injection(pod, {}, settings).refusal
    return [f"pods of this template will be refused: {refusal.message}"] if refusal else []


def _build_pod(workload: JsonObject, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return a pod as the workload would make it."""
    stamp = _find_stamp(workload, asked)
    annotations = {**asked, ANNOTATION_WORKLOAD: str(stamp)} if stamp else asked
    name = f"{workload['metadata'].get('name', '')}-0"
    return {
        "metadata": {"name": name, "labels": {LABEL_INJECT: INJECT}, "annotations": annotations},
        "spec": _get_template(workload)["spec"],
    }
