"""Why has a pod its data key, or why not: one test for each cause."""

import json
from dataclasses import replace
from typing import Any

import pytest

from datakeys.kubectl.answers import Gap, GapKind
from datakeys.kubectl.cluster import SecretRow
from datakeys.kubectl.explain.checks import Check, Verdict, find_failure
from datakeys.kubectl.explain.explanation import build_explanation, decide_pod
from datakeys.kubectl.explain.facts import PodFacts, RequestFacts, parse_log
from datakeys.kubectl.explain.sidecar_checks import find_open_failures
from kubectl_objects import (
    MADE,
    NAMESPACE,
    build_condition,
    build_injected_pod,
    build_key,
    build_namespace,
    build_request,
    build_webhook,
)

MISSING = Gap(GapKind.MISSING)
HIDDEN = Gap(GapKind.UNSEEN, "user alice cannot get it")
ROW = SecretRow("orders", "datakeys.dev/encrypted-data-key", "orders")
STARTED = {"started": True, "state": {"running": {}}}
RUNNING = {"started": False, "state": {"running": {}}}


def facts(pod: dict[str, Any] | None = None, **around: Any) -> PodFacts:
    """Return the facts of a pod that has its key, with changes."""
    values = {
        "requests": {"orders": build_request()},
        "keys": [build_key()],
        "aliases": [],
        "secrets": {"orders": ROW},
        "trust_bundle": {"data": {"ca.crt": "x"}},
        **around,
    }
    return PodFacts(
        pod=pod or build_injected_pod(status=STARTED),
        around=RequestFacts(**values),
        webhook=build_webhook(),
        namespace=build_namespace(),
        log=[],
        warnings=[],
    )


def first_failure(found: PodFacts) -> Check:
    """Return what keeps the pod from its key; something must."""
    check = find_failure(decide_pod(found))
    assert check is not None
    assert check.next_step, check
    return check


def uninjected(**metadata: Any) -> dict[str, Any]:
    """Return a pod that was created without the webhook."""
    pod = build_injected_pod()
    del pod["metadata"]["annotations"]["datakeys.dev/injected"]
    pod["spec"]["initContainers"] = []
    pod["metadata"] |= metadata
    return pod


def test_pod_that_has_its_key_passes_every_check() -> None:
    """Nothing is unknown, nothing is pending."""
    checks = decide_pod(facts())
    assert {check.verdict for check in checks} == {Verdict.PASS}
    assert [check.name for check in checks] == [
        "label", "annotations", "injected", "request", "key", "secret", "service-account", "trust-bundle",
        "sidecar", "delivered",
    ]  # fmt: skip
    explanation = build_explanation("Pod/orders-1", NAMESPACE, checks)
    assert explanation.conclusion == (Verdict.PASS, "the pod has what it asked for")


def test_pod_that_asks_for_nothing() -> None:
    """The next step names the annotation."""
    check = first_failure(facts(uninjected(labels={}, annotations={})))
    assert check.name == "annotations"
    assert "datakeys.dev/key" in check.next_step


@pytest.mark.parametrize(
    ("name", "step"),
    [("keys", "write datakeys.dev/key"), ("Key", "write datakeys.dev/key"), ("x", "take it out")],
)
def test_misspelt_annotation_comes_first(name: str, step: str) -> None:
    """It is why the pod asks for nothing, or not for what it should."""
    for pod in (uninjected(labels={}, annotations={f"datakeys.dev/{name}": "main"}), build_injected_pod()):
        pod["metadata"]["annotations"] |= {f"datakeys.dev/{name}": "main"}
        check = first_failure(facts(pod))
        assert check.detail == f"annotation datakeys.dev/{name} is unknown and has no effect"
        assert check.next_step.startswith(step)


def test_label_without_annotation() -> None:
    """The label alone names no data key."""
    check = first_failure(facts(uninjected(annotations={})))
    assert (check.name, "no annotation" in check.detail) == ("annotations", True)


def test_label_that_says_no() -> None:
    """Any other value than true is the user's no."""
    check = first_failure(facts(uninjected(labels={"datakeys.dev/inject": "false"})))
    assert "says no" in check.detail


