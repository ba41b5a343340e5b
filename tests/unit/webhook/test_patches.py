"""The patch: what is injected, and where."""

import copy
from typing import Any

import pytest

from datakeys.webhook.patches import Injection, RequestFacts, build_injection, find_requests

from .conftest import SETTINGS, Pod, apply, build_pod

FACTS = {"orders": RequestFacts("orders", "app")}
KEYS_MOUNT = {"name": "datakeys-keys", "mountPath": "/var/run/datakeys/keys", "readOnly": True}


def inject(pod: Pod, facts: dict[str, RequestFacts | None] | None = None) -> Pod:
    """Return the patched pod; the given one must stay as it is."""
    before = copy.deepcopy(pod)
    patched = apply(pod, build_injection(pod, FACTS if facts is None else facts, SETTINGS))
    assert pod == before
    return patched


def sidecar(pod: Pod) -> dict[str, Any]:
    """Return the injected container."""
    container: dict[str, Any] = pod["spec"]["initContainers"][0]
    assert container["name"] == "datakeys-sidecar"
    return container


def volume(pod: Pod, name: str) -> dict[str, Any]:
    """Return a volume without its name."""
    (found,) = [one for one in pod["spec"]["volumes"] if one["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def test_sidecar_is_the_first_init_container_and_keeps_running() -> None:
    """A native sidecar before all others, so that they too can wait for the keys."""
    pod = inject(build_pod(initContainers=[{"name": "migrate"}, {"name": "warm-up"}]))
    assert [one["name"] for one in pod["spec"]["initContainers"]] == [
        "datakeys-sidecar",
        "migrate",
        "warm-up",
    ]
    assert sidecar(pod)["restartPolicy"] == "Always"
    assert sidecar(pod)["image"] == "datakeys-sidecar:test"
    assert sidecar(pod)["imagePullPolicy"] == "IfNotPresent"
    assert pod["metadata"]["annotations"]["datakeys.dev/injected"] == "datakeys-sidecar:test"


def test_environment_is_the_architecture_s() -> None:
    """The sidecar finds its requests, its delivery and the key service."""
    pod = build_pod({"datakeys.dev/requests": "orders, a.b", "datakeys.dev/delivery": "socket"})
    environment = {one["name"]: one["value"] for one in sidecar(inject(pod))["env"]}
    assert environment == {
        "DATAKEYS_REQUESTS": "orders,a.b",
        "DATAKEYS_DELIVERY": "socket",
        "DATAKEYS_KEYSERVICE_URL": "https://datakeys-keyservice.datakey-system.svc:443",
        "DATAKEYS_KEYSERVICE_CA_FILE": "/var/run/datakeys/trust/ca.crt",
        "DATAKEYS_TOKEN_FILE": "/var/run/datakeys/token/token",
    }


def test_startup_probe_holds_the_app_back() -> None:
    """The probe asks every second and is patient for a day: restarts of the sidecar would help nobody."""
    probe = sidecar(inject(build_pod()))["startupProbe"]
    assert probe["exec"]["command"] == ["datakeys-sidecar", "probe"]
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (1, 86400)


def test_security_context_is_restricted() -> None:
    """Everything Pod Security ``restricted`` asks for is set on the container itself."""
    assert sidecar(inject(build_pod()))["securityContext"] == {
        "runAsUser": 10001,
        "runAsNonRoot": True,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize(
    ("pod_user", "container_user", "expected"),
    [(1000, None, 1000), (1000, 2000, 2000), (None, 2000, 2000), (0, None, 0), (1000, 0, 0)],
)
def test_sidecar_runs_as_the_app(pod_user: int | None, container_user: int | None, expected: int) -> None:
    """The container's UID counts before the pod's; only a root app makes a root sidecar."""
    container: dict[str, Any] = {"name": "app", "securityContext": {}}
    if container_user is not None:
        container["securityContext"]["runAsUser"] = container_user
    context = {} if pod_user is None else {"runAsUser": pod_user}
    made = sidecar(inject(build_pod(containers=[container], securityContext=context)))["securityContext"]
    assert made["runAsUser"] == expected
    assert made["runAsNonRoot"] is (expected != 0)


def test_secrets_are_folders_of_one_read_only_volume() -> None:
    """Each request is a folder with its Secret's fields; ``secretName`` is honoured; none is optional."""
    pod = build_pod({"datakeys.dev/requests": "orders,invoices"})
    facts = {"orders": RequestFacts("other-name", "app"), "invoices": None}
    pod = inject(pod, facts)
    projected = volume(pod, "datakeys-encrypted")["projected"]
    assert projected["defaultMode"] == 0o444
    fields = ["ciphertextBlob", "encryptionContext", "keyId", "keyMaterialId"]
    assert projected["sources"] == [
        {
            "secret": {
                "name": secret,
                "items": [{"key": field, "path": f"{request}/{field}"} for field in fields],
            }
        }
        for request, secret in (("orders", "other-name"), ("invoices", "invoices"))
    ]


def test_token_is_bound_to_the_key_service() -> None:
    """The token is of no use against the API server and lives ten minutes."""
    (source,) = volume(inject(build_pod()), "datakeys-token")["projected"]["sources"]
    assert source == {
        "serviceAccountToken": {
            "audience": "keyservice.datakeys.dev",
            "expirationSeconds": 600,
            "path": "token",
        }
    }


def test_keys_are_in_memory_and_trust_comes_from_the_bundle() -> None:
    """The keys' volume is a limited tmpfs; the trust bundle is the namespace's ConfigMap."""
    pod = inject(build_pod())
    assert volume(pod, "datakeys-keys") == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    trust = volume(pod, "datakeys-trust")["configMap"]
    assert (trust["name"], trust["items"]) == ("datakeys-trust-bundle", [{"key": "ca.crt", "path": "ca.crt"}])


def test_sidecar_alone_can_write_the_keys_and_read_the_rest() -> None:
    """Apps get one read-only mount; token, ciphertext and trust are the sidecar's."""
    pod = inject(build_pod())
    assert pod["spec"]["containers"][0]["volumeMounts"] == [KEYS_MOUNT]
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in sidecar(pod)["volumeMounts"]}
    assert mounts == {
        "/var/run/datakeys/encrypted": True,
        "/var/run/datakeys/token": True,
        "/var/run/datakeys/trust": True,
        "/var/run/datakeys/keys": False,
        "/var/run/secrets/kubernetes.io/serviceaccount": True,
    }


def test_all_app_containers_get_the_keys_but_no_init_container() -> None:
    """By default every container of spec.containers; what they had mounted stays."""
    own = {"name": "data", "mountPath": "/data"}
    containers = [{"name": "app", "volumeMounts": [own]}, {"name": "helper", "volumeMounts": None}]
    pod = inject(
        build_pod(containers=containers, initContainers=[{"name": "init"}], volumes=[{"name": "data"}])
    )
    assert pod["spec"]["containers"][0]["volumeMounts"] == [own, KEYS_MOUNT]
    assert pod["spec"]["containers"][1]["volumeMounts"] == [KEYS_MOUNT]
    assert "volumeMounts" not in pod["spec"]["initContainers"][1]
    assert pod["spec"]["volumes"][0] == {"name": "data"}


def test_annotation_restricts_the_receivers() -> None:
    """Only the named containers get the keys, init containers included; others may run as anybody."""
    pod = build_pod(
        {"datakeys.dev/containers": "app,init"},
        containers=[
            {"name": "proxy", "securityContext": {"runAsUser": 1337}},
            {"name": "app"},
        ],
        initContainers=[{"name": "other"}, {"name": "init"}],
    )
    pod = inject(pod)
    assert "volumeMounts" not in pod["spec"]["containers"][0]
    assert pod["spec"]["containers"][1]["volumeMounts"] == [KEYS_MOUNT]
    assert [
        one["name"] for one in pod["spec"]["initContainers"] if KEYS_MOUNT in one.get("volumeMounts", [])
    ] == ["init"]
    assert sidecar(pod)["securityContext"]["runAsUser"] == 10001


@pytest.mark.parametrize("clash", ["datakeys-keys", "datakeys-token"])
def test_volume_of_the_same_name_just_works(clash: str) -> None:
    """The pod's own volume keeps its name and its mounts; the injected one takes the next free name."""
    own = {"name": clash, "mountPath": "/data"}
    container = {"name": "app", "volumeMounts": [own]}
    volumes = [{"name": clash, "emptyDir": {}}, {"name": f"{clash}-2", "emptyDir": {}}]
    pod = inject(build_pod(containers=[container], volumes=volumes))
    names = [one["name"] for one in pod["spec"]["volumes"]]
    assert names.count(clash) == names.count(f"{clash}-2") == names.count(f"{clash}-3") == 1
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    assert mounts[0] == own
    assert mounts[1]["name"] == ("datakeys-keys-3" if clash == "datakeys-keys" else "datakeys-keys")
    mounted = {one["mountPath"]: one["name"] for one in sidecar(pod)["volumeMounts"]}
    assert mounted["/var/run/datakeys/keys"] == mounts[1]["name"]
    assert set(mounted.values()) <= set(names) - {clash, f"{clash}-2"}


def test_mounting_an_injected_volume_by_hand_gets_nothing() -> None:
    """A container that mounts a name nobody has finds no volume of it, rather than the sidecar's token."""
    containers = [
        {"name": "app"},
        {"name": "x", "volumeMounts": [{"name": "datakeys-token", "mountPath": "/t"}]},
    ]
    pod = inject(build_pod({"datakeys.dev/containers": "app"}, containers=containers))
    assert "datakeys-token" not in {one["name"] for one in pod["spec"]["volumes"]}
    assert volume(pod, "datakeys-token-2")


def test_burstable_pod_gets_a_small_sidecar() -> None:
    """Requests are far below limits."""
    resources = sidecar(inject(build_pod()))["resources"]
    assert resources["requests"] == {"cpu": "10m", "memory": "16Mi"}
    assert resources["limits"] == {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("resources", "guaranteed"),
    [
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, True),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, True),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, False),
        ({"limits": {"memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, False),
        ({}, False),
    ],
)
def test_guaranteed_pod_stays_guaranteed(resources: dict[str, Any], guaranteed: bool) -> None:
    """The sidecar doesn't take a pod out of its quality-of-service class."""
    pod = inject(build_pod(containers=[{"name": "app", "resources": resources}]))
    made = sidecar(pod)["resources"]
    assert (made["requests"] == made["limits"]) is guaranteed


def test_pod_that_has_resources_as_a_whole_shares_them_with_the_sidecar() -> None:
    """The sum of the containers' requests must not exceed the pod's."""
    pod = inject(build_pod(resources={"requests": {"memory": "16Mi"}}))
    assert sidecar(pod)["resources"] == {}


def test_host_settings_and_everything_else_stay() -> None:
    """Fields that aren't the webhook's own are exactly as before."""
    spec: dict[str, Any] = {
        "hostUsers": False,
        "hostNetwork": True,
        "shareProcessNamespace": True,
        "tolerations": [{}],
    }
    before = build_pod(**spec)
    after = inject(before)
    for name, value in before["spec"].items():
        if name != "containers":
            assert after["spec"][name] == value
    assert after["metadata"]["labels"] == before["metadata"]["labels"]


def test_injected_pod_is_left_alone() -> None:
    """A second review, as reinvocation makes it, changes nothing and looks nothing up."""
    pod = inject(build_pod())
    assert find_requests(pod) == ()
    assert build_injection(pod, {}, SETTINGS).patch == ()


def test_faked_annotation_does_not_stop_the_injection() -> None:
    """The annotation without the sidecar proves nothing."""
    pod = build_pod({"datakeys.dev/injected": "yes"})
    assert find_requests(pod) == ("orders",)
    assert sidecar(inject(pod))
    assert inject(pod)["metadata"]["annotations"]["datakeys.dev/injected"] == "datakeys-sidecar:test"


@pytest.mark.parametrize("value", ["false", "True", ""])
def test_other_label_is_a_no(value: str) -> None:
    """Whoever labels a pod otherwise than "true" doesn't want the injection."""
    pod = build_pod()
    pod["metadata"]["labels"] = {"datakeys.dev/inject": value}
    assert build_injection(pod, {}, SETTINGS) == Injection()
    assert find_requests(pod) == ()


@pytest.mark.parametrize("labels", [None, {}, {"app": "x"}])
@pytest.mark.parametrize(
    "annotation",
    [
        {"datakeys.dev/requests": "orders"},
        {"datakeys.dev/key": "alias/payments"},
        {"datakeys.dev/aws-endpoint": "true"},
    ],
)
def test_forgotten_label_is_added(labels: dict[str, str] | None, annotation: dict[str, str]) -> None:
    """A pod that asks by annotations alone must not start without its keys; other labels stay."""
    pod = build_pod()
    pod["metadata"]["labels"], pod["metadata"]["annotations"] = labels, annotation
    patched = inject(pod)
    assert sidecar(patched)
    assert patched["metadata"]["labels"] == {**(labels or {}), "datakeys.dev/inject": "true"}


@pytest.mark.parametrize("annotations", [None, {}, {"datakeys.dev/aws-endpoint": "false"}, {"app": "x"}])
def test_pod_that_asks_for_nothing_is_left_alone(annotations: dict[str, str] | None) -> None:
    """Without the label only an annotation that asks for something counts."""
    pod = build_pod()
    pod["metadata"]["labels"], pod["metadata"]["annotations"] = None, annotations
    assert build_injection(pod, {}, SETTINGS) == Injection()


@pytest.mark.parametrize(
    ("facts", "warning"),
    [
        (None, "not found"),
        (RequestFacts("orders", "somebody"), "somebody"),
        (RequestFacts("orders", "app", dry_run=True), "dry run"),
    ],
)
def test_doubtful_requests_make_warnings(facts: RequestFacts | None, warning: str) -> None:
    """What will keep the pod from starting is said when it is created."""
    injection = build_injection(build_pod(), {"orders": facts}, SETTINGS)
    (text,) = injection.warnings
    assert warning in text
    assert len(text) < 256
    assert injection.patch


def test_fitting_request_makes_no_warning() -> None:
    """The normal case is silent; without a name the ServiceAccount is ``default``."""
    assert build_injection(build_pod(), FACTS, SETTINGS).warnings == ()
    pod = build_pod(serviceAccountName="")
    assert build_injection(pod, {"orders": RequestFacts("orders", "default")}, SETTINGS).warnings == ()


def test_facts_come_from_the_object() -> None:
    """``secretName`` defaults to the request's name."""
    metadata = {"name": "orders"}
    assert RequestFacts.from_object({"metadata": metadata, "spec": {"serviceAccountName": "app"}}) == (
        RequestFacts("orders", "app")
    )
    spec = {"serviceAccountName": "app", "secretName": "s", "dryRun": True}
    assert RequestFacts.from_object({"metadata": metadata, "spec": spec}) == RequestFacts(
        "s", "app", dry_run=True
    )


@pytest.mark.parametrize("field", ["shareProcessNamespace", "hostPID"])
def test_shared_processes_make_a_warning_if_somebody_has_no_keys(field: str) -> None:
    """A container without the keys could reach them through /proc; if all have them it is silent."""
    containers = [{"name": "app"}, {"name": "tool"}]
    spec: dict[str, Any] = {"containers": containers, field: True}
    chosen = build_pod({"datakeys.dev/containers": "app"}, **spec)
    (warning,) = build_injection(chosen, FACTS, SETTINGS).warnings
    assert warning.startswith(f"spec.{field}: container tool")
    assert build_injection(build_pod(**spec), FACTS, SETTINGS).warnings == ()


@pytest.mark.parametrize(
    ("spec", "warned"),
    [
        ({"hostNetwork": True}, True),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirst"}, True),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, False),
        ({"hostNetwork": False, "dnsPolicy": "ClusterFirst"}, False),
    ],
)
def test_host_network_with_the_nodes_dns_makes_a_warning(spec: dict[str, Any], *, warned: bool) -> None:
    """Such a pod would wait for a key service whose name nobody there knows."""
    warnings = build_injection(build_pod(**spec), FACTS, SETTINGS).warnings
    assert [one.partition(":")[0] for one in warnings] == ["spec.dnsPolicy"] * warned
