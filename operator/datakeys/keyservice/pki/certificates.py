"""Keep the CA, the two leaves and the published bundle right, in Secrets that all replicas share.

Zone: private keys of TLS, in Secrets of the system namespace only. Every write has the resource version of
what was read, so replicas agree on one CA and one leaf. Needs: get, create, update on three Secrets and one
ConfigMap.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import LABEL_MANAGED_BY, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from datakeys.keyservice.pki.authority import (
    Generation,
    Leaf,
    build_bundle,
    build_leaf,
    choose_signer,
    decide_generations,
    is_leaf_fit,
)
from datakeys.keyservice.store.codec import MANAGED_BY
from datakeys.keyservice.store.objects_api import ObjectsApi

PKI_SECRET: Final = "datakeys-pki"  # noqa: S105 - a name
KEYSERVICE_TLS_SECRET: Final = "datakeys-keyservice-tls"  # noqa: S105 - a name
WEBHOOK_TLS_SECRET: Final = "datakeys-webhook-tls"  # noqa: S105 - a name
TLS_TYPE: Final = "kubernetes.io/tls"
FIELD_GENERATIONS: Final = "generations.json"
MAX_TRIES: Final = 8

#: Secret and Service of each leaf.
_LEAVES: Final = ((KEYSERVICE_TLS_SECRET, "datakeys-keyservice"), (WEBHOOK_TLS_SECRET, "datakeys-webhook"))


@dataclass(frozen=True, slots=True)
class Served:
    """What the key service serves with."""

    leaf: Leaf
    bundle: str


def build_dns_names(service: str, namespace: str) -> list[str]:
    """Return the names of a Service, shortest first. Source: Kubernetes "DNS for Services and Pods"."""
    return [
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
    ]


class Certificates:
    """The certificates in the cluster. `ensure` blocks."""

    def __init__(self, secrets: ObjectsApi, config_maps: ObjectsApi, clock: Callable[[], float]) -> None:
        self._secrets = secrets
        self._config_maps = config_maps
        self._clock = clock

    def ensure(self) -> Served:
        """Make everything that is missing or due, and return the key service's leaf.

        The bundle is published before a leaf is signed, so a new CA is known before it is used.

        Raises:
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        now = self._clock()
        generations = self._ensure_generations(now)
        bundle = build_bundle(generations)
        self._ensure_bundle(bundle)
        signer = choose_signer(generations, now)
        leaves = [
            self._ensure_leaf(secret, build_dns_names(service, self._secrets.namespace), signer, bundle, now)
            for secret, service in _LEAVES
        ]
        return Served(leaves[0], bundle)

    def _ensure_generations(self, now: float) -> list[Generation]:
        def build(current: Mapping[str, Any] | None) -> dict[str, str] | None:
            wanted = decide_generations(_parse_generations(current), now)
            return None if wanted is None else {FIELD_GENERATIONS: _format_generations(wanted)}

        return _parse_generations(self._ensure_secret(PKI_SECRET, "Opaque", build))

    def _ensure_leaf(
        self, name: str, dns_names: list[str], signer: Generation, bundle: str, now: float
    ) -> Leaf:
        def build(current: Mapping[str, Any] | None) -> dict[str, str] | None:
            leaf = _parse_leaf(current)
            if leaf is None or not is_leaf_fit(leaf, signer, dns_names, now):
                leaf = build_leaf(signer, dns_names, now)
            elif current is not None and _read(current, "ca.crt") == bundle:
                return None
            return {"tls.crt": leaf.certificate_pem, "tls.key": leaf.key_pem, "ca.crt": bundle}

        leaf = _parse_leaf(self._ensure_secret(name, TLS_TYPE, build))
        if leaf is None:
            raise DependencyTimeoutError(f"Secret {name} holds no certificate")
        return leaf

    def _ensure_secret(
        self, name: str, kind: str, build: Callable[[Mapping[str, Any] | None], dict[str, str] | None]
    ) -> dict[str, Any]:
        """Let ``build`` decide on a Secret's content (None: it is right) and write it; repeat on conflict."""
        for _ in range(MAX_TRIES):
            current = self._secrets.get(name)
            content = build(current)
            if content is None and current is not None:
                return current
            data = {key: base64.b64encode(value.encode()).decode() for key, value in (content or {}).items()}
            body = self._build_object("Secret", name, current) | {"type": kind, "data": data}
            written = self._secrets.create(body) if current is None else self._secrets.replace(body)
            if written is not None:
                return written
        raise DependencyTimeoutError("too many concurrent changes of a certificate")

    def _ensure_bundle(self, bundle: str) -> None:
        for _ in range(MAX_TRIES):
            current = self._config_maps.get(TRUST_BUNDLE_CONFIG_MAP)
            if current is not None and (current.get("data") or {}).get(TRUST_BUNDLE_KEY) == bundle:
                return
            body = self._build_object("ConfigMap", TRUST_BUNDLE_CONFIG_MAP, current)
            body["data"] = {TRUST_BUNDLE_KEY: bundle}
            written = self._config_maps.create(body) if current is None else self._config_maps.replace(body)
            if written is not None:
                return
        raise DependencyTimeoutError("too many concurrent changes of the trust bundle")

    def _build_object(self, kind: str, name: str, current: Mapping[str, Any] | None) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self._secrets.namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        }
        if current is not None:
            metadata["resourceVersion"] = current["metadata"]["resourceVersion"]
            metadata["uid"] = current["metadata"]["uid"]
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _parse_generations(secret: Mapping[str, Any] | None) -> list[Generation]:
    raw = _read(secret, FIELD_GENERATIONS)
    if not raw:
        return []
    return [
        Generation(item["certificate"], item["key"], float(item["activeFrom"])) for item in json.loads(raw)
    ]


def _format_generations(generations: list[Generation]) -> str:
    return json.dumps(
        [
            {"certificate": item.certificate_pem, "key": item.key_pem, "activeFrom": item.active_from}
            for item in generations
        ]
    )


def _parse_leaf(secret: Mapping[str, Any] | None) -> Leaf | None:
    certificate, key = _read(secret, "tls.crt"), _read(secret, "tls.key")
    return Leaf(certificate, key) if certificate and key else None


def _read(secret: Mapping[str, Any] | None, field: str) -> str:
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(field, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
