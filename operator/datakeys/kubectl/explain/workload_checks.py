"""A workload: what it asks for, and which of its pods to look at. Zone: no I/O."""

from collections.abc import Sequence
from typing import Final

from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_REQUESTS, ANNOTATION_SCOPE, LABEL_INJECT
from datakeys.contract.workload import (
    STATEFUL_SET,
    AnnotationError,
    Scope,
    Workload,
    build_request_name,
    parse_workload_wish,
)
from datakeys.kubectl.answers import Json, name_of
from datakeys.kubectl.explain.checks import Check, check_spelling, failed, passed, waits
from datakeys.kubectl.explain.pod_wishes import read_wishes

_REPLICA_FAILURE: Final = "ReplicaFailure"


def find_template(workload: Json) -> Json:
    """Return the pod template of a workload, of a CronJob the one of its jobs."""
    spec = workload.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"].get("spec") or {}
    template = spec.get("template") or {}
    return {**template, "metadata": template.get("metadata") or {}, "spec": template.get("spec") or {}}


def check_workload(kind: str, workload: Json) -> list[Check]:
    """Check annotations and label of a workload, and whether its pods are admitted at all."""
    own = workload["metadata"].get("annotations") or {}
    template = find_template(workload)
    wishes = read_wishes({**template, "metadata": {"name": name_of(workload), **template["metadata"]}})
    misspelt = check_spelling({**(template["metadata"].get("annotations") or {}), **own})
    try:
        wish = parse_workload_wish({**(template["metadata"].get("annotations") or {}), **own})
    except AnnotationError as error:
        return [failed("annotations", str(error), "correct the annotation on the workload")]
    if wish is None and not wishes.asks:
        return [
            *misspelt,
            failed(
                "annotations",
                f"{kind} {name_of(workload)} asks for no data key",
                f"annotate it with {ANNOTATION_KEY}, or its pod template with {ANNOTATION_REQUESTS}",
            ),
        ]
    if wish and wish.scope is Scope.POD and kind != STATEFUL_SET:
        step = "remove it, or make the workload a StatefulSet, whose pods have ordinals"
        return [failed("annotations", f"annotation {ANNOTATION_SCOPE}: pod isn't for a {kind}", step)]
    what = "a data key" if wish or wishes.requests else "the KMS endpoint"
    checks = [*misspelt, passed("annotations", f"{kind} {name_of(workload)} asks for {what}")]
    if wishes.label == "true":
        checks.append(passed("label", f"its pod template has the label {LABEL_INJECT}"))
    else:
        checks.append(
            failed(
                "label",
                f"its pod template lacks the label {LABEL_INJECT}: the webhook hasn't seen the workload",
                "apply the workload again; if the label still doesn't come, the webhook isn't installed",
            )
        )
    return [*checks, *_check_replicas(workload)]


def list_request_names(kind: str, workload: Json) -> list[str]:
    """Return the DataKeyRequests that a workload needs, those that the operator makes for it included."""
    template = find_template(workload)
    annotations = {
        **(template["metadata"].get("annotations") or {}),
        **(workload["metadata"].get("annotations") or {}),
    }
    named = [name.strip() for name in annotations.get(ANNOTATION_REQUESTS, "").split(",") if name.strip()]
    try:
        wish = parse_workload_wish(annotations)
    except AnnotationError:
        return named
    if wish is None:
        return named
    this = Workload(kind, name_of(workload))
    if wish.scope is Scope.WORKLOAD or kind != STATEFUL_SET:
        return [build_request_name(this), *named]
    spec = workload.get("spec") or {}
    first = (spec.get("ordinals") or {}).get("start", 0)
    ordinals = range(first, first + spec.get("replicas", 1))
    return [*(build_request_name(this, ordinal) for ordinal in ordinals), *named]


def build_selector(workload: Json) -> str | None:
    """Return the label selector of a workload's pods as a query, None if it has none (a CronJob)."""
    selector = (workload.get("spec") or {}).get("selector")
    if not selector:
        return None
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        values = f"({','.join(one.get('values') or ())})"
        forms = {
            "In": f"{one['key']} in {values}",
            "NotIn": f"{one['key']} notin {values}",
            "Exists": one["key"],
            "DoesNotExist": f"!{one['key']}",
        }
        parts.append(forms[one["operator"]])
    return ",".join(parts)


def choose_pod(pods: Sequence[Json]) -> Json | None:
    """Return the pod to explain: the newest that isn't ready or done, else the newest; None without pods."""
    newest = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), reverse=True)
    return next((pod for pod in newest if not _is_ready(pod)), next(iter(newest), None))


def _check_replicas(workload: Json) -> list[Check]:
    for one in (workload.get("status") or {}).get("conditions") or ():
        if one["type"] == _REPLICA_FAILURE and one["status"] == "True":
            step = "do what the message says; pods are then created by themselves"
            return [failed("pods", f"its pods can't be created: {one.get('message', '')}", step)]
    return []


def no_pods(kind: str, name: str) -> Check:
    """Return the check of a workload that has no pods."""
    step = f"kubectl describe {kind.lower()} {name} tells why, if it should have some"
    return waits("pods", f"{kind} {name} has no pods", step)


def _is_ready(pod: Json) -> bool:
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    return status.get("phase") == "Succeeded" or any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )
