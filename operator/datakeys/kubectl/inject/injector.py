"""The webhook's own decisions, applied to a manifest.

Zone: no I/O. The only module of this room that imports another process's room, and of that the pure part
only.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datakeys.kubectl.answers import Json
from datakeys.kubectl.inject.json_patch import apply_patch
from datakeys.kubectl.inject.manifests import Manifest, get_template
from datakeys.webhook.patches import (
    WORKLOAD_KINDS,
    Injection,
    RequestFacts,
    SidecarKind,
    SidecarSettings,
    build_injection,
    build_stamps,
    find_requests,
)

FetchFacts = Callable[[tuple[str, ...]], Mapping[str, RequestFacts | None]]


@dataclass(frozen=True, slots=True)
class Injected:
    """What becomes of one object: ``after`` is the object with its pods as they would be."""

    manifest: Manifest
    after: Json
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    patch: tuple[Json, ...] = field(default=())

    @property
    def is_changed(self) -> bool:
        """Return whether the webhook does anything."""
        return self.after != self.manifest.body


def build_settings(environment: Mapping[str, str]) -> SidecarSettings:
    """Return the webhook's settings from its environment; what is lacking is the chart's default."""
    return SidecarSettings(
        image=environment.get("DATAKEYS_SIDECAR_IMAGE") or "datakeys-sidecar",
        image_pull_policy=environment.get("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY") or "IfNotPresent",
        keyservice_url=environment.get("DATAKEYS_KEYSERVICE_URL")
        or "https://datakeys-keyservice.datakey-system.svc:443",
        region=environment.get("DATAKEYS_CLUSTER_NAME") or "cluster",
        kind=SidecarKind(environment.get("DATAKEYS_SIDECAR_KIND") or SidecarKind.NATIVE),
    )


def read_facts(request: Json) -> RequestFacts:
    """Return what the webhook knows of a DataKeyRequest."""
    return RequestFacts.from_object(request)


def inject(manifest: Manifest, namespace: str, settings: SidecarSettings, fetch: FetchFacts) -> Injected:
    """Return what becomes of an object that is created now.

    Args:
        manifest: The object.
        namespace: Where it is created, if it doesn't say so itself.
        settings: The webhook's.
        fetch: Looks DataKeyRequests up; None for one that doesn't exist.
    """
    body = copy.deepcopy(manifest.body)
    body["metadata"].setdefault("namespace", namespace)
    warnings: tuple[str, ...] = ()
    if manifest.kind in WORKLOAD_KINDS:
        stamps = build_stamps(body, None, settings)
        if stamps.refusal:
            return Injected(manifest, manifest.body, refusal=stamps.refusal.message)
        body, warnings = apply_patch(body, stamps.patch), stamps.warnings
    pod = build_pod(manifest, body)
    injection = build_injection(pod, fetch(find_requests(pod)), settings)
    if injection.refusal:
        return Injected(manifest, manifest.body, refusal=injection.refusal.message)
    after = _put_back(manifest, body, apply_patch(pod, injection.patch))
    if "namespace" not in manifest.body["metadata"]:
        del after["metadata"]["namespace"]
    return Injected(
        manifest,
        after,
        tuple(dict.fromkeys([*warnings, *injection.warnings])),
        patch=_collect(injection),
    )


def build_pod(manifest: Manifest, body: Json) -> Json:
    """Return the pod that an object is or makes: of a StatefulSet the first one."""
    if manifest.is_pod:
        return body
    template = get_template(manifest, body)
    metadata = copy.deepcopy(template.get("metadata") or {})
    metadata |= {"name": f"{manifest.name}-0", "namespace": body["metadata"]["namespace"]}
    owner = {"kind": manifest.kind, "name": manifest.name, "controller": True}
    return {"kind": "Pod", "metadata": {**metadata, "ownerReferences": [owner]}, "spec": template["spec"]}


def _put_back(manifest: Manifest, body: Json, pod: Json) -> Json:
    """Return the object with the labels, annotations and spec of its pod."""
    if manifest.is_pod:
        return pod
    after = copy.deepcopy(body)
    template = get_template(manifest, after)
    kept: dict[str, Any] = {
        name: value
        for name, value in pod["metadata"].items()
        if name not in ("name", "namespace", "ownerReferences")
    }
    if kept or "metadata" in template:
        template["metadata"] = kept
    template["spec"] = pod["spec"]
    return after


def _collect(injection: Injection) -> tuple[Json, ...]:
    return tuple(dict(operation) for operation in injection.patch)
