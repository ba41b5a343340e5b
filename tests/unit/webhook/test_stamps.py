"""The stamp on a workload's pod template: what it brings, when it goes, and what it never touches."""

import copy
from typing import Any

import pytest

from datakeys.webhook.patches import WORKLOAD_KINDS, build_injection, build_stamps, find_requests

from .conftest import SETTINGS, apply

KEY = {"datakeys.dev/key": "alias/payments"}
LABEL = {"datakeys.dev/inject": "true"}
TEMPLATED = ["Deployment", "StatefulSet", "DaemonSet", "CronJob"]

Workload = dict[str, Any]


def build_workload(
    kind: str = "Deployment",
    annotations: dict[str, str] | None = None,
    template: dict[str, str] | None = None,
    **metadata: Any,
) -> Workload:
    """Return a workload with annotations of its own and of its template."""
    pods = {
        "metadata": {"labels": {"app": "orders"}, "annotations": template} if template else {},
        "spec": {"containers": [{"name": "app"}], "securityContext": {"runAsUser": 1000}},
    }
    spec: dict[str, Any] = {"template": pods}
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    found: Workload = {"kind": kind, "metadata": {"name": "orders", **metadata}, "spec": spec}
    if annotations:
        found["metadata"]["annotations"] = annotations
    return found


def template_of(workload: Workload) -> dict[str, Any]:
    spec = workload["spec"]
    template: dict[str, Any] = (
        spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    )
    return template


def annotations_of(workload: Workload) -> dict[str, str]:
    found: dict[str, str] = template_of(workload).get("metadata", {}).get("annotations", {})
    return found


def labels_of(workload: Workload) -> dict[str, str]:
    found: dict[str, str] = template_of(workload).get("metadata", {}).get("labels", {})
    return found


def stamp(workload: Workload, old: Workload | None = None) -> Workload:
    """Return the stamped workload; a second look must change nothing."""
    before = copy.deepcopy((workload, old))
    stamped = apply(workload, build_stamps(workload, old, SETTINGS))
    assert (workload, old) == before
    assert build_stamps(stamped, old, SETTINGS).patch == ()
    return stamped


def refuse(workload: Workload, old: Workload | None = None) -> str:
    decision = build_stamps(workload, old, SETTINGS)
    assert decision.refusal is not None
    assert decision.patch == ()
    return decision.refusal.message


def change(workload: Workload, **annotations: str | None) -> Workload:
    """Return a workload with other annotations of its own."""
    changed = copy.deepcopy(workload)
    for name, value in annotations.items():
        key = f"datakeys.dev/{name}"
        if value is None:
            del changed["metadata"]["annotations"][key]
        else:
            changed["metadata"]["annotations"][key] = value
    return changed


@pytest.mark.parametrize("kind", WORKLOAD_KINDS)
@pytest.mark.parametrize("on_template", [False, True])
def test_annotated_workload_is_stamped(kind: str, on_template: bool) -> None:
    """Wherever the annotation is: the pods learn their workload, the controller finds the workload."""
    where = {"template": KEY} if on_template else {"annotations": KEY}
    stamped = stamp(build_workload(kind, **where))
    assert annotations_of(stamped) == {**KEY, "datakeys.dev/workload": f"{kind}/orders"}
    assert labels_of(stamped)["datakeys.dev/inject"] == "true"
    assert stamped["metadata"]["labels"] == LABEL


@pytest.mark.parametrize("kind", WORKLOAD_KINDS)
def test_pod_of_a_stamped_template_is_injected(kind: str) -> None:
    """Both halves of the webhook agree on the request's name."""
    stamped = stamp(build_workload(kind, KEY))
    metadata = {"generateName": "orders-6d8f-", **template_of(stamped)["metadata"]}
    pod = {"metadata": metadata, "spec": template_of(stamped)["spec"]}
    assert find_requests(pod) == (f"orders.{kind.lower()}",)
    assert build_injection(pod, {}, SETTINGS).patch


