"""The injected container and its volumes; pure. Zone: names of Secrets, never their content."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.encrypted_data_key import (
    FIELD_CIPHERTEXT_BLOB,
    FIELD_ENCRYPTION_CONTEXT,
    FIELD_KEY_ARN,
    FIELD_KEY_MATERIAL_ID,
)
from datakeys.contract.identity import AUDIENCE, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from datakeys.webhook.patches.annotations import Pod, Wishes, iterate_containers
from datakeys.webhook.patches.layout import (
    PATH_API_TOKEN,
    PATH_ENCRYPTED,
    PATH_KEYS,
    PATH_TOKEN,
    PATH_TRUST,
    SIDECAR_NAME,
    VOLUME_ENCRYPTED,
    VOLUME_KEYS,
    VOLUME_TOKEN,
    VOLUME_TRUST,
)

#: The sidecar stays about 7 MiB; its child needs about 20 MiB more for a moment.
REQUESTS: Final = {"cpu": "10m", "memory": "16Mi"}
LIMITS: Final = {"cpu": "500m", "memory": "64Mi"}
#: With the KMS endpoint its process for TLS stays, with about 25 MiB more.
ENDPOINT_REQUESTS: Final = {"cpu": "10m", "memory": "48Mi"}
ENDPOINT_LIMITS: Final = {"cpu": "500m", "memory": "128Mi"}
ENDPOINT_GUARANTEED: Final = {"cpu": "100m", "memory": "128Mi"}
#: The sidecar's user in a pod that gets no data key; with one it runs as the app's user.
SIDECAR_USER: Final = 65532
#: Given to pods of the class Guaranteed, which an unequal container would take out of it.
GUARANTEED: Final = {"cpu": "100m", "memory": "64Mi"}
#: A data key has at most 1 KiB and takes a page of 4 KiB, twice while it is replaced.
KEYS_SIZE_LIMIT: Final = "1Mi"
TOKEN_SECONDS: Final = 600
#: A day of seconds. A restart of the sidecar helps nobody: it tries on by itself, and the app waits.
FAILURE_THRESHOLD: Final = 86400
#: Read-only for every user: the kubelet narrows the token to the pod's user where it can.
_MODE: Final = 0o444
_FIELDS: Final = (FIELD_CIPHERTEXT_BLOB, FIELD_ENCRYPTION_CONTEXT, FIELD_KEY_ARN, FIELD_KEY_MATERIAL_ID)
_COMMAND: Final = ("python3", "-m", "datakeys.sidecar")

JsonObject = dict[str, Any]

_KEY_MOUNTS: Final[tuple[JsonObject, ...]] = (
    {"name": VOLUME_ENCRYPTED, "mountPath": PATH_ENCRYPTED, "readOnly": True},
    {"name": VOLUME_KEYS, "mountPath": PATH_KEYS},
)


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """What the operator's administrator decides about injected containers."""

    image: str
    image_pull_policy: str
    keyservice_url: str
    region: str


def build_sidecar(pod: Pod, wishes: Wishes, settings: SidecarSettings, *, user: int) -> JsonObject:
    """Return the native sidecar: an init container that keeps running. Needs Kubernetes 1.29."""
    return {
        "name": SIDECAR_NAME,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [*_COMMAND, "run"],
        "restartPolicy": "Always",
        "env": [
            {"name": "DATAKEYS_REQUESTS", "value": ",".join(wishes.requests)},
            {"name": "DATAKEYS_DELIVERY", "value": wishes.delivery},
            {"name": "DATAKEYS_KEYSERVICE_URL", "value": settings.keyservice_url},
            {"name": "DATAKEYS_KEYSERVICE_CA_FILE", "value": f"{PATH_TRUST}/{TRUST_BUNDLE_KEY}"},
            {"name": "DATAKEYS_TOKEN_FILE", "value": f"{PATH_TOKEN}/token"},
            *_build_endpoint_variables(wishes),
        ],
        # The pod's containers start only after every data key can be read.
        "startupProbe": {
            "exec": {"command": [*_COMMAND, "probe"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": FAILURE_THRESHOLD,
        },
        "resources": _build_resources(pod, endpoint=bool(wishes.endpoint_port)),
        "securityContext": _build_security_context(user),
        "volumeMounts": [
            *(_KEY_MOUNTS if wishes.requests else ()),
            {"name": VOLUME_TOKEN, "mountPath": PATH_TOKEN, "readOnly": True},
            {"name": VOLUME_TRUST, "mountPath": PATH_TRUST, "readOnly": True},
            # Keeps the pod's token for the API server out of the sidecar, which has no use for it.
            {"name": VOLUME_TRUST, "mountPath": PATH_API_TOKEN, "readOnly": True},
        ],
    }


def build_volumes(secret_names: Mapping[str, str]) -> list[JsonObject]:
    """Return the volumes; ``secret_names`` maps each request to the Secret with its data key.

    All Secrets are in one projected volume, a folder per request. None is optional: a pod whose Secret
    doesn't exist yet waits for it. Without any request there are neither Secrets nor keys.
    """
    secrets = [
        {"secret": {"name": secret, "items": [{"key": key, "path": f"{request}/{key}"} for key in _FIELDS]}}
        for request, secret in secret_names.items()
    ]
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    bundle = [{"key": TRUST_BUNDLE_KEY, "path": TRUST_BUNDLE_KEY}]
    key_volumes = [
        {"name": VOLUME_ENCRYPTED, "projected": {"defaultMode": _MODE, "sources": secrets}},
        {"name": VOLUME_KEYS, "emptyDir": {"medium": "Memory", "sizeLimit": KEYS_SIZE_LIMIT}},
    ]
    return [
        *(key_volumes if secrets else ()),
        {
            "name": VOLUME_TOKEN,
            "projected": {"defaultMode": _MODE, "sources": [{"serviceAccountToken": token}]},
        },
        {
            "name": VOLUME_TRUST,
            "configMap": {"name": TRUST_BUNDLE_CONFIG_MAP, "defaultMode": _MODE, "items": bundle},
        },
    ]


def build_keys_mount() -> JsonObject:
    """Return the mount that the app's containers get."""
    return {"name": VOLUME_KEYS, "mountPath": PATH_KEYS, "readOnly": True}


def _build_endpoint_variables(wishes: Wishes) -> list[JsonObject]:
    if not wishes.endpoint_port:
        return []
    return [{"name": "DATAKEYS_AWS_ENDPOINT_PORT", "value": str(wishes.endpoint_port)}]


def _build_security_context(user: int) -> JsonObject:
    """Return a context that Pod Security ``restricted`` accepts, unless the app itself is root."""
    return {
        "runAsUser": user,
        "runAsNonRoot": user != 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _build_resources(pod: Pod, *, endpoint: bool) -> JsonObject:
    if all(_is_guaranteed(one.container) for one in iterate_containers(pod)):
        both = ENDPOINT_GUARANTEED if endpoint else GUARANTEED
        return {"requests": dict(both), "limits": dict(both)}
    if endpoint:
        return {"requests": dict(ENDPOINT_REQUESTS), "limits": dict(ENDPOINT_LIMITS)}
    return {"requests": dict(REQUESTS), "limits": dict(LIMITS)}


def _is_guaranteed(container: Mapping[str, Any]) -> bool:
    """Source: Kubernetes "Pod Quality of Service Classes". Absent requests equal the limits."""
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    return all(name in limits and limits[name] == requests[name] for name in ("cpu", "memory"))
