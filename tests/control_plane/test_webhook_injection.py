"""The webhook process beside a real API server, with its own rights only, in restricted namespaces.

Pods are created by dry run: nothing runs here.
"""

import datetime as dt
import ipaddress
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from chart_installation import Installation, installed_chart, named, wait_for

pytestmark = pytest.mark.usefixtures("webhook")

OPERATOR = Path(__file__).parents[2] / "operator"
NAME = "datakeys-webhook"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def find_own_address(server: str) -> str:
    """Return this machine's address on the way to the API server: there it can call the webhook."""
    address = urlsplit(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address.hostname, address.port))
        own: str = probe.getsockname()[0]
    if ipaddress.ip_address(own).is_loopback:
        pytest.skip("the API server can't call this machine back")
    return own


def find_port(address: str) -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def write_certificate(folder: Path, address: str) -> None:
    """Write tls.crt, tls.key and ca.crt as the key service would: here one certificate is all of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    folder.mkdir()
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "ca.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def write_kubeconfig(path: Path, installation: Installation, api: client.ApiClient) -> None:
    """Write a kubeconfig that is the webhook's ServiceAccount, and nobody else."""
    body: Any = {"spec": {"expirationSeconds": 3600}}
    token: Any = client.CoreV1Api(api).create_namespaced_service_account_token(
        NAME, installation.namespace, body
    )
    admin = yaml.safe_load(installation.kubeconfig.read_text())
    admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token.status.token}}]
    path.write_text(yaml.safe_dump(admin))


