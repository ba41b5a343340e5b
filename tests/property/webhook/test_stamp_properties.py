"""Any workload: the stamp comes once, goes without a trace, and touches nothing that isn't the operator's."""

import copy
from typing import Any

import jsonpatch
from hypothesis import example, given
from hypothesis import strategies as st

from datakeys.webhook.patches import (
    WORKLOAD_KINDS,
    SidecarSettings,
    build_injection,
    build_stamps,
)

SETTINGS = SidecarSettings("datakeys-sidecar:test", "Always", "https://keyservice.example.svc:443", "c-1")
#: What a user may write, each with sound values.
SOUND = {
    "key": ["alias/payments", "main"],
    "key-name": ["k", "data-key"],
    "key-spec": ["AES_128"],
    "encryption-context": ["a=b"],
    "deletion-policy": ["Delete", "Retain"],
    "requests": ["orders", "a,b"],
    "delivery": ["file", "socket"],
    "ttl": ["90s", "1h"],
    "reads": ["once"],
    "aws-endpoint": ["true", "false"],
    "aws-endpoint-port": ["5000"],
    "containers": ["app"],
}
FOREIGN = st.dictionaries(st.sampled_from(["team", "app.kubernetes.io/name", "x/y~z"]), st.text(max_size=5))

Json = dict[str, Any]


@st.composite
def sound_annotations(draw: st.DrawFn) -> dict[str, str]:
    """Give annotations that go together, or none that ask."""
    names = draw(st.lists(st.sampled_from(sorted(SOUND)), max_size=5, unique=True))
    return {f"datakeys.dev/{name}": draw(st.sampled_from(SOUND[name])) for name in names}


any_annotations = sound_annotations() | st.dictionaries(
    st.sampled_from([f"datakeys.dev/{name}" for name in [*SOUND, "scope", "file-mode", "workload"]]),
    st.sampled_from(["", "pod", "0440", "CronJob/x", "Deployment/other", "true"]) | st.text(max_size=20),
    max_size=5,
)


@st.composite
def workloads(draw: st.DrawFn, own: st.SearchStrategy[Any], template: st.SearchStrategy[Any]) -> Json:
    """Give a workload whose own annotations and its template's come from these strategies."""
    kind = draw(st.sampled_from(WORKLOAD_KINDS))
    metadata: Json = {"annotations": {**draw(FOREIGN), **draw(template)}, "labels": draw(FOREIGN)}
    pods: Json = {"spec": {"containers": [{"name": "app"}], "securityContext": {"runAsUser": 1}}}
    for field in draw(st.lists(st.sampled_from(["annotations", "labels"]), max_size=2, unique=True)):
        if not any(name.startswith("datakeys.dev/") for name in metadata[field]):
            del metadata[field]
    bare: bool = draw(st.booleans())
    if metadata or not bare:
        pods["metadata"] = metadata
    spec: Json = {"template": pods}
    annotations = {**draw(FOREIGN), **draw(own)}
    found: Json = {"kind": kind, "metadata": {"name": "orders"}}
    if annotations:
        found["metadata"]["annotations"] = annotations
    return {**found, "spec": {"jobTemplate": {"spec": spec}} if kind == "CronJob" else spec}


def template_of(workload: Json) -> Json:
    spec = workload["spec"]
    template: Json = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    return template


def stamp(workload: Json, old: Json | None = None) -> Json:
    decision = build_stamps(workload, old, SETTINGS)
    assert decision.refusal is None
    stamped: Json = jsonpatch.apply_patch(workload, list(decision.patch))
    return stamped


def strip(workload: Json) -> Json:
    """Return a workload without labels and annotations of the operator; empty maps count as absent."""
    found = copy.deepcopy(workload)
    for owner in (found, template_of(found)):
        metadata = owner.setdefault("metadata", {})
        for field in ("labels", "annotations"):
            members = metadata.get(field) or {}
            metadata[field] = {name: value for name, value in members.items() if "datakeys.dev/" not in name}
    return found


def build_contradiction() -> Json:
    """Return a workload that says no where its template says yes."""
    template = {
        "metadata": {"annotations": {"datakeys.dev/aws-endpoint": "true"}},
        "spec": {"containers": [{"name": "app"}]},
    }
    metadata = {"name": "orders", "annotations": {"datakeys.dev/aws-endpoint": "false"}}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"template": template}}


def is_asking(workload: Json) -> bool:
    own = workload["metadata"].get("annotations", {})
    both = {**template_of(workload).get("metadata", {}).get("annotations", {}), **own}
    return (
        "datakeys.dev/key" in both
        or "datakeys.dev/requests" in both
        or both.get("datakeys.dev/aws-endpoint") == "true"
    )


@given(workloads(any_annotations, any_annotations), st.booleans())
def test_any_workload_is_stamped_cleanly_or_refused_by_name(workload: Json, updated: bool) -> None:
    """No error; a refusal names what to change; a stamp touches the operator's names only, and comes once."""
    before = copy.deepcopy(workload)
    decision = build_stamps(workload, workload if updated else None, SETTINGS)
    assert workload == before
    if decision.refusal:
        assert decision.patch == ()
        assert not updated, "an unchanged object is never held up"
        assert decision.refusal.message.startswith("annotation datakeys.dev/")
        return
    stamped = jsonpatch.apply_patch(workload, list(decision.patch))
    assert strip(stamped) == strip(workload)
    # What was malformed before is let through, but couldn't be created anew.
    for old in (stamped,) if updated else (None, stamped):
        again = build_stamps(stamped, old, SETTINGS)
        assert (again.patch, again.refusal) == ((), None)


@given(workloads(sound_annotations(), sound_annotations()))
@example(build_contradiction())
def test_pod_of_an_asking_workload_never_starts_without(workload: Json) -> None:
    """Whatever is annotated where: its pods are injected, or refused, but not left alone."""
    stamped = stamp(workload)
    metadata = {"name": "orders-0", **template_of(stamped).get("metadata", {})}
    decision = build_injection({"metadata": metadata, "spec": template_of(stamped)["spec"]}, {}, SETTINGS)
    assert bool(decision.patch or decision.refusal) == is_asking(workload)


@given(workloads(st.just({}), st.just({})), sound_annotations())
def test_stamp_goes_without_a_trace(plain: Json, annotations: dict[str, str]) -> None:
    """Annotated and no more: the template is what it was. A Job's template can't be changed later."""
    if plain["kind"] == "Job":
        plain["kind"] = "Deployment"
    annotated = copy.deepcopy(plain)
    annotated["metadata"].setdefault("annotations", {}).update(annotations)
    stamped = stamp(annotated, plain)
    removed = copy.deepcopy(stamped)
    for name in annotations:
        del removed["metadata"]["annotations"][name]
    back = stamp(removed, stamped)
    assert strip(back) == strip(plain)
    assert strip(back)["metadata"]["labels"] == (back["metadata"].get("labels") or {})
    for field in ("labels", "annotations"):
        left = template_of(back).get("metadata", {}).get(field) or {}
        assert left == (template_of(plain).get("metadata", {}).get(field) or {})
