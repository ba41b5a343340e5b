"""The certificates of a release on a real API server, as the kubelet and the clients see them.

Zone: tests. The webhook runs as a process of this machine, and the API server finds it by the Service's name.
"""

import base64
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from kubernetes import client

from chart_installation import named
from controller_rig import Rig
from in_force import Asked, wait_asked
from waiting import WAIT_SECONDS

WEBHOOK: Final = "datakeys-webhook"


def connect(address: tuple[str, int], name: str, read_bundle: Callable[[], str]) -> str:
    """Shake hands as a client that trusts a bundle and nothing else; return the certificate's issuer."""
    context = ssl.create_default_context(cadata=read_bundle())
    with (
        socket.create_connection(address, timeout=WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        return certificate.issuer.rfc4514_string()


def mount(folder: Path, secret: dict[str, bytes], generation: int) -> None:
    """Swap the files as the kubelet does."""
    fresh = folder / f"..{generation}"
    fresh.mkdir(parents=True)
    for name, content in secret.items():
        (fresh / name).write_bytes(content)
    link = folder / "..data_tmp"
    link.symlink_to(fresh.name)
    link.rename(folder / "..data")
    for name in secret:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


class Stage:
    """The cluster as the clients see it."""

    def __init__(self, rig: Rig, namespace: str) -> None:
        self.rig, self.namespace, self.system = rig, namespace, rig.installation.namespace
        self.core = client.CoreV1Api(rig.api)
        self.admission = client.AdmissionregistrationV1Api(rig.api)
        self.core.create_namespaced_service_account(namespace, named("app"))

    def read_bundle(self) -> str:
        """Return the published trust bundle."""
        found: Any = self.core.read_namespaced_config_map("datakeys-trust-bundle", self.system)
        return str(found.data["ca.crt"])

    def read_secret(self) -> dict[str, bytes]:
        """Return the webhook's files."""
        found: Any = self.core.read_namespaced_secret("datakeys-webhook-tls", self.system)
        return {name: base64.b64decode(value) for name, value in found.data.items()}

    def read_ca_bundle(self) -> str:
        """Return what the API server trusts when it calls the webhook."""
        found: Any = self.admission.read_mutating_webhook_configuration(WEBHOOK)
        return base64.b64decode(found.webhooks[0].client_config.ca_bundle).decode()

    def set_ca_bundle(self, bundle: str) -> None:
        """Set what the API server trusts, as cert-manager's cainjector does."""
        found: Any = self.admission.read_mutating_webhook_configuration(WEBHOOK)
        value = base64.b64encode(bundle.encode()).decode()
        patch: Any = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": value}
            for index in range(len(found.webhooks))
        ]
        self.admission.patch_mutating_webhook_configuration(WEBHOOK, patch)

    def lead_to(self, address: str, port: int) -> None:
        """Let the Service's name lead to a process on this machine."""
        self.core.delete_namespaced_service(WEBHOOK, self.system)
        body: Any = named(WEBHOOK) | {"spec": {"type": "ExternalName", "externalName": address}}
        self.core.create_namespaced_service(self.system, body)
        found: Any = self.admission.read_mutating_webhook_configuration(WEBHOOK)
        patch: Any = [
            {"op": "replace", "path": f"/webhooks/{index}/clientConfig/service/port", "value": port}
            for index in range(len(found.webhooks))
        ]
        self.admission.patch_mutating_webhook_configuration(WEBHOOK, patch)

    def wait_admitted(self) -> None:
        """Wait until the API server goes by what was changed in the webhook's registration and Service."""
        wait_asked(self.rig.api, Asked.STAMPED)

    def admit(self) -> None:
        """Create a labelled pod by dry run; it must come back injected."""
        labels = {"datakeys.dev/inject": "true"}
        annotations = {"datakeys.dev/requests": "orders"}
        body: Any = named("app", labels=labels, annotations=annotations)
        body["spec"] = {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [{"name": "app", "image": "x"}],
        }
        made: Any = self.core.create_namespaced_pod(self.namespace, body, dry_run="All")
        assert made.spec.init_containers[0].name == "datakeys-sidecar"
