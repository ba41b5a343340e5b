"""Deployments, Services, and budgets fit together and match the architecture's names and ports."""

import pytest

from chart_rendering import (
    CLUSTER_NAME,
    PROCESSES,
    SYSTEM_NAMESPACE,
    Manifest,
    container_of,
    deployment_of,
    environment_of,
    find,
    render,
    selected_by,
    volume_of,
)
from datakeys.contract import identity

COMMON = {
    "DATAKEYS_CLUSTER_NAME",
    "DATAKEYS_SYSTEM_NAMESPACE",
    "DATAKEYS_LOG_LEVEL",
    "DATAKEYS_HEALTH_LISTEN",
}
SETTINGS = {
    "controller": COMMON
    | {
        "DATAKEYS_KEYSERVICE_URL",
        "DATAKEYS_KEYSERVICE_CA_FILE",
        "DATAKEYS_TOKEN_FILE",
        "DATAKEYS_EXCLUDED_NAMESPACES",
        "DATAKEYS_EVICT_UNINJECTED",
        "DATAKEYS_EVICTION_MINIMUM_AGE_SECONDS",
        "DATAKEYS_EVICTIONS_PER_MINUTE",
    },
    "webhook": COMMON
    | {
        "DATAKEYS_LISTEN",
        "DATAKEYS_TLS_DIRECTORY",
        "DATAKEYS_MANAGE_CA_BUNDLE",
        "DATAKEYS_KEYSERVICE_URL",
        "DATAKEYS_SIDECAR_IMAGE",
        "DATAKEYS_SIDECAR_IMAGE_PULL_POLICY",
        "DATAKEYS_SIDECAR_KIND",
    },
    "keyservice": COMMON
    | {
        "DATAKEYS_LISTEN",
        "DATAKEYS_CONTROLLER_SERVICE_ACCOUNT",
        "DATAKEYS_TOKEN_CACHE_SECONDS",
        "DATAKEYS_CALLER_ADDRESS",
        "DATAKEYS_RATE_QUOTA_FACTOR",
        "DATAKEYS_CA_SECONDS",
        "DATAKEYS_LEAF_SECONDS",
        "DATAKEYS_CA_OVERLAP_SECONDS",
        "DATAKEYS_WEBHOOK_CERTIFICATE",
    },
}
KEYSERVICE_URL = f"https://datakeys-keyservice.{SYSTEM_NAMESPACE}.svc:443"


@pytest.mark.parametrize("process", PROCESSES)
def test_two_replicas_that_prefer_different_nodes(manifests: list[Manifest], process: str) -> None:
    """By default each process survives the loss of a node."""
    spec = deployment_of(manifests, process)["spec"]
    (preference,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    term = preference["podAffinityTerm"]
    assert spec["replicas"] == 2
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert list(selected_by(term["labelSelector"]["matchLabels"], manifests)) == [f"datakeys-{process}"]


@pytest.mark.parametrize("process", PROCESSES)
def test_budget_never_blocks_a_drain(manifests: list[Manifest], process: str) -> None:
    """One pod may go at a time, whatever the number of replicas, and broken pods always."""
    spec = find(manifests, "PodDisruptionBudget", f"datakeys-{process}")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert list(selected_by(spec["selector"]["matchLabels"], manifests)) == [f"datakeys-{process}"]


@pytest.mark.parametrize("process", PROCESSES)
def test_probes_ask_the_health_port(manifests: list[Manifest], process: str) -> None:
    """Startup and liveness ask /healthz, readiness asks /readyz, all on port 9443 in plain HTTP."""
    container = container_of(manifests, process)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "health"}
    assert ports["health"] == 9443


@pytest.mark.parametrize("process", PROCESSES)
def test_resources_are_reserved_and_memory_is_limited(manifests: list[Manifest], process: str) -> None:
    """Requests are set for CPU and memory; only memory has a limit."""
    resources = container_of(manifests, process)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("process", PROCESSES)
def test_environment_holds_the_settings_of_the_process(manifests: list[Manifest], process: str) -> None:
    """Each process gets exactly the variables that the architecture lists for it."""
    assert set(environment_of(manifests, process)) == SETTINGS[process]


