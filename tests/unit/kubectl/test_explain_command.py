"""From the command line to the explanation: workloads, requests, output, exit status."""

import json
from typing import Any

import pytest

from datakeys.kubectl.answers import ClusterError, UserError
from datakeys.kubectl.arguments import parse_arguments
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.explain.command import run_explain
from datakeys.kubectl.explain.workload_checks import (
    build_selector,
    check_workload,
    choose_pod,
    list_request_names,
)
from datakeys.kubectl.paths import APPS, BATCH, CORE, DATAKEYS, build_path
from kubectl_objects import (
    NAMESPACE,
    FakeKubectl,
    build_console,
    build_injected_pod,
    build_key,
    build_request,
    build_secret_line,
)


def run(kubectl: FakeKubectl, *words: str, terminal: bool = False) -> tuple[int, str]:
    """Explain something in the namespace; give status and output."""
    arguments = parse_arguments(["explain", *words, "-n", NAMESPACE])
    console, out = build_console(terminal=terminal)
    return run_explain(arguments, kubectl.cluster(), console), out.getvalue()


def answer_well(kubectl: FakeKubectl) -> None:
    """Answer as a cluster in which request, key and Secret are fine."""
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys", NAMESPACE), build_key())
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", NAMESPACE))
    kubectl.answer(build_path(DATAKEYS, "datakeyrequests", NAMESPACE, "orders"), build_request())
    kubectl.answer("secrets", build_secret_line("orders", "orders"))
    trust = build_path(CORE, "configmaps", NAMESPACE, "datakeys-trust-bundle")
    kubectl.answer(trust, {"data": {"ca.crt": "x"}})


def build_deployment(**changes: Any) -> dict[str, Any]:
    """Return a Deployment as the webhook stamps it."""
    return {
        "kind": "Deployment",
        "metadata": {"name": "orders", "annotations": {"datakeys.dev/key": "main"}},
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {
                    "labels": {"datakeys.dev/inject": "true"},
                    "annotations": {
                        "datakeys.dev/key": "main",
                        "datakeys.dev/workload": "Deployment/orders",
                    },
                },
                "spec": {"containers": [{"name": "app"}]},
            },
            **changes,
        },
    }


def test_explanation_of_a_pod_for_people_and_machines(kubectl: FakeKubectl) -> None:
    """Both say the same; the status is 0."""
    answer_well(kubectl)
    pod = build_injected_pod(status={"started": True, "state": {"running": {}}})
    kubectl.answer(build_path(CORE, "pods", NAMESPACE, "orders-1"), pod)
    status, text = run(kubectl, "pod", "orders-1")
    assert status == 0
    assert text.splitlines()[0] == "Pod/orders-1 in namespace shop"
    assert text.splitlines()[-1] == "The pod has what it asked for."
    status, text = run(kubectl, "pod/orders-1", "-o", "json")
    document = json.loads(text)
    assert (status, document["kind"], document["verdict"]) == (0, "Explanation", "pass")
    assert all(set(check) == {"check", "verdict", "detail", "next"} for check in document["checks"])


def test_failure_sets_the_status_and_shows_the_next_step(kubectl: FakeKubectl) -> None:
    """Scripts look at the status, people at the arrow."""
    answer_well(kubectl)
    kubectl.answer("secrets", "")
    kubectl.answer(build_path(CORE, "pods", NAMESPACE, "orders-1"), build_injected_pod())
    status, text = run(kubectl, "po", "orders-1")
    assert status == 1
    assert "✗ there is no Secret orders\n      → " in text