def test_only_what_the_pods_must_know_is_copied() -> None:
    """What says which data key to make stays on the workload: a change of it doesn't restart the pods."""
    copied = {
        "key": "main",
        "key-name": "k",
        "delivery": "file",
        "containers": "app",
        "ttl": "1h",
        "reads": "once",
        "file-mode": "0444",
        "file-owner": "1000",
        "requests": "other",
        "aws-endpoint": "true",
        "aws-endpoint-port": "5000",
        "scope": "workload",
    }
    kept = {"key-spec": "AES_128", "encryption-context": "a=b", "deletion-policy": "Delete"}
    own = {f"datakeys.dev/{name}": value for name, value in (copied | kept).items()} | {"team": "x"}
    assert annotations_of(stamp(build_workload("Deployment", own))) == {
        "datakeys.dev/workload": "Deployment/orders",
        **{f"datakeys.dev/{name}": value for name, value in copied.items()},
    }


def test_workload_s_annotation_wins_over_the_template_s() -> None:
    own = {**KEY, "datakeys.dev/delivery": "socket"}
    template = {"datakeys.dev/key": "other", "datakeys.dev/delivery": "file", "note": "stays"}
    assert annotations_of(stamp(build_workload("Deployment", own, template))) == {
        **own,
        "note": "stays",
        "datakeys.dev/workload": "Deployment/orders",
    }


@pytest.mark.parametrize("labels", [{}, LABEL])
def test_workload_s_no_wins_over_a_template_that_asks(labels: dict[str, str]) -> None:
    no = {"datakeys.dev/aws-endpoint": "false"}
    workload = build_workload("Deployment", no, {"datakeys.dev/aws-endpoint": "true"})
    template_of(workload)["metadata"]["labels"] = labels
    stamped = stamp(workload)
    assert annotations_of(stamped) == no
    assert "datakeys.dev/inject" not in labels_of(stamped)
    pod = {
        "metadata": {"name": "orders-0", **template_of(stamped)["metadata"]},
        "spec": template_of(stamped)["spec"],
    }
    assert build_injection(pod, {}, SETTINGS).patch == ()


@pytest.mark.parametrize(
    "asked", [{"datakeys.dev/requests": "orders"}, {"datakeys.dev/aws-endpoint": "true"}]
)
def test_requests_of_one_s_own_need_no_workload(asked: dict[str, str]) -> None:
    """Label and copies reach the template; there's nothing for the controller to make."""
    stamped = stamp(build_workload("Deployment", asked))
    assert annotations_of(stamped) == asked
    assert labels_of(stamped)["datakeys.dev/inject"] == "true"
    assert "labels" not in stamped["metadata"]


@pytest.mark.parametrize("annotations", [None, {"datakeys.dev/delivery": "socket"}, {"app": "x"}])
def test_workload_that_asks_for_nothing_is_left_alone(annotations: dict[str, str] | None) -> None:
    workload = build_workload("Deployment", annotations, {"datakeys.dev/aws-endpoint": "false"})
    assert build_stamps(workload, None, SETTINGS).patch == ()
    assert build_stamps(workload, workload, SETTINGS).patch == ()


def test_template_labelled_with_a_no_is_left_alone() -> None:
    workload = build_workload("Deployment", KEY)
    template_of(workload)["metadata"]["labels"] = {"datakeys.dev/inject": "false"}
    assert build_stamps(workload, None, SETTINGS).patch == ()


def test_template_without_metadata_gets_some() -> None:
    workload = build_workload("CronJob", KEY)
    del template_of(workload)["metadata"]
    assert labels_of(stamp(workload)) == LABEL


@pytest.mark.parametrize("kind", TEMPLATED)
def test_stamp_goes_with_the_annotation(kind: str) -> None:
    """Removing the annotation leaves the workload as it was before; foreign labels stay."""
    plain = build_workload(kind, {"team": "x"}, {"note": "stays"})
    asking = build_workload(kind, {"team": "x", **KEY, "datakeys.dev/ttl": "1h"}, {"note": "stays"})
    stamped = stamp(asking)
    back = stamp(change(stamped, key=None, ttl=None), stamped)
    assert template_of(back) == template_of(plain)
    assert back["metadata"].get("labels", {}) == {}


