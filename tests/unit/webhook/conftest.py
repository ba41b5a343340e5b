"""Pods, reviews and certificates for the webhook's tests."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datakeys.webhook.patches import Injection, SidecarSettings

Pod = dict[str, Any]

SETTINGS = SidecarSettings(
    image="datakeys-sidecar:test",
    image_pull_policy="IfNotPresent",
    keyservice_url="https://datakeys-keyservice.datakey-system.svc:443",
    region="cluster-1",
)


def build_pod(annotations: dict[str, str] | None = None, **spec: Any) -> Pod:
    """Return a labelled pod as the API server would send it."""
    container = {"name": "app", "image": "app:1", "resources": {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "app-",
            "labels": {"datakeys.dev/inject": "true", "app": "app"},
            "annotations": {"datakeys.dev/requests": "orders", **(annotations or {})},
        },
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [container],
            **spec,
        },
    }


def apply(pod: Pod, injection: Injection) -> Pod:
    """Apply the patch as the API server would."""
    assert injection.refusal is None, injection.refusal
    patched: Pod = jsonpatch.apply_patch(pod, list(injection.patch))
    return patched


class Authority:
    """A certificate authority that can issue serving certificates."""

    def __init__(self, name: str = "webhook CA") -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self._issue(self.name, self._key.public_key(), hours=24, ca=True)

    def _issue(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, hours: float, ca: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=48))
            .not_valid_after(now + dt.timedelta(hours=hours))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, *, hours: float = 12, bundle: bytes | None = None) -> None:
        """Write tls.crt, tls.key and ca.crt for ``localhost``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tls.crt").write_bytes(self._issue(subject, key.public_key(), hours=hours, ca=False))
        (folder / "tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "ca.crt").write_bytes(bundle or self.pem)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Give an authority."""
    return Authority()


@pytest.fixture
def mount(tmp_path: Path) -> Callable[[Authority, str], Path]:
    """Give a function that mounts a new generation of the Secret as the kubelet does: it swaps ``..data``."""

    def swap(issuer: Authority, generation: str) -> Path:
        folder = tmp_path / "tls"
        issuer.write(folder / f"..{generation}")
        temporary = folder / "..data_tmp"
        temporary.symlink_to(f"..{generation}")
        temporary.rename(folder / "..data")
        for name in ("tls.crt", "tls.key", "ca.crt"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        return folder

    return swap
