"""Fetches what an explanation needs, and shows it."""

import argparse
from collections.abc import Sequence
from typing import Final

from datakeys.kubectl import paths
from datakeys.kubectl.answers import Json, list_items, name_of
from datakeys.kubectl.arguments import parse_target
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.explain.checks import Check, Verdict
from datakeys.kubectl.explain.explanation import (
    Explanation,
    build_explanation,
    decide_pod,
    decide_request,
)
from datakeys.kubectl.explain.facts import fetch_pod_facts, fetch_request_facts, fetch_warnings
from datakeys.kubectl.explain.told_checks import check_told
from datakeys.kubectl.explain.workload_checks import (
    build_selector,
    check_workload,
    choose_pod,
    list_request_names,
    no_pods,
)
from datakeys.kubectl.output import Colour, Console, clean

_REQUEST: Final = "DataKeyRequest"
_SPELLINGS: Final = {
    "po": "Pod",
    "deploy": "Deployment",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "rs": "ReplicaSet",
    "cj": "CronJob",
    "dkr": _REQUEST,
    "request": _REQUEST,
    "requests": _REQUEST,
    "datakeyrequest": _REQUEST,
    "datakeyrequests": _REQUEST,
    **{kind.lower(): kind for kind in paths.WORKLOADS},
    **{plural: kind for kind, (_, plural) in paths.WORKLOADS.items()},
}
_MARKS: Final = {
    Verdict.PASS: ("✓", "ok", Colour.GREEN),
    Verdict.FAIL: ("✗", "NO", Colour.RED),
    Verdict.UNSEEN: ("?", "??", Colour.YELLOW),
    Verdict.WAIT: ("…", "..", Colour.YELLOW),
}


def run_explain(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """Explain one object; the status is 1 if something keeps the pod from its keys.

    Raises:
        UserError: The arguments name nothing that can be explained.
        ClusterError: There is no such object, or no answer.
    """
    kind, name = parse_target(arguments.kind, arguments.name, _SPELLINGS)
    checks = fetch_checks(cluster, arguments.namespace, kind, name)
    explanation = build_explanation(f"{kind}/{name}", arguments.namespace, checks)
    if arguments.output == "json":
        console.document("Explanation", explanation.to_json())
    else:
        show_explanation(explanation, console)
    return 1 if explanation.conclusion[0] is Verdict.FAIL else 0


def fetch_checks(cluster: Cluster, namespace: str, kind: str, name: str) -> list[Check]:
    """Return all checks of an object.

    Raises:
        ClusterError: There is no such object, or no answer.
    """
    if kind == _REQUEST:
        cluster.get(paths.build_path(paths.DATAKEYS, paths.REQUESTS, namespace, name))
        return decide_request(fetch_request_facts(cluster, namespace, [name]), namespace)
    body = cluster.get(paths.workload_path(kind, namespace, name))
    if kind == "Pod":
        return decide_pod(fetch_pod_facts(cluster, body))
    told = fetch_warnings(cluster, namespace, kind, name)
    checks = [*check_workload(kind, body), *check_told(told)]
    pod = choose_pod(_fetch_pods(cluster, namespace, kind, body))
    if pod is None:
        facts = fetch_request_facts(cluster, namespace, list_request_names(kind, body))
        return [*checks, no_pods(kind, name), *decide_request(facts, namespace)]
    shown = Check("pods", Verdict.PASS, f"the following is about its pod {name_of(pod)}")
    return [*checks, shown, *decide_pod(fetch_pod_facts(cluster, pod))]


def show_explanation(explanation: Explanation, console: Console) -> None:
    """Write an explanation for people."""
    console.line(console.paint(f"{explanation.subject} in namespace {explanation.namespace}", Colour.BOLD))
    for check in explanation.checks:
        mark, letters, colour = _MARKS[check.verdict]
        sign = console.paint(mark if console.unicode else letters, colour)
        console.line(f"  {sign} {clean(check.detail)}")
        if check.next_step and check.verdict is not Verdict.PASS:
            console.line(f"      {'→' if console.unicode else '->'} {clean(check.next_step)}")
    verdict, text = explanation.conclusion
    console.line(console.paint(f"{text[0].upper()}{clean(text[1:])}.", _MARKS[verdict][2]))


def _fetch_pods(cluster: Cluster, namespace: str, kind: str, body: Json) -> Sequence[Json]:
    """Return a workload's pods; of a CronJob those of its jobs.

    Raises:
        ClusterError: There is no answer.
    """
    if kind == "CronJob":
        owners = {name_of(job) for job in _fetch_jobs(cluster, namespace, body)}
        pods = list_items(cluster.items(paths.workload_path("Pod", namespace)))
        return [pod for pod in pods if owners & set(_owner_names(pod))]
    selector = build_selector(body)
    if selector is None:
        return []
    return list_items(cluster.items(paths.build_path(paths.CORE, "pods", namespace, labelSelector=selector)))


def _fetch_jobs(cluster: Cluster, namespace: str, body: Json) -> list[Json]:
    jobs = list_items(cluster.items(paths.workload_path("Job", namespace)))
    return [job for job in jobs if name_of(body) in _owner_names(job)]


def _owner_names(body: Json) -> list[str]:
    owners = body["metadata"].get("ownerReferences") or ()
    return [one["name"] for one in owners if one.get("controller")]
