"""Each value has the effect that values.yaml promises."""

from typing import Any

import pytest

from chart_rendering import (
    PROCESSES,
    SYSTEM_NAMESPACE,
    Manifest,
    container_of,
    deployment_of,
    environment_of,
    find,
    of_kind,
    render,
    template,
)


def test_image_values_apply_to_all_and_can_be_overridden() -> None:
    """Registry and tag of all images are set in one place; a process may differ or pin a digest."""
    digest = "sha256:" + "0" * 64
    manifests = render(
        {
            "image": {
                "registry": "registry.example/team",
                "tag": "2",
                "pullPolicy": "Always",
                "pullSecrets": ["a"],
            },
            "controller.image.tag": "3",
            "controller.image.pullSecrets": ["b"],
            "keyservice.image.digest": digest,
            "keyservice.image.pullPolicy": "Never",
        }
    )
    assert container_of(manifests, "controller")["image"] == "registry.example/team/datakeys-controller:3"
    assert container_of(manifests, "webhook")["image"] == "registry.example/team/datakeys-webhook:2"
    assert (
        container_of(manifests, "keyservice")["image"]
        == f"registry.example/team/datakeys-keyservice@{digest}"
    )
    policies = [container_of(manifests, process)["imagePullPolicy"] for process in PROCESSES]
    assert policies == ["Always", "Always", "Never"]
    pods = [deployment_of(manifests, process)["spec"]["template"]["spec"] for process in PROCESSES]
    assert [pod["imagePullSecrets"] for pod in pods] == [[{"name": "b"}], [{"name": "a"}], [{"name": "a"}]]


def test_sidecar_image_is_handed_to_the_webhook() -> None:
    """What the webhook injects follows the image values too."""
    manifests = render({"image.registry": "registry.example", "sidecar.image.pullPolicy": "Never"})
    environment = environment_of(manifests, "webhook")
    assert environment["DATAKEYS_SIDECAR_IMAGE"] == "registry.example/datakeys-sidecar:0.1.0"
    assert environment["DATAKEYS_SIDECAR_IMAGE_PULL_POLICY"] == "Never"


@pytest.mark.parametrize("process", PROCESSES)
def test_placement_and_extras_reach_the_pod(process: str) -> None:
    """Every scheduling value, annotation and variable ends up where the Pod API has it."""
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    values: dict[str, Any] = {
        "replicas": 3,
        "logLevel": "DEBUG",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [spread],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"a": "b"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
    }
    manifests = render({f"{process}.{name}": value for name, value in values.items()})
    spec = deployment_of(manifests, process)["spec"]
    pod = spec["template"]["spec"]
    assert spec["replicas"] == 3
    for name in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"):
        assert pod[name] == values[name], name
    assert spec["template"]["metadata"]["annotations"]["a"] == "b"
    environment = environment_of(manifests, process)
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["DATAKEYS_LOG_LEVEL"] == "DEBUG"


@pytest.mark.parametrize("process", PROCESSES)
def test_extra_variable_must_not_replace_a_setting(process: str) -> None:
    """A name that the chart sets itself is refused, and the message names it."""
    done = template({f"{process}.extraEnv": [{"name": "DATAKEYS_CLUSTER_NAME", "value": "other"}]})
    assert done.returncode != 0
    assert f"{process}.extraEnv: the chart sets DATAKEYS_CLUSTER_NAME itself" in done.stderr


def test_metrics_are_announced_to_prometheus(manifests: list[Manifest]) -> None:
    """The annotations lead a scraper to /metrics on port 9443; a value removes them."""
    silent = render({"metrics.annotations": False})
    for process in PROCESSES:
        annotations = deployment_of(manifests, process)["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == ("9443", "/metrics")
        assert "annotations" not in deployment_of(silent, process)["spec"]["template"]["metadata"]


def test_service_monitor_is_optional_and_covers_all_processes(manifests: list[Manifest]) -> None:
    """By default there is none, since its CRD may be missing; if asked for it finds all three Services."""
    assert not list(of_kind(manifests, "ServiceMonitor"))
    (monitor,) = of_kind(render({"metrics.serviceMonitor.enabled": True}), "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    (endpoint,) = monitor["spec"]["endpoints"]
    for process in PROCESSES:
        service = find(manifests, "Service", f"datakeys-{process}")
        assert selector.items() <= service["metadata"]["labels"].items()
        assert {port["name"]: port["port"] for port in service["spec"]["ports"]}[endpoint["port"]] == 9443


@pytest.mark.parametrize(
    ("value", "kind"),
    [("podDisruptionBudget.enabled", "PodDisruptionBudget"), ("networkPolicy.enabled", "NetworkPolicy")],
)
def test_budgets_and_policies_can_be_left_out(value: str, kind: str) -> None:
    """A value switches them off."""
    assert not list(of_kind(render({value: False}), kind))


def test_excluded_namespaces_reach_webhook_and_policy() -> None:
    """A namespace without data keys is out of reach for injection and for the controller's binding alike."""
    manifests = render({"excludedNamespaces": ["monitoring"]})
    webhooks = find(manifests, "MutatingWebhookConfiguration", "datakeys-webhook")["webhooks"]
    policy = find(manifests, "ValidatingAdmissionPolicy", "datakeys-controller-rolebindings")
    for webhook in webhooks:
        (expression,) = webhook["namespaceSelector"]["matchExpressions"]
        assert set(expression["values"]) == {SYSTEM_NAMESPACE, "kube-system", "monitoring"}
    assert "['datakey-system','kube-system','monitoring']" in policy["spec"]["validations"][0]["expression"]


def test_uninjected_pods_are_evicted_on_request_only() -> None:
    """The controller gets the order and the right for it together; excluded namespaces it always knows."""
    settings = (
        "DATAKEYS_EVICT_UNINJECTED",
        "DATAKEYS_EVICTION_MINIMUM_AGE_SECONDS",
        "DATAKEYS_EVICTIONS_PER_MINUTE",
    )
    usual = render({"excludedNamespaces": ["legacy"]})
    asked = render(
        {"controller.uninjectedPods": {"evict": True, "minimumAgeSeconds": 30, "evictionsPerMinute": 60}}
    )
    environment = environment_of(usual, "controller")
    assert environment["DATAKEYS_EXCLUDED_NAMESPACES"] == f"{SYSTEM_NAMESPACE},kube-system,legacy"
    assert [environment[name] for name in settings] == ["false", "120", "6"]
    assert [environment_of(asked, "controller")[name] for name in settings] == ["true", "30", "60"]
    rights = [find(made, "ClusterRole", "datakeys-controller")["rules"] for made in (usual, asked)]
    evicts = {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}
    assert [evicts in rules for rules in rights] == [False, True]
