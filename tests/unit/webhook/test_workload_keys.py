"""Pods that ask by ``datakeys.dev/key``: which request is theirs, and which versions are mounted."""

from typing import Any

import pytest

from datakeys.webhook.patches import RequestFacts, build_injection, find_requests

from .conftest import SETTINGS, Pod, apply, build_pod
from .test_refusals import refuse

KEY = {"datakeys.dev/key": "alias/payments"}


def build_key_pod(
    annotations: dict[str, str] | None = None, *, owner: tuple[str, str] | None = None, **metadata: Any
) -> Pod:
    """Return a pod that asks by a key; without a name it has a prefix."""
    pod = build_pod()
    pod["metadata"]["annotations"] = {**KEY, **(annotations or {})}
    if "name" in metadata:
        del pod["metadata"]["generateName"]
    pod["metadata"].update(metadata)
    if owner:
        reference = {"kind": owner[0], "name": owner[1], "controller": True}
        pod["metadata"]["ownerReferences"] = [{"kind": "Other", "name": "x"}, reference]
    return pod


def secrets_of(pod: Pod, facts: dict[str, RequestFacts | None] | None = None) -> dict[str, str]:
    """Return the mounted Secrets by the name under which their data keys are delivered."""
    spec = apply(pod, build_injection(pod, facts or {}, SETTINGS))["spec"]
    (encrypted,) = [one for one in spec["volumes"] if one["name"] == "datakeys-encrypted"]
    found = {}
    for source in encrypted["projected"]["sources"]:
        (folder,) = {item["path"].rpartition("/")[0] for item in source["secret"]["items"]}
        found[folder] = source["secret"]["name"]
    variables = {one["name"]: one["value"] for one in spec["initContainers"][0]["env"]}
    assert variables["DATAKEYS_REQUESTS"].split(",") == list(found)
    return found


@pytest.mark.parametrize(
    ("pod", "request_name"),
    [
        (build_key_pod({"datakeys.dev/workload": "Deployment/orders"}), "orders.deployment"),
        (build_key_pod({"datakeys.dev/workload": "CronJob/report"}, name="r-1-x"), "report.cronjob"),
        (
            build_key_pod(
                {"datakeys.dev/workload": "Deployment/orders"}, owner=("ReplicaSet", "orders-6d8f")
            ),
            "orders.deployment",
        ),
        (build_key_pod(owner=("DaemonSet", "agent")), "agent.daemonset"),
        (build_key_pod(owner=("Notebook", "n1")), "n1.notebook"),
        (build_key_pod(name="one-off"), "one-off.pod"),
        (build_key_pod(generateName="import-"), "import.pod"),
        (
            build_key_pod(
                {"datakeys.dev/workload": "StatefulSet/db", "datakeys.dev/scope": "pod"}, name="db-11"
            ),
            "db-11.statefulset",
        ),
        (
            build_key_pod({"datakeys.dev/scope": "pod"}, owner=("StatefulSet", "db"), name="db-0"),
            "db-0.statefulset",
        ),
        (build_key_pod(owner=("StatefulSet", "db"), name="db-0"), "db.statefulset"),
    ],
)
def test_request_is_named_after_the_workload(pod: Pod, request_name: str) -> None:
    """The stamp counts first, then the owner, then the pod itself; it is mounted before it exists."""
    assert find_requests(pod) == (request_name,)
    assert secrets_of(pod) == {"data-key": request_name}
    assert build_injection(pod, {request_name: None}, SETTINGS).warnings == ()


def test_only_a_pod_that_has_no_name_yet_is_stamped() -> None:
    """The controller sees another name later; the prefix stays the same for all pods of it."""
    pod = build_key_pod(generateName="import-")
    stamped = apply(pod, build_injection(pod, {}, SETTINGS))
    assert stamped["metadata"]["annotations"]["datakeys.dev/workload"] == "Pod/import"
    for other in (build_key_pod(name="a"), build_key_pod(owner=("DaemonSet", "agent"))):
        annotations = apply(other, build_injection(other, {}, SETTINGS))["metadata"]["annotations"]
        assert "datakeys.dev/workload" not in annotations


def test_sidecar_is_told_which_request_a_name_stands_for() -> None:
    """Only where they differ: it refuses the data key of any other request."""
    pods = [build_key_pod({"datakeys.dev/requests": "other"}, name="p"), build_pod()]
    containers = [apply(pod, build_injection(pod, {}, SETTINGS))["spec"]["initContainers"][0] for pod in pods]
    mixed, plain = ({one["name"]: one["value"] for one in container["env"]} for container in containers)
    assert mixed["DATAKEYS_BOUND_REQUESTS"] == "data-key=p.pod"
    assert "DATAKEYS_BOUND_REQUESTS" not in plain