def test_removal_of_one_annotation_takes_its_copy_only() -> None:
    stamped = stamp(build_workload("Deployment", {**KEY, "datakeys.dev/ttl": "1h"}))
    later = stamp(change(stamped, ttl=None), stamped)
    assert annotations_of(later) == {**KEY, "datakeys.dev/workload": "Deployment/orders"}


def test_removal_leaves_what_the_template_says_itself() -> None:
    """A key that the user writes into the template too stays; so does a label with his own requests."""
    own = stamp(build_workload("Deployment", KEY, {"datakeys.dev/requests": "mine"}))
    later = stamp(change(own, key=None), own)
    assert annotations_of(later) == {"datakeys.dev/requests": "mine"}
    assert labels_of(later)["datakeys.dev/inject"] == "true"
    assert later["metadata"]["labels"] == {}


def test_update_with_the_plain_manifest_is_stamped_again() -> None:
    """``kubectl replace``, or a rollback to a template from before: no way around the stamp."""
    plain = build_workload("Deployment", KEY)
    stamped = stamp(plain)
    assert stamp(plain, stamped) == stamped


@pytest.mark.parametrize("annotations", [KEY, {"datakeys.dev/requests": "orders"}])
def test_requests_removal_takes_the_label(annotations: dict[str, str]) -> None:
    stamped = stamp(build_workload("Deployment", annotations))
    (name,) = (one.partition("/")[2] for one in annotations)
    assert labels_of(stamp(change(stamped, **{name: None}), stamped)) == {}


STAMPED = {**KEY, "datakeys.dev/workload": "CronJob/report"}
OWNER = {"kind": "CronJob", "name": "report"}


@pytest.mark.parametrize(
    ("template", "owners"),
    [
        (STAMPED, [{**OWNER, "controller": True}]),
        (KEY, [{**OWNER, "controller": True}]),
        (STAMPED, [OWNER]),
        (KEY, [OWNER]),
        (STAMPED, []),
    ],
    ids=["scheduled", "older-than-the-webhook", "by-hand", "by-hand-older", "copied"],
)
def test_job_of_a_cron_job_belongs_to_the_cron_job(
    template: dict[str, str], owners: list[dict[str, Any]]
) -> None:
    """Every run gets the same data key, whoever starts it."""
    stamped = stamp(build_workload("Job", None, template, ownerReferences=owners))
    assert annotations_of(stamped)["datakeys.dev/workload"] == "CronJob/report"
    assert stamped["metadata"]["labels"] == LABEL


def test_copied_template_doesn_t_bring_another_workload_s_data_key() -> None:
    """Who copies a Deployment, stamp and all, under another name gets a data key of its own."""
    copied = {**KEY, "datakeys.dev/workload": "Deployment/other"}
    assert annotations_of(stamp(build_workload("Deployment", None, copied))) == {
        **KEY,
        "datakeys.dev/workload": "Deployment/orders",
    }
    job = stamp(build_workload("Job", None, {**KEY, "datakeys.dev/workload": "Job/other"}))
    assert annotations_of(job)["datakeys.dev/workload"] == "Job/orders"


def test_job_s_template_is_never_changed_later() -> None:
    """The API server would refuse it, whatever the update is about."""
    unstamped = build_workload("Job", None, KEY)
    assert build_stamps(unstamped, unstamped, SETTINGS).patch == ()
    stamped = stamp(build_workload("Job", KEY))
    assert build_stamps(change(stamped, key=None), stamped, SETTINGS).patch == ()


def test_job_that_asks_too_late_is_refused() -> None:
    plain = build_workload("Job", {"team": "x"})
    message = refuse(change(plain, key="main"), plain)
    assert message.startswith("annotation datakeys.dev/key: ")
    assert "create it anew" in message