def test_settings_have_the_values_of_the_architecture(manifests: list[Manifest]) -> None:
    """Addresses, paths and names in the environment are those that the other side uses."""
    controller, webhook, keyservice = (environment_of(manifests, process) for process in PROCESSES)
    for environment in (controller, webhook, keyservice):
        assert environment["DATAKEYS_CLUSTER_NAME"] == CLUSTER_NAME
        assert environment["DATAKEYS_SYSTEM_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
        assert environment["DATAKEYS_LOG_LEVEL"] == "INFO"
        assert environment["DATAKEYS_HEALTH_LISTEN"] == "0.0.0.0:9443"
    assert controller["DATAKEYS_KEYSERVICE_URL"] == webhook["DATAKEYS_KEYSERVICE_URL"] == KEYSERVICE_URL
    assert webhook["DATAKEYS_LISTEN"] == keyservice["DATAKEYS_LISTEN"] == "0.0.0.0:8443"
    assert keyservice["DATAKEYS_CONTROLLER_SERVICE_ACCOUNT"] == "datakeys-controller"
    assert keyservice["DATAKEYS_TOKEN_CACHE_SECONDS"] == "10"


def test_controller_has_a_short_lived_token_for_the_key_service(manifests: list[Manifest]) -> None:
    """The token has the key service's audience, lives ten minutes and is where the settings say."""
    path = environment_of(manifests, "controller")["DATAKEYS_TOKEN_FILE"]
    folder, name = path.rsplit("/", 1)
    (source,) = volume_of(manifests, "controller", folder)["projected"]["sources"]
    assert source["serviceAccountToken"] == {
        "path": name,
        "audience": identity.AUDIENCE,
        "expirationSeconds": 600,
    }


def test_controller_waits_for_the_trust_bundle(manifests: list[Manifest]) -> None:
    """The bundle is mounted as a folder, so that it stays fresh, and isn't optional."""
    path = environment_of(manifests, "controller")["DATAKEYS_KEYSERVICE_CA_FILE"]
    folder, name = path.rsplit("/", 1)
    assert name == identity.TRUST_BUNDLE_KEY
    volume = volume_of(manifests, "controller", folder)
    assert volume["configMap"] == {"name": identity.TRUST_BUNDLE_CONFIG_MAP, "optional": False}


def test_webhook_waits_for_its_certificate(manifests: list[Manifest]) -> None:
    """The certificate is mounted as a folder, so that it stays fresh, and isn't optional."""
    folder = environment_of(manifests, "webhook")["DATAKEYS_TLS_DIRECTORY"]
    secret = volume_of(manifests, "webhook", folder)["secret"]
    assert (secret["secretName"], secret["optional"]) == ("datakeys-webhook-tls", False)
    assert secret["defaultMode"] == 0o440


def test_key_service_mounts_no_key(manifests: list[Manifest]) -> None:
    """Key material reaches the key service through the API only, never as a volume."""
    pod = deployment_of(manifests, "keyservice")["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]


@pytest.mark.parametrize("process", ["webhook", "keyservice"])
def test_service_leads_to_the_tls_port(manifests: list[Manifest], process: str) -> None:
    """Port 443 of the Service ends at container port 8443 of that process' pods."""
    spec = find(manifests, "Service", f"datakeys-{process}")["spec"]
    (port,) = [port for port in spec["ports"] if port["port"] == 443]
    targets = {port["name"]: port["containerPort"] for port in container_of(manifests, process)["ports"]}
    assert targets[port["targetPort"]] == 8443
    assert list(selected_by(spec["selector"], manifests)) == [f"datakeys-{process}"]


@pytest.mark.parametrize("process", ["webhook", "keyservice"])
def test_serving_processes_are_replaced_without_a_gap(manifests: list[Manifest], process: str) -> None:
    """During an upgrade a new pod is ready before an old one goes."""
    strategy = deployment_of(manifests, process)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("process", PROCESSES)
def test_image_is_named_after_the_process(manifests: list[Manifest], process: str) -> None:
    """Without values an image is its repository with the chart's appVersion."""
    assert container_of(manifests, process)["image"] == f"datakeys-{process}:0.1.0"


def test_key_service_reads_pods_only_to_tell_where_their_tokens_belong() -> None:
    """With callerAddress Ignore it has no right on them."""
    for wish, expected in (("Enforce", ["get"]), ("Ignore", [])):
        manifests = render({"keyservice.callerAddress": wish})
        rules = find(manifests, "ClusterRole", "datakeys-keyservice")["rules"]
        assert [
            verb for rule in rules if rule.get("resources") == ["pods"] for verb in rule["verbs"]
        ] == expected
        assert environment_of(manifests, "keyservice")["DATAKEYS_CALLER_ADDRESS"] == wish