def test_malformed_annotation_is_named() -> None:
    """With the text of the contract's own parser."""
    pod = uninjected(annotations={"datakeys.dev/key": "main", "datakeys.dev/scope": "cluster"})
    check = first_failure(facts(pod))
    assert "datakeys.dev/scope: must be workload or pod" in check.detail


def test_pod_of_a_replica_set_without_stamp() -> None:
    """The annotation belongs on the Deployment."""
    pod = uninjected(
        annotations={"datakeys.dev/key": "main"},
        ownerReferences=[{"kind": "ReplicaSet", "name": "orders-5d", "controller": True}],
    )
    check = first_failure(facts(pod))
    assert "ReplicaSet/orders-5d" in check.detail
    assert "workload" in check.next_step


@pytest.mark.parametrize(
    ("webhook", "text"),
    [
        (MISSING, "no webhook"),
        (build_webhook(clientConfig={}), "no caBundle"),
        (build_webhook(failurePolicy="Ignore"), "failurePolicy is Ignore"),
        (build_webhook(namespaceSelector={"matchLabels": {"a": "b"}}), "never sent"),
        (
            build_webhook(
                namespaceSelector={
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE]}
                    ]
                }
            ),
            "never sent",
        ),
    ],
)
def test_uninjected_pod_and_the_webhook(webhook: Any, text: str) -> None:
    """After the fact itself comes the cause."""
    checks = decide_pod(replace(facts(uninjected()), webhook=webhook))
    failures = [check for check in checks if check.verdict is Verdict.FAIL]
    assert failures[0].name == "injected"
    assert text in failures[1].detail


def test_pod_older_than_the_webhook() -> None:
    """Nothing could have injected it."""
    webhook = build_webhook()
    webhook["metadata"]["creationTimestamp"] = "2026-06-01T00:00:00Z"
    checks = decide_pod(replace(facts(uninjected()), webhook=webhook))
    assert any("since 2026-06-01" in check.detail for check in checks)


def test_webhook_that_can_t_be_seen_is_no_failure_of_its_own() -> None:
    """An ordinary user may not read the configuration; the text tells which right it takes."""
    checks = decide_pod(replace(facts(uninjected()), webhook=HIDDEN, namespace=HIDDEN))
    unseen = [check for check in checks if check.verdict is Verdict.UNSEEN]
    assert [check.name for check in unseen] == ["webhook"]
    assert "alice" in unseen[0].detail


def test_request_that_doesn_t_exist() -> None:
    """The pod waits for its Secret for ever."""
    check = first_failure(facts(requests={"orders": MISSING}, secrets={"orders": None}))
    assert "no DataKeyRequest orders in namespace shop" in check.detail


def test_request_that_has_failed() -> None:
    """Reason and message are the controller's."""
    request = build_request(ready=False)
    request["status"] = {"conditions": [build_condition("False", "AccessDeniedException", "no right")]}
    check = first_failure(facts(requests={"orders": request}))
    assert "AccessDeniedException: no right" in check.detail


def test_request_that_nobody_has_looked_at_waits() -> None:
    """That is no failure yet."""
    checks = decide_pod(facts(requests={"orders": build_request(ready=False)}))
    assert [check.verdict for check in checks if check.name == "request"] == [Verdict.WAIT]


def test_dry_run_gets_no_data_key() -> None:
    """Its Secret never comes."""
    assert "dry run" in first_failure(facts(requests={"orders": build_request(dryRun=True)})).detail


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("Disabled", "spec.enabled: true in KmsKey main"),
        ("PendingDeletion", "before 2026-03-01T00:00:00Z"),
        ("PendingImport", "import its key material"),
        ("Unavailable", "kubectl describe kmskey main"),
    ],
)
def test_key_in_a_state_that_decrypts_nothing(state: str, step: str) -> None:
    """Each state has its own way out."""
    key = build_key(state=state)
    key["status"]["deletionDate"] = "2026-03-01T00:00:00Z"
    check = first_failure(facts(keys=[key]))
    assert check.name == "key"
    assert step in check.next_step