def test_deployment_is_explained_by_its_worst_pod(kubectl: FakeKubectl) -> None:
    """One that isn't ready, if there is one."""
    answer_well(kubectl)
    kubectl.answer(build_path(APPS, "deployments", NAMESPACE, "orders"), build_deployment())
    good = build_injected_pod(status={"started": True, "state": {"running": {}}})
    good["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    bad = build_injected_pod(status={"state": {"waiting": {"reason": "ErrImagePull"}}})
    bad["metadata"] |= {"name": "orders-2", "creationTimestamp": "2020-01-01T00:00:00Z"}
    kubectl.answer_list(build_path(CORE, "pods", NAMESPACE, labelSelector="app=orders"), good, bad)
    status, text = run(kubectl, "deploy", "orders")
    assert status == 1
    assert "about its pod orders-2" in text
    assert "ErrImagePull" in text


def test_deployment_whose_pods_are_refused_tells_the_refusal(kubectl: FakeKubectl) -> None:
    """There is no pod to look at, and the webhook's words are in the Deployment's status."""
    answer_well(kubectl)
    deployment = build_deployment()
    refusal = 'admission webhook "inject.datakeys.dev" denied the request: spec.os.name: Linux only'
    condition = {"type": "ReplicaFailure", "status": "True", "message": refusal}
    deployment["status"] = {"conditions": [condition]}
    kubectl.answer(build_path(APPS, "deployments", NAMESPACE, "orders"), deployment)
    kubectl.answer_list(build_path(CORE, "pods", NAMESPACE, labelSelector="app=orders"))
    kubectl.answer(
        build_path(DATAKEYS, "datakeyrequests", NAMESPACE, "orders.deployment"),
        build_request("orders.deployment", ready=False),
    )
    status, text = run(kubectl, "deployment/orders")
    assert status == 1
    assert refusal in text
    assert "DataKeyRequest orders.deployment" in text


def test_deployment_that_the_webhook_hasn_t_seen(kubectl: FakeKubectl) -> None:
    """It was annotated before the operator was installed."""
    answer_well(kubectl)
    deployment = build_deployment()
    deployment["spec"]["template"]["metadata"] = {}
    kubectl.answer(build_path(APPS, "deployments", NAMESPACE, "orders"), deployment)
    status, text = run(kubectl, "deployment", "orders")
    assert status == 1
    assert "apply the workload again" in text


def test_request_is_explained_without_a_pod(kubectl: FakeKubectl) -> None:
    """Who may decrypt isn't asked there."""
    answer_well(kubectl)
    status, text = run(kubectl, "request", "orders", "-o", "json")
    assert status == 0
    checks = [check["check"] for check in json.loads(text)["checks"]]
    assert checks == ["request", "key", "secret", "trust-bundle"]


def test_object_that_doesn_t_exist_is_an_error(kubectl: FakeKubectl) -> None:
    """No explanation of nothing."""
    for words in (("pod", "none"), ("request", "none"), ("deployment", "none")):
        with pytest.raises(ClusterError):
            run(kubectl, *words)


@pytest.mark.parametrize("words", [("pod",), ("pod/a", "b"), ("node", "a"), ("node/a",)])
def test_target_must_be_one_that_can_be_explained(words: tuple[str, ...]) -> None:
    """The text says what can be."""
    arguments = parse_arguments(["explain", *words])
    with pytest.raises(UserError, match="explain"):
        run_explain(arguments, Cluster("unused"), build_console()[0])


def test_marks_are_letters_where_there_are_no_others(kubectl: FakeKubectl) -> None:
    """A log file in ASCII stays readable."""
    answer_well(kubectl)
    arguments = parse_arguments(["explain", "request", "orders", "-n", NAMESPACE])
    console, out = build_console()
    plain = type(console)(console.out, unicode=False)
    run_explain(arguments, kubectl.cluster(), plain)
    assert "  ok DataKeyRequest orders has its data key" in out.getvalue()


def test_cron_job_is_explained_by_a_pod_of_its_jobs(kubectl: FakeKubectl) -> None:
    """Two owners up; pods of others are left out."""
    answer_well(kubectl)
    template = build_deployment()["spec"]["template"]
    cron = {"metadata": {"name": "report"}, "spec": {"jobTemplate": {"spec": {"template": template}}}}
    kubectl.answer(build_path(BATCH, "cronjobs", NAMESPACE, "report"), cron)
    owner = {"kind": "CronJob", "name": "report", "controller": True}
    kubectl.answer_list(
        build_path(BATCH, "jobs", NAMESPACE),
        {"metadata": {"name": "report-1", "ownerReferences": [owner]}},
        {"metadata": {"name": "other-1"}},
    )
    mine = build_injected_pod(status={"started": True, "state": {"running": {}}})
    mine["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "report-1", "controller": True}]
    kubectl.answer_list(build_path(CORE, "pods", NAMESPACE), mine, build_injected_pod())
    status, text = run(kubectl, "cronjob", "report")
    assert status == 0, text
    assert "about its pod orders-1" in text


@pytest.mark.parametrize(
    ("annotations", "detail"),
    [({}, "asks for no data key"), ({"datakeys.dev/key": "no/form"}, "annotation datakeys.dev/key")],
)
def test_workload_that_asks_for_nothing_or_wrongly(annotations: dict[str, str], detail: str) -> None:
    """The next step names the annotation."""
    deployment = build_deployment()
    deployment["metadata"]["annotations"] = annotations
    deployment["spec"]["template"]["metadata"] = {}
    (check,) = check_workload("Deployment", deployment)
    assert detail in check.detail
    assert "annotat" in check.next_step
    assert list_request_names("Deployment", deployment) == []


def test_misspelt_annotation_of_a_workload_comes_first() -> None:
    """On the workload or on its template, whether or not it asks for a data key besides."""
    deployment = build_deployment()
    deployment["spec"]["template"]["metadata"]["annotations"] |= {"datakeys.dev/delivry": "socket"}
    checks = check_workload("Deployment", deployment)
    assert (checks[0].detail, checks[0].next_step) == (
        "annotation datakeys.dev/delivry is unknown and has no effect",
        "write datakeys.dev/delivery",
    )
    assert "asks for a data key" in checks[1].detail


def test_every_ordinal_of_a_stateful_set_has_its_request() -> None:
    """With scope pod."""
    annotations = {"datakeys.dev/key": "main", "datakeys.dev/scope": "pod", "datakeys.dev/requests": "extra"}
    body: dict[str, Any] = {
        "metadata": {"name": "db", "annotations": annotations},
        "spec": {"replicas": 2, "template": {}},
    }
    assert list_request_names("StatefulSet", body) == ["db-0.statefulset", "db-1.statefulset", "extra"]
    body["spec"] = {"replicas": 1, "ordinals": {"start": 5}, "template": {}}
    assert list_request_names("StatefulSet", body) == ["db-5.statefulset", "extra"]


def test_scope_pod_is_for_stateful_sets_only() -> None:
    """Other workloads' pods have no ordinals."""
    deployment = build_deployment()
    deployment["metadata"]["annotations"]["datakeys.dev/scope"] = "pod"
    (check,) = check_workload("Deployment", deployment)
    assert "datakeys.dev/scope" in check.detail
    assert "StatefulSet" in check.next_step


def test_selectors_become_queries() -> None:
    """All four operators; a CronJob has none."""
    expressions = [
        {"key": "a", "operator": "In", "values": ["1", "2"]},
        {"key": "b", "operator": "NotIn", "values": ["3"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"x": "y"}, "matchExpressions": expressions}
    assert build_selector({"spec": {"selector": selector}}) == "x=y,a in (1,2),b notin (3),c,!d"
    assert build_selector({"spec": {}}) is None


def test_pod_that_is_done_isn_t_the_worst() -> None:
    """A Job has pods that have ended well, beside the one that waits."""
    done, waiting = build_injected_pod(), build_injected_pod()
    done["metadata"]["creationTimestamp"] = "2026-06-01T00:00:00Z"
    done["status"]["phase"] = "Succeeded"
    assert choose_pod([done, waiting]) is waiting
    assert choose_pod([done]) is done


def test_without_pods_there_is_none_to_choose() -> None:
    """And that is no error."""
    assert choose_pod([]) is None