@pytest.mark.parametrize(
    ("workload", "start"),
    [
        (build_workload("Deployment", {"datakeys.dev/key": "No Key"}), "annotation datakeys.dev/key: "),
        (build_workload("Deployment", None, {"datakeys.dev/key": "No Key"}), "annotation datakeys.dev/key: "),
        (build_workload("Job", {**KEY, "datakeys.dev/ttl": "soon"}), "annotation datakeys.dev/ttl: "),
        (
            build_workload("CronJob", {**KEY, "datakeys.dev/deletion-policy": "Keep"}),
            "annotation datakeys.dev/deletion-policy: ",
        ),
        (build_workload("Deployment", {"datakeys.dev/requests": ""}), "annotation datakeys.dev/requests: "),
        (
            build_workload("Deployment", {**KEY, "datakeys.dev/scope": "pod"}),
            "annotation datakeys.dev/scope: ",
        ),
        (
            build_workload("DaemonSet", {**KEY, "datakeys.dev/key-name": "a", "datakeys.dev/requests": "a"}),
            "annotation datakeys.dev/key-name: ",
        ),
        (build_workload("Job", KEY, name=None, generateName="import-"), "metadata.generateName: "),
        (
            build_workload("Job", None, {**KEY, "datakeys.dev/workload": "CronJob/A B"}),
            "annotation datakeys.dev/workload: ",
        ),
    ],
)
def test_malformed_wish_is_refused_on_creation(workload: Workload, start: str) -> None:
    """The user sees it when he applies the workload, not in an Event of a ReplicaSet."""
    assert refuse(workload).startswith(start)


def test_scope_pod_is_for_stateful_sets() -> None:
    stamped = stamp(build_workload("StatefulSet", {**KEY, "datakeys.dev/scope": "pod"}))
    assert annotations_of(stamped)["datakeys.dev/scope"] == "pod"


def test_old_malformed_object_is_not_held_up() -> None:
    """Finalizers, revisions and scaling go through; only who changes the annotations must mend them."""
    old = build_workload("Deployment", {"datakeys.dev/key": "No Key"})
    scaled = copy.deepcopy(old)
    scaled["spec"]["replicas"] = 3
    decision = build_stamps(scaled, old, SETTINGS)
    assert (decision.patch, decision.refusal) == ((), None)
    assert decision.warnings[0].startswith("annotation datakeys.dev/key: ")
    assert refuse(change(old, ttl="soon"), old).startswith("annotation datakeys.dev/key: ")


def test_object_in_deletion_is_left_alone() -> None:
    """Whatever removes the last finalizer must not be refused."""
    deleted = build_workload(
        "Deployment", {"datakeys.dev/key": "No Key"}, deletionTimestamp="2026-01-01T00:00:00Z"
    )
    decision = build_stamps(deleted, deleted, SETTINGS)
    assert (decision.patch, decision.refusal, decision.warnings) == ((), None, ())


def test_label_without_a_wish_makes_a_warning() -> None:
    """Nothing is asked for, so the pods would be refused; a label that goes with the stamp is no mistake."""
    workload = build_workload("Deployment", None, {"note": "x"})
    template_of(workload)["metadata"]["labels"] = {"datakeys.dev/inject": "true"}
    decision = build_stamps(workload, None, SETTINGS)
    assert (decision.patch, decision.refusal) == ((), None)
    assert "annotation datakeys.dev/requests: is missing" in decision.warnings[0]
    for asked in (KEY, {"datakeys.dev/requests": "orders"}):
        stamped = stamp(build_workload("Deployment", asked))
        (name,) = (one.partition("/")[2] for one in asked)
        assert build_stamps(change(stamped, **{name: None}), stamped, SETTINGS).warnings == ()


def test_template_whose_pods_would_be_refused_makes_a_warning() -> None:
    """Another webhook may still mend the pod, so it is no refusal."""
    workload = build_workload("Deployment", KEY)
    template_of(workload)["spec"]["securityContext"] = {}
    decision = build_stamps(workload, None, SETTINGS)
    assert decision.patch
    assert decision.warnings[0].startswith("pods of this template will be refused: spec.securityContext")