def test_what_may_not_be_seen_is_said_of_each() -> None:
    """With the right that is lacking; nothing of it is a failure."""
    hidden = facts(requests={"orders": HIDDEN}, trust_bundle=HIDDEN)
    checks = decide_pod(hidden)
    assert {"request", "trust-bundle"} == {one.name for one in checks if one.verdict is Verdict.UNSEEN}
    checks = decide_pod(facts(keys=HIDDEN, secrets=HIDDEN))
    unseen = [one for one in checks if one.verdict is Verdict.UNSEEN]
    assert {one.name for one in unseen} == {"key", "secret"}
    assert all("alice" in one.detail for one in unseen)
    assert find_failure(checks) is None


def test_key_that_isn_t_made_yet() -> None:
    """The controller says why."""
    key = build_key(state=None)
    key["status"] = {"conditions": [build_condition("False", "LimitExceededException")]}
    request = build_request(ready=False)
    check = first_failure(facts(requests={"orders": request}, keys=[key]))
    assert "isn't made yet: LimitExceededException" in check.detail


def test_key_that_is_lost() -> None:
    """It was there once, so it isn't "not yet" made: the controller's words say what may have happened."""
    key = build_key()
    del key["status"]["keyState"]
    key["status"]["conditions"] = [build_condition("False", "NotFoundException", "no such key")]
    check = first_failure(facts(keys=[key]))
    assert check.detail == "KmsKey main has lost its key: no such key"


def test_conclusions_without_a_failure() -> None:
    """Waiting, or as far as one may see."""
    waiting = build_injected_pod(status=RUNNING)
    assert build_explanation("p", NAMESPACE, decide_pod(facts(waiting))).conclusion[0] is Verdict.WAIT
    hidden = replace(facts(waiting, secrets=HIDDEN), log=HIDDEN)
    assert build_explanation("p", NAMESPACE, decide_pod(hidden)).conclusion[0] is Verdict.UNSEEN


def test_sidecar_that_refuses_to_run() -> None:
    """Sidecar and webhook of different versions."""
    log = [{"event": "refused", "reason": "DATAKEYS_X is unknown"}]
    check = first_failure(replace(facts(build_injected_pod(status=RUNNING)), log=log))
    assert "DATAKEYS_X is unknown" in check.detail


def test_ordinary_sidecar_has_delivered_when_its_log_says_so() -> None:
    """It has no startup probe that the app waits for."""
    pod = build_injected_pod()
    pod["spec"]["containers"] += pod["spec"].pop("initContainers")
    pod["status"] = {"containerStatuses": [{"name": "datakeys-sidecar", **STARTED}]}
    assert decide_pod(facts(pod))[-1].verdict is Verdict.WAIT
    delivered = replace(facts(pod), log=[{"event": "delivered", "request": "orders"}])
    assert decide_pod(delivered)[-1].verdict is Verdict.PASS


def test_key_that_isn_t_there() -> None:
    """Before a data key was made that is a failure; after it the key may be known to the key service only."""
    check = first_failure(facts(requests={"orders": build_request(ready=False)}, keys=[], secrets={}))
    assert "names main" in check.detail
    checks = decide_pod(facts(keys=[]))
    (check,) = [check for check in checks if check.name == "key"]
    assert (check.verdict, "apply it again" in check.next_step) == (Verdict.WAIT, True)


def test_alias_that_isn_t_there() -> None:
    """It is a KmsAlias that is to be made, or a name that is to be corrected."""
    request = build_request(ready=False)
    request["spec"] |= {"keyRef": None, "keyId": "alias/mian"}
    check = first_failure(facts(requests={"orders": request}, secrets={}, keys=[]))
    assert "names alias/mian, and no KmsAlias here has that name" in check.detail
    assert check.next_step.startswith("create the KmsAlias; or correct the name")


def test_pod_of_another_service_account() -> None:
    """No grant helps: the ciphertext is bound."""
    check = first_failure(facts(build_injected_pod(status=RUNNING, account="other")))
    assert check.name == "service-account"
    assert "serviceAccountName: app" in check.next_step
    assert "grant" not in check.next_step