def test_key_and_requests_go_together() -> None:
    pod = build_key_pod({"datakeys.dev/requests": "other", "datakeys.dev/key-name": "main"}, name="p")
    assert find_requests(pod) == ("p.pod", "other")
    assert secrets_of(pod) == {"main": "p.pod", "other": "other"}


@pytest.mark.parametrize(
    ("pod", "start"),
    [
        (build_key_pod({"datakeys.dev/workload": "orders"}), "annotation datakeys.dev/workload: "),
        (build_key_pod({"datakeys.dev/workload": "A/../x"}), "annotation datakeys.dev/workload: "),
        (build_key_pod({"datakeys.dev/key": "No Key"}), "annotation datakeys.dev/key: "),
        (build_key_pod({"datakeys.dev/key-name": "a/b"}), "annotation datakeys.dev/key-name: "),
        (
            build_key_pod({"datakeys.dev/encryption-context": "a"}),
            "annotation datakeys.dev/encryption-context: ",
        ),
        (build_key_pod({"datakeys.dev/number-of-bytes": "0"}), "annotation datakeys.dev/number-of-bytes: "),
        (build_key_pod({"datakeys.dev/scope": "pod"}, name="db-0"), "annotation datakeys.dev/scope: "),
        (
            build_key_pod({"datakeys.dev/scope": "pod"}, owner=("StatefulSet", "db"), name="other-0"),
            "annotation datakeys.dev/scope: ",
        ),
        (
            build_key_pod({"datakeys.dev/scope": "pod", "datakeys.dev/workload": "StatefulSet/db"}),
            "annotation datakeys.dev/scope: ",
        ),
        (build_key_pod(owner=("ReplicaSet", "orders-6d8f")), "annotation datakeys.dev/key: the pod's owner"),
        (build_key_pod(generateName="-"), "metadata.generateName: "),
        (
            build_key_pod({"datakeys.dev/key-name": "orders", "datakeys.dev/requests": "orders"}, name="p"),
            "annotation datakeys.dev/key-name: orders is also in datakeys.dev/requests",
        ),
    ],
)
def test_pod_without_a_lasting_data_key_is_refused(pod: Pod, start: str) -> None:
    """Malformed annotations, and pods whose data key would change with the next rollout or has no owner."""
    assert refuse(pod).startswith(start)


def test_one_version_is_mounted_as_ever() -> None:
    assert secrets_of(build_pod(), {"orders": RequestFacts("s", "app")}) == {"orders": "s"}


def test_every_kept_version_is_offered() -> None:
    """The current one under the plain name; each, the current too, under its number."""
    facts = RequestFacts("s", "app", version=4, oldest_version=2)
    assert secrets_of(build_pod(), {"orders": facts}) == {
        "orders": "s.v4",
        "orders@2": "s.v2",
        "orders@3": "s.v3",
        "orders@4": "s.v4",
    }
    first = RequestFacts("s", "app", version=2, oldest_version=1)
    assert secrets_of(build_pod(), {"orders": first}) == {
        "orders": "s.v2",
        "orders@1": "s",
        "orders@2": "s.v2",
    }


def test_versions_of_a_workload_s_key_have_the_delivered_name() -> None:
    facts = RequestFacts("p.pod", "app", version=2, oldest_version=2)
    assert secrets_of(build_key_pod(name="p"), {"p.pod": facts}) == {
        "data-key": "p.pod.v2",
        "data-key@2": "p.pod.v2",
    }


def test_too_many_versions_are_refused_with_advice() -> None:
    names = [f"r{index}" for index in range(7)]
    pod = build_pod({"datakeys.dev/requests": ",".join(names)})
    facts = {name: RequestFacts(name, "app", version=16) for name in names}
    refusal = build_injection(pod, facts, SETTINGS).refusal
    assert refusal is not None
    assert refusal.message.startswith("annotation datakeys.dev/requests: ")
    assert "spec.oldestVersion" in refusal.message


def test_versions_come_from_the_object() -> None:
    body = {"metadata": {"name": "orders"}, "spec": {"version": 3, "oldestVersion": 2}}
    facts = RequestFacts.from_object(body)
    assert (facts.version, facts.oldest_version) == (3, 2)
