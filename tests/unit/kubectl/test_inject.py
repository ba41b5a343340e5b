"""What the webhook would make of a manifest."""

import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from datakeys.kubectl.answers import ClusterError, UserError
from datakeys.kubectl.arguments import parse_arguments
from datakeys.kubectl.inject.command import run_inject
from datakeys.kubectl.inject.injector import build_settings, inject
from datakeys.kubectl.inject.json_patch import apply_patch
from datakeys.kubectl.inject.manifests import parse_manifests
from datakeys.kubectl.paths import ADMISSION, APPS, DATAKEYS, build_path
from datakeys.webhook.patches import RequestFacts, build_injection
from kubectl_objects import NAMESPACE, FakeKubectl, build_console, build_request, build_webhook

Body = dict[str, Any]
SPEC = {
    "serviceAccountName": "app",
    "securityContext": {"runAsUser": 10001},
    "containers": [{"name": "app", "image": "app:1"}],
}
SETTINGS = build_settings({})


def pod(**annotations: str) -> Body:
    """Return a pod; the annotations without their prefix, with underscores for dashes."""
    named = {f"datakeys.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    metadata = {"name": "bare", "annotations": named}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(SPEC)}


def workload(kind: str, **annotations: str) -> Body:
    """Return a workload with the annotations on itself."""
    template: Body = {"spec": {"template": {"spec": copy.deepcopy(SPEC)}}}
    body = pod(**annotations)
    body["spec"] = {"jobTemplate": template} if kind == "CronJob" else template["spec"]
    return {**body, "kind": kind}


def write(folder: Path, *bodies: Body) -> str:
    """Write manifests to a file; give its name."""
    path = folder / "manifest.yaml"
    path.write_text("---\n".join(yaml.safe_dump(body) for body in bodies))
    return str(path)


def run(kubectl: FakeKubectl, *words: str) -> tuple[int, str]:
    """Run the command; give status and output."""
    arguments = parse_arguments(["inject", *words])
    console, out = build_console()
    return run_inject(arguments, kubectl.cluster(), console), out.getvalue()


def decide(body: Body, *, secret: str = "") -> Body:
    """Return what becomes of an object; with ``secret`` its request has a Secret of that name."""
    (manifest,) = parse_manifests(yaml.safe_dump(body))
    facts = RequestFacts(secret_name=secret, service_account_name="app") if secret else None
    result = inject(manifest, NAMESPACE, SETTINGS, lambda names: dict.fromkeys(names, facts))
    assert not result.refusal, result.refusal
    return result.after


def test_pod_becomes_what_the_webhook_makes_of_it() -> None:
    """The same function decides; the patch is applied as the API server would."""
    body = pod(requests="orders")
    given = {**body, "metadata": {**body["metadata"], "namespace": NAMESPACE}}
    injection = build_injection(given, {"orders": RequestFacts("sealed", "app")}, SETTINGS)
    wanted = jsonpatch.apply_patch(given, list(injection.patch))
    del wanted["metadata"]["namespace"]
    assert decide(body, secret="sealed") == wanted


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_template_of_a_workload_is_shown_as_its_pods_will_be(kind: str) -> None:
    """The webhook stamps the template, and injects each pod of it later."""
    after = decide(workload(kind, key="main"))
    assert after["metadata"]["labels"] == {"datakeys.dev/inject": "true"}
    job = after["spec"]["jobTemplate"] if kind == "CronJob" else after
    template = job["spec"]["template"]
    assert template["metadata"]["annotations"]["datakeys.dev/workload"] == f"{kind}/bare"
    assert template["spec"]["initContainers"][0]["name"] == "datakeys-sidecar"
    assert f"bare.{kind.lower()}" in json.dumps(template["spec"]["volumes"])
    assert not {"name", "namespace", "ownerReferences"} & set(template["metadata"])


def test_ordinals_of_a_stateful_set_have_their_own_key() -> None:
    """The first one is shown."""
    after = decide(workload("StatefulSet", key="main", scope="pod"))
    assert "bare-0.statefulset" in json.dumps(after["spec"]["template"]["spec"]["volumes"])


def test_manifest_itself_is_never_changed() -> None:
    """It is the left side of the diff."""
    for body in (pod(key="main"), workload("Deployment", key="main")):
        (manifest,) = parse_manifests(yaml.safe_dump(body))
        inject(manifest, NAMESPACE, SETTINGS, dict.fromkeys)
        assert manifest.body == body


def test_diff_holds_only_what_changes(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Several documents, of which only those with pods count."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    path = write(tmp_path, service, pod(key="main"), pod())
    status, text = run(kubectl, "-f", path, "--offline", "--sidecar-image", "sidecar:7")
    assert status == 0
    lines = text.splitlines()
    assert lines[:2] == ["--- Pod/bare (as given)", "+++ Pod/bare (injected)"]
    assert "+    image: sidecar:7" in lines
    assert not [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert lines[-1] == "# Pod/bare is left as it is: it asks for no data key."
    assert kubectl.calls == []


def test_refusal_is_shown_and_sets_the_status(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """The text is the webhook's; the other objects are shown all the same."""
    path = write(tmp_path, pod(key="main", ttl="soon"), pod(key="main"))
    status, text = run(kubectl, "-f", path, "--offline")
    assert status == 1
    assert text.startswith("# Pod/bare is refused: annotation datakeys.dev/ttl: must be a duration")
    assert "+++ Pod/bare (injected)" in text


def test_settings_and_secret_names_come_from_the_cluster(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """The webhook's own Deployment says what it injects."""
    kubectl.answer(
        build_path(ADMISSION, "mutatingwebhookconfigurations", None, "datakeys-webhook"), build_webhook()
    )
    env = [
        {"name": "DATAKEYS_SIDECAR_IMAGE", "value": "sidecar:9"},
        {"name": "DATAKEYS_SYSTEM_NAMESPACE", "valueFrom": {"fieldRef": {}}},
    ]
    deployment = {"spec": {"template": {"spec": {"containers": [{"name": "webhook", "env": env}]}}}}
    kubectl.answer(build_path(APPS, "deployments", "datakey-system", "datakeys-webhook"), deployment)
    kubectl.answer(
        build_path(DATAKEYS, "datakeyrequests", NAMESPACE, "orders"), build_request(secretName="sealed")
    )
    status, text = run(kubectl, "-f", write(tmp_path, pod(requests="orders,none")), "-n", NAMESPACE)
    assert status == 0
    assert "+    image: sidecar:9" in text
    assert "+          name: sealed" in text
    assert "guesses" not in text
    assert "# Pod/bare: DataKeyRequest none not found" in text


def test_settings_that_can_t_be_seen_are_called_guesses(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """An ordinary user may not read the webhook's Deployment."""
    path = build_path(ADMISSION, "mutatingwebhookconfigurations", None, "datakeys-webhook")
    kubectl.answer(path, "Error from server (Forbidden): no")
    status, text = run(kubectl, "-f", write(tmp_path, pod(key="main")), "-n", NAMESPACE)
    assert status == 0
    assert "are guesses" in text.splitlines()[0]


def test_request_that_may_not_be_seen_is_an_error(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Its Secret's name would be a guess, and the diff wrong."""
    path = build_path(DATAKEYS, "datakeyrequests", NAMESPACE, "orders")
    kubectl.answer(path, "Error from server (Forbidden): no such right")
    with pytest.raises(ClusterError, match="no such right"):
        run(kubectl, "-f", write(tmp_path, pod(requests="orders")), "-n", NAMESPACE)


def test_settings_that_make_no_sense_are_said(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """A webhook of another version, perhaps."""
    kubectl.answer(
        build_path(ADMISSION, "mutatingwebhookconfigurations", None, "datakeys-webhook"), build_webhook()
    )
    env = [{"name": "DATAKEYS_SIDECAR_KIND", "value": "strange"}]
    deployment = {"spec": {"template": {"spec": {"containers": [{"name": "webhook", "env": env}]}}}}
    kubectl.answer(build_path(APPS, "deployments", "datakey-system", "datakeys-webhook"), deployment)
    with pytest.raises(UserError, match="strange"):
        run(kubectl, "-f", write(tmp_path, pod(key="main")), "-n", NAMESPACE)


def test_file_without_pods_is_no_error(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Nothing is injected into a Service."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    assert run(kubectl, "-f", write(tmp_path, service), "--offline") == (
        0,
        "# The file has no object with pods.\n",
    )


def test_workload_that_the_webhook_would_refuse(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Already the workload, not only its pods."""
    status, text = run(
        kubectl, "-f", write(tmp_path, workload("Deployment", key="main", scope="pod")), "--offline"
    )
    assert status == 1
    assert text.startswith("# Deployment/bare is refused: annotation datakeys.dev/scope")


def test_misspelt_annotation_is_told(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """The manifest is left as it is, and that is hardly what its author wants."""
    status, text = run(kubectl, "-f", write(tmp_path, workload("Deployment", keys="main")), "--offline")
    assert status == 0
    assert "annotation datakeys.dev/keys is unknown and has no effect: write datakeys.dev/key" in text


def test_standard_input_is_read(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    """``kubectl kms inject -f -``, here a list in JSON."""
    text = json.dumps({"kind": "List", "items": [pod(key="main"), pod(key="main")]})
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    status, output = run(kubectl, "-f", "-", "--offline", "-o", "json")
    items = json.loads(output)["items"]
    assert status == 0
    assert [item["injected"] for item in items] == [True, True]
    assert items[0]["podPatch"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "isn't YAML"),
        ("just text", "must be a map"),
        ("kind: Pod", "document 1 .Pod. lacks metadata"),
        ("kind: Pod\nmetadata: {name: a}\nspec: {containers: []}", "lacks"),
        ("kind: Pod\nmetadata: {name: a}\nspec: {containers: [{image: b}]}", "lacks"),
        ("kind: Service\n---\nkind: Job\nmetadata: {name: a}\nspec: {}", "document 2 .Job. lacks"),
        ("kind: CronJob\nmetadata: {name: a}\nspec: {jobTemplate: 1}", "lacks"),
    ],
)
def test_malformed_manifests_are_named(text: str, message: str) -> None:
    """With their place in the file."""
    with pytest.raises(UserError, match=message):
        parse_manifests(text)


@pytest.mark.parametrize(
    "change",
    [
        {"volumes": [1]},
        {"containers": [{"name": "a", "volumeMounts": "x"}]},
        {"securityContext": ["a"]},
        {"containers": [{"name": "a", "env": 5}]},
    ],
)
def test_manifest_that_the_api_server_would_refuse_is_no_traceback(
    kubectl: FakeKubectl, tmp_path: Path, change: Body
) -> None:
    """The webhook never sees such a pod; here a person gets a sentence."""
    body = pod(key="main", aws_endpoint="true")
    body["spec"] |= change
    with pytest.raises(UserError, match=r"document 1 \(Pod\) isn't of the form"):
        run(kubectl, "-f", write(tmp_path, body), "--offline")


def test_file_that_can_t_be_read(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """Missing, or not text."""
    with pytest.raises(UserError, match="No such file"):
        run(kubectl, "-f", str(tmp_path / "none.yaml"), "--offline")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="isn't UTF-8"):
        run(kubectl, "-f", str(tmp_path / "binary"), "--offline")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/a", "value": 1},
        {"op": "add", "path": "/l/1", "value": {"x": []}},
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "add", "path": "/m/a~1b~0c", "value": 3},
        {"op": "replace", "path": "/l/0", "value": 9},
        {"op": "replace", "path": "/m/k", "value": None},
        {"op": "remove", "path": "/l/1"},
        {"op": "remove", "path": "/m/k"},
    ],
)
def test_patches_are_applied_as_the_standard_says(operation: Body) -> None:
    """Against another implementation of RFC 6902."""
    document = {"l": [1, 2], "m": {"k": "v"}}
    before = copy.deepcopy(document)
    assert apply_patch(document, [operation]) == jsonpatch.apply_patch(document, [operation])
    assert document == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "remove", "path": "/none"},
        {"op": "add", "path": "/none/x", "value": 1},
    ],
)
def test_patches_that_lead_nowhere_are_errors(operation: Body) -> None:
    """Never a silent half."""
    with pytest.raises((ValueError, LookupError)):
        apply_patch({"l": [1]}, [operation])