def test_key_policy_that_denies_the_account() -> None:
    """It comes before the binding of the data key; with conditions nobody can tell from here."""
    denial: dict[str, Any] = {
        "Effect": "Deny",
        "Principal": {"Kubernetes": f"arn:k8s:iam::{NAMESPACE}:serviceaccount/app"},
        "Action": "kms:Decrypt",
        "Resource": "*",
        "Sid": "no",
    }
    key = build_key(policy=json.dumps({"Statement": [denial]}))
    check = first_failure(facts(keys=[key]))
    assert (check.name, "statement no of the policy of KmsKey main" in check.detail) == ("key-policy", True)
    denial["Condition"] = {"StringEquals": {"kms:KeySpec": "RSA_2048"}}
    key = build_key(policy=json.dumps({"Statement": [denial]}))
    checks = decide_pod(facts(keys=[key]))
    assert [one.verdict for one in checks if one.name == "key-policy"] == [Verdict.WAIT]
    checks = decide_pod(facts(keys=[build_key(policy="{")]))
    assert ["isn't a key policy" in one.detail for one in checks if one.name == "key-policy"] == [True]


def test_what_the_controller_told_is_shown() -> None:
    """Its latest Event of each reason, and nobody else's."""
    told = {"reason": "NotInjected", "reportingComponent": "datakeys.dev/datakeys-controller", "metadata": {}}
    warnings = [
        {**told, "message": "second", "eventTime": "2026-01-02T00:00:00.000000Z"},
        {**told, "message": "first", "eventTime": "2026-01-01T00:00:00.000000Z"},
        {"reason": "BackOff", "reportingComponent": "kubelet", "message": "no", "metadata": {}},
    ]
    checks = decide_pod(replace(facts(uninjected()), warnings=warnings))
    assert [check.detail for check in checks if check.name == "controller"] == [
        "the controller told at 2026-01-02T00:00:00.000000Z: second"
    ]


def test_missing_secret() -> None:
    """The Secret of the pod's own request."""
    check = first_failure(facts(secrets={"orders": None}))
    assert (check.name, check.detail) == ("secret", "there is no Secret orders")


def test_secret_of_somebody_else() -> None:
    """Same name, other owner."""
    check = first_failure(facts(secrets={"orders": SecretRow("orders", "Opaque", "")}))
    assert "isn't the one of DataKeyRequest orders" in check.detail


def test_pod_that_waits_for_a_secret_that_no_request_has() -> None:
    """A request that was made anew with another secretName: the pod can't be corrected."""
    pod = build_injected_pod("former", status={"state": {"waiting": {"reason": "ContainerCreating"}}})
    check = first_failure(facts(pod, secrets={"orders": ROW, "former": None}))
    assert "waits for Secret former" in check.detail


@pytest.mark.parametrize("bundle", [MISSING, {"data": {}}])
def test_missing_trust_bundle(bundle: Any) -> None:
    """The sidecar has nothing to check the key service's certificate with."""
    check = first_failure(facts(build_injected_pod(status=RUNNING), trust_bundle=bundle))
    assert check.name == "trust-bundle"


def test_sidecar_that_can_t_start() -> None:
    """Its image, for example."""
    status = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    check = first_failure(facts(build_injected_pod(status=status)))
    assert "ImagePullBackOff no such image" in check.detail


def test_sidecar_that_waits_for_a_mount_tells_for_what() -> None:
    """The kubelet says it in an Event."""
    pod = build_injected_pod(status={"state": {"waiting": {"reason": "PodInitializing"}}})
    event = {
        "reason": "FailedMount",
        "message": 'configmap "datakeys-trust-bundle" not found',
        "lastTimestamp": MADE,
    }
    older = {**event, "message": "older", "lastTimestamp": "2020-01-01T00:00:00Z"}
    checks = decide_pod(replace(facts(pod), warnings=[event, older, {**event, "reason": "BackOff"}]))
    assert any(event["message"] in check.detail for check in checks if check.verdict is Verdict.WAIT)


def test_sidecar_s_own_words_are_the_next_step() -> None:
    """Code and advice come from its log."""
    log = [
        {"event": "started"},
        {"event": "decrypt_failed", "request": "orders", "code": "ThrottlingException", "next": "nothing"},
        {"event": "decrypt_failed", "request": "orders", "code": "DisabledException", "next": "enable it"},
    ]
    check = first_failure(replace(facts(build_injected_pod(status=RUNNING)), log=log))
    assert (check.name, check.detail, check.next_step) == (
        "delivered", "data key orders: DisabledException", "enable it",
    )  # fmt: skip


