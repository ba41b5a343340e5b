"""Keep the CAs, the leaves and the published bundle right, in Secrets that all replicas share.

Zone: private keys of TLS, in Secrets of the system namespace only. Every write has the resource version of
what was read, so replicas agree on one CA and one leaf. Needs: get, create, update on three Secrets and one
ConfigMap.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import LABEL_MANAGED_BY, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from datakeys.keyservice.pki.authority import (
    Generation,
    Leaf,
    Lifetimes,
    adopt_bundle,
    build_bundle,
    build_leaf,
    find_issuer,
    parse_generation,
)
from datakeys.keyservice.pki.rotation import choose_issuer, decide_generations, is_known, note_published
from datakeys.keyservice.store.codec import MANAGED_BY
from datakeys.keyservice.store.objects_api import ObjectsApi

PKI_SECRET: Final = "datakeys-pki"  # noqa: S105 - a name
KEYSERVICE_TLS_SECRET: Final = "datakeys-keyservice-tls"  # noqa: S105 - a name
WEBHOOK_TLS_SECRET: Final = "datakeys-webhook-tls"  # noqa: S105 - a name
TLS_TYPE: Final = "kubernetes.io/tls"
FIELD_GENERATIONS: Final = "generations.json"
MAX_TRIES: Final = 8

_KEYSERVICE: Final = (KEYSERVICE_TLS_SECRET, "datakeys-keyservice")
_WEBHOOK: Final = (WEBHOOK_TLS_SECRET, "datakeys-webhook")


@dataclass(frozen=True, slots=True)
class Served:
    """What the key service serves with.

    Attributes:
        ca_expires_at: End of the validity of the CA that has signed the leaf, in seconds since the epoch.
    """

    leaf: Leaf
    bundle: str
    ca_expires_at: float


def build_dns_names(service: str, namespace: str) -> list[str]:
    """Return the names of a Service, shortest first. Source: Kubernetes "DNS for Services and Pods"."""
    return [
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
    ]


class Certificates:
    """The certificates in the cluster. `ensure` blocks.

    Args:
        secrets: The Secrets of the system namespace.
        config_maps: Its ConfigMaps.
        clock: Seconds since the epoch.
        monotonic: Seconds of a clock that never jumps.
        lifetimes: How long certificates live.
        with_webhook: Whether the webhook's certificate is made here too, or by somebody else.
    """

    def __init__(
        self,
        secrets: ObjectsApi,
        config_maps: ObjectsApi,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        lifetimes: Lifetimes,
        *,
        with_webhook: bool = True,
    ) -> None:
        self._secrets = secrets
        self._config_maps = config_maps
        self._clock = clock
        self._monotonic = monotonic
        self._lifetimes = lifetimes
        self._leaves = (_KEYSERVICE, _WEBHOOK) if with_webhook else (_KEYSERVICE,)
        #: Certificate of a CA -> since when this process sees it published.
        self._seen_since: dict[str, float] = {}

    def ensure(self) -> Served:
        """Make everything that is missing or due, and return the key service's leaf.

        A new CA is published at once, and signs only when every client has had the time to learn about it.

        Raises:
            DependencyTimeoutError: The API can't be reached, or too many conflicts.
        """
        now = self._clock()
        self._ensure_generations(now)
        generations = self._note_published(self._publish())
        leaves = [
            self._ensure_leaf(secret, build_dns_names(service, self._secrets.namespace), generations, now)
            for secret, service in self._leaves
        ]
        issuer = find_issuer(leaves[0], generations, now)
        return Served(leaves[0], build_bundle(generations), issuer.expires_at if issuer else 0.0)

    def _ensure_generations(self, now: float) -> None:
        def build(current: Mapping[str, Any] | None) -> dict[str, str] | None:
            found = _parse_generations(current) or self._adopt(now)
            wanted = decide_generations(found, now, self._lifetimes)
            return None if wanted is None else _format_generations(wanted)

        self._ensure_secret(PKI_SECRET, "Opaque", build)

    def _adopt(self, now: float) -> list[Generation]:
        """Return the CAs that are trusted although their keys are lost, so that present leaves go on."""
        bundles = [_read(self._secrets.get(secret), "ca.crt") for secret, _ in self._leaves]
        adopted = {one.certificate_pem: one for bundle in bundles for one in adopt_bundle(bundle)}
        return [one for one in adopted.values() if one.is_valid(now)]

    def _publish(self) -> list[Generation]:
        """Publish the CAs and return them.

        The ConfigMap is read before the CAs: whoever adds a CA in between publishes it, which makes the
        write here fail, so that no replica ever takes back a newer bundle.
        """
        for _ in range(MAX_TRIES):
            current = self._config_maps.get(TRUST_BUNDLE_CONFIG_MAP)
            generations = _parse_generations(self._secrets.get(PKI_SECRET))
            if not generations:
                raise DependencyTimeoutError(f"Secret {PKI_SECRET} was deleted just now")
            bundle = build_bundle(generations)
            if current is not None and (current.get("data") or {}).get(TRUST_BUNDLE_KEY) == bundle:
                return generations
            body = self._build_object("ConfigMap", TRUST_BUNDLE_CONFIG_MAP, current)
            body["data"] = {TRUST_BUNDLE_KEY: bundle}
            written = self._config_maps.create(body) if current is None else self._config_maps.replace(body)
            if written is not None:
                return generations
        raise DependencyTimeoutError("too many concurrent changes of the trust bundle")

    def _note_published(self, published: Sequence[Generation]) -> list[Generation]:
        seen, seen_at = self._seen_since, self._monotonic()
        self._seen_since = {one.certificate_pem: seen.get(one.certificate_pem, seen_at) for one in published}

        def build(current: Mapping[str, Any] | None) -> dict[str, str] | None:
            noted = note_published(_parse_generations(current), published, self._clock())
            return None if noted is None else _format_generations(noted)

        if all(one.published_at is not None for one in published):
            return list(published)
        return _parse_generations(self._ensure_secret(PKI_SECRET, "Opaque", build))

    def _ensure_leaf(
        self, name: str, dns_names: list[str], generations: Sequence[Generation], now: float
    ) -> Leaf:
        bundle, known = build_bundle(generations), self._find_known(generations, now)

        def build(current: Mapping[str, Any] | None) -> dict[str, str] | None:
            leaf = _parse_leaf(current)
            issuer = choose_issuer(leaf, dns_names, generations, known, now)
            if issuer is not None:
                leaf = build_leaf(issuer, dns_names, now, self._lifetimes)
            if leaf is None or (issuer is None and _read(current, "ca.crt") == bundle):
                return None
            return {"tls.crt": leaf.certificate_pem, "tls.key": leaf.key_pem, "ca.crt": bundle}

        leaf = _parse_leaf(self._ensure_secret(name, TLS_TYPE, build))
        if leaf is None:
            raise DependencyTimeoutError(f"Secret {name} holds no certificate")
        return leaf

    def _find_known(self, generations: Sequence[Generation], now: float) -> list[Generation]:
        monotonic = self._monotonic()
        return [
            one
            for one in generations
            if is_known(
                one,
                now,
                monotonic - self._seen_since.get(one.certificate_pem, monotonic),
                self._lifetimes,
            )
        ]

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
    """Return the CAs of the Secret; none if it is missing or spoilt."""
    raw = _read(secret, FIELD_GENERATIONS)
    if not raw:
        return []
    try:
        return [
            parse_generation(one["certificate"], one["key"], one.get("publishedAt"))
            for one in json.loads(raw)
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _format_generations(generations: Sequence[Generation]) -> dict[str, str]:
    text = json.dumps(
        [
            {"certificate": item.certificate_pem, "key": item.key_pem, "publishedAt": item.published_at}
            for item in generations
        ]
    )
    return {FIELD_GENERATIONS: text}


def _parse_leaf(secret: Mapping[str, Any] | None) -> Leaf | None:
    certificate, key = _read(secret, "tls.crt"), _read(secret, "tls.key")
    return Leaf(certificate, key) if certificate and key else None


def _read(secret: Mapping[str, Any] | None, field: str) -> str:
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(field, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