def point_to(api: client.ApiClient, url: str) -> None:
    """Make the API server call this machine instead of the Service."""
    patch: Any = [{"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"url": url}}]
    client.AdmissionregistrationV1Api(api).patch_mutating_webhook_configuration(NAME, patch)


def is_ready(url: str) -> bool:
    """Return whether the webhook says that it is ready."""
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="module")
def webhook(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Install the chart and run the webhook as a process of this machine, under its own ServiceAccount."""
    folder = tmp_path_factory.mktemp("webhook")
    address = find_own_address(api_client.configuration.host)
    port, health_port = find_port(address), find_port("127.0.0.1")
    write_certificate(folder / "tls", address)
    with installed_chart(control_plane) as installation:
        write_kubeconfig(folder / "kubeconfig", installation, api_client)
        point_to(api_client, f"https://{address}:{port}/mutate-pods")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(OPERATOR),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DATAKEYS_LISTEN": f"{address}:{port}",
            "DATAKEYS_HEALTH_LISTEN": f"127.0.0.1:{health_port}",
            "DATAKEYS_TLS_DIRECTORY": str(folder / "tls"),
            "DATAKEYS_SIDECAR_IMAGE": "datakeys-sidecar:test",
            "DATAKEYS_CLUSTER_NAME": "cluster-1",
            "DATAKEYS_KEYSERVICE_URL": "https://datakeys-keyservice.datakey-system.svc:443",
        }
        process = subprocess.Popen([sys.executable, "-m", "datakeys.webhook"], env=environment)
        try:
            wait_for(lambda: is_ready(f"http://127.0.0.1:{health_port}/readyz"), "the webhook is ready")
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0


@pytest.fixture
def restricted(api_client: client.ApiClient, namespace: str) -> str:
    """Give a namespace that enforces Pod Security ``restricted`` and has the ServiceAccount ``app``."""
    core = client.CoreV1Api(api_client)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.patch_namespace(namespace, {"metadata": {"labels": labels}})
    core.create_namespaced_service_account(namespace, named("app"))
    return namespace


def build_pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a restricted pod that asks for a data key."""
    container = {"name": "app", "image": "app:1", "securityContext": RESTRICTED}
    labels = {"datakeys.dev/inject": "true"}
    return {
        **named("app", labels=labels, annotations={"datakeys.dev/requests": "orders", **(annotations or {})}),
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [container],
            **spec,
        },
    }


def create(api: client.ApiClient, namespace: str, pod: Any) -> Any:
    """Create a pod by dry run; return what would be stored, as JSON."""
    made = client.CoreV1Api(api).create_namespaced_pod(namespace, pod, dry_run="All")
    return api.sanitize_for_serialization(made)  # type: ignore[no-untyped-call]


def container(name: str, **fields: Any) -> dict[str, Any]:
    """Return a restricted container."""
    return {"name": name, "image": "x:1", "securityContext": RESTRICTED, **fields}


LIMITS = {"limits": {"cpu": "100m", "memory": "64Mi"}}


@pytest.mark.parametrize(
    "pod",
    [
        build_pod(),
        build_pod({"datakeys.dev/requests": "a,b.c,d-e", "datakeys.dev/delivery": "socket"}),
        build_pod(initContainers=[container("init"), container("proxy", restartPolicy="Always")]),
        build_pod({"datakeys.dev/containers": "app"}, containers=[container("app"), container("b")]),
        build_pod(
            volumes=[{"name": "data", "emptyDir": {}}],
            containers=[container("app", volumeMounts=[{"name": "data", "mountPath": "/var/run"}])],
        ),
        build_pod(hostUsers=False, automountServiceAccountToken=False, restartPolicy="Never"),
        build_pod(containers=[container("app", resources=LIMITS)]),
        build_pod({"datakeys.dev/requests": ",".join(f"{'r' * 240}-{i}" for i in range(32))}),
    ],
    ids=["plain", "socket", "init", "chosen", "mounts", "hostusers", "guaranteed", "most"],
)
def test_restricted_namespace_admits_injected_pods(
    api_client: client.ApiClient, restricted: str, pod: dict[str, Any]
) -> None:
    """The API server takes the patch, validates the pod and finds it restricted."""
    spec = create(api_client, restricted, pod)["spec"]
    assert spec["initContainers"][0]["name"] == "datakeys-sidecar"
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    names = {volume["name"] for volume in spec["volumes"]}
    assert names >= {"datakeys-keys", "datakeys-encrypted", "datakeys-token", "datakeys-trust"}


def test_guaranteed_pod_stays_guaranteed(api_client: client.ApiClient, restricted: str) -> None:
    """The API server itself gives the class."""
    made = create(api_client, restricted, build_pod(containers=[container("app", resources=LIMITS)]))
    assert made["status"]["qosClass"] == "Guaranteed"


def test_sidecar_gets_no_token_for_the_api_server(api_client: client.ApiClient, restricted: str) -> None:
    """After the patch the API server would add its token to the sidecar too; the place is taken."""
    spec = create(api_client, restricted, build_pod())["spec"]
    (token,) = [one["name"] for one in spec["volumes"] if one["name"].startswith("kube-api-access-")]
    assert token in {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    assert token not in {mount["name"] for mount in spec["initContainers"][0]["volumeMounts"]}


def test_injected_pod_is_admitted_unchanged(api_client: client.ApiClient, restricted: str) -> None:
    """A pod created from an injected one isn't injected twice."""
    first = create(api_client, restricted, build_pod())
    metadata = {key: first["metadata"][key] for key in ("name", "labels", "annotations")}
    second = create(api_client, restricted, {"metadata": metadata, "spec": first["spec"]})
    assert second["spec"]["initContainers"] == first["spec"]["initContainers"]
    assert second["spec"]["volumes"] == first["spec"]["volumes"]


def test_request_names_its_secret(api_client: client.ApiClient, restricted: str) -> None:
    """``spec.secretName`` is looked up with the webhook's own rights; missing requests make a warning."""
    body = {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "DataKeyRequest",
        **named("orders"),
        "spec": {
            "keyRef": {"name": "main"},
            "keySpec": "AES_256",
            "serviceAccountName": "app",
            "secretName": "another-name",
        },
    }
    client.CustomObjectsApi(api_client).create_namespaced_custom_object(
        "datakeys.dev", "v1alpha1", restricted, "datakeyrequests", body
    )
    pod: Any = build_pod({"datakeys.dev/requests": "orders,later"})
    answer: Any = client.CoreV1Api(api_client).create_namespaced_pod_with_http_info(
        restricted, pod, dry_run="All"
    )
    made, _, headers = answer
    (encrypted,) = [one for one in made.spec.volumes if one.name == "datakeys-encrypted"]
    assert [source.secret.name for source in encrypted.projected.sources] == ["another-name", "later"]
    assert "DataKeyRequest later not found" in headers["Warning"]
    assert "orders" not in headers["Warning"]


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (build_pod(securityContext={}), "spec.securityContext.runAsUser"),
        (build_pod({"datakeys.dev/delivery": "pigeon"}), "annotation datakeys.dev/delivery"),
        (build_pod(volumes=[{"name": "datakeys-keys", "emptyDir": {}}]), "spec.volumes[0].name"),
    ],
)
def test_refusal_is_shown_to_the_user(
    api_client: client.ApiClient, restricted: str, pod: dict[str, Any], word: str
) -> None:
    """The API server passes code and message on."""
    with pytest.raises(ApiException) as caught:
        create(api_client, restricted, pod)
    assert caught.value.status == 422
    assert word in str(caught.value.body)


def test_pod_without_label_is_not_sent(api_client: client.ApiClient, restricted: str) -> None:
    """The annotation alone does nothing."""
    pod = build_pod()
    del pod["metadata"]["labels"]
    assert "initContainers" not in create(api_client, restricted, pod)["spec"]