def test_delivery_ends_a_failure() -> None:
    """An old failure in the log explains nothing any more."""
    log = [
        {"event": "decrypt_failed", "request": "a", "code": "X"},
        {"event": "decrypt_failed", "request": "b", "code": "Y"},
        {"event": "delivered", "request": "a"},
    ]
    assert list(find_open_failures(log)) == ["b"]


def test_sidecar_that_waits_has_not_failed() -> None:
    """A Secret that is still being made."""
    log = [{"event": "waiting", "request": "orders", "code": "MissingInput", "next": "wait for the Secret"}]
    check = decide_pod(replace(facts(build_injected_pod(status=RUNNING)), log=log))[-1]
    assert (check.verdict, check.detail, check.next_step) == (
        Verdict.WAIT, "data key orders: MissingInput", "wait for the Secret",
    )  # fmt: skip


def test_key_that_has_ended_is_told() -> None:
    """By its time, or by its first read: that was asked for."""
    log = [
        {"event": "delivered", "request": "orders"},
        {"event": "expired", "request": "orders", "cause": "ttl"},
    ]
    checks = decide_pod(replace(facts(), log=log))
    assert [check.detail for check in checks if check.name == "expired"] == [
        "orders has been destroyed since, as the pod asks (ttl)"
    ]
    assert {check.verdict for check in checks} == {Verdict.PASS}


def test_endpoint_that_fails_later_is_told() -> None:
    """The app runs, and its SDK gets errors."""
    failure = {"event": "endpoint_unavailable", "code": "KeyServiceUnreachable", "next": "look at DNS"}
    check = first_failure(replace(facts(), log=[{"event": "endpoint_ready"}, failure]))
    assert (check.name, check.detail) == ("endpoint", "the KMS endpoint: KeyServiceUnreachable")
    checks = decide_pod(replace(facts(), log=[failure, {"event": "endpoint_ready"}]))
    assert {one.verdict for one in checks} == {Verdict.PASS}


def test_log_that_can_t_be_seen() -> None:
    """pods/log is a right of its own."""
    found = replace(facts(build_injected_pod(status=RUNNING)), log=HIDDEN)
    assert [check.verdict for check in decide_pod(found)][-1] is Verdict.UNSEEN


def test_lines_of_a_log_that_aren_t_events_are_left_out() -> None:
    """A traceback, half a line."""
    assert parse_log('{"event": "started"}\nTraceback\n[1]\n{"event": "stop') == [{"event": "started"}]


def test_init_delivery_is_done_when_its_container_is() -> None:
    """Nothing of it stays."""
    pod = build_injected_pod(status={"state": {"terminated": {"exitCode": 0}}})
    del pod["spec"]["initContainers"][0]["restartPolicy"]
    assert decide_pod(facts(pod))[-1].name == "delivered"
    assert decide_pod(facts(pod))[-1].verdict is Verdict.PASS


def test_pod_of_a_job_that_is_done_had_its_key() -> None:
    """The sidecar has ended with it; its log tells what it did."""
    pod = build_injected_pod(status={"state": {"terminated": {"exitCode": 0}}})
    check = decide_pod(replace(facts(pod), log=[{"event": "delivered", "request": "orders"}]))[-1]
    assert (check.name, check.verdict) == ("delivered", Verdict.PASS)
    assert decide_pod(facts(pod))[-1].verdict is Verdict.WAIT


def test_sidecar_that_has_failed() -> None:
    """With its exit status."""
    pod = build_injected_pod(status={"state": {"terminated": {"exitCode": 2}}})
    assert "ended with status 2" in first_failure(facts(pod)).detail


def test_app_that_can_t_start_is_told_apart_from_its_keys() -> None:
    """The keys are there; the explanation says where else to look."""
    pod = build_injected_pod(status=STARTED)
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "no user"}}
    pod["status"]["containerStatuses"] = [
        {"name": "app", "state": waiting},
        {"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}},
    ]
    checks = decide_pod(facts(pod))
    assert [check.detail for check in checks if check.name == "app"] == [
        "container app can't start: CreateContainerConfigError no user"
    ]
    assert build_explanation("Pod/orders-1", NAMESPACE, checks).conclusion[0] is Verdict.PASS


def test_pod_without_a_node() -> None:
    """That has nothing to do with data keys."""
    pod = build_injected_pod()
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "no node"}]
    assert "no node" in first_failure(facts(pod)).detail
