"""The injected containers; pure. Zone: no secrets, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import SIDECAR_NAME, TRUST_BUNDLE_KEY
from datakeys.webhook.patches.annotations import Pod, Wishes, iterate_containers
from datakeys.webhook.patches.delivery import INIT, OWNER_ONLY, READ_ONCE
from datakeys.webhook.patches.layout import GATE_NAME, PATH_TOKEN, PATH_TRUST
from datakeys.webhook.patches.placement import Placement, SidecarKind
from datakeys.webhook.patches.volumes import build_sidecar_mounts

#: The sidecar stays about 7 MiB; its child needs about 20 MiB more for a moment.
REQUESTS: Final = {"cpu": "10m", "memory": "16Mi"}
LIMITS: Final = {"cpu": "500m", "memory": "64Mi"}
#: With the KMS endpoint its process for TLS stays, with about 25 MiB more.
ENDPOINT_REQUESTS: Final = {"cpu": "10m", "memory": "48Mi"}
ENDPOINT_LIMITS: Final = {"cpu": "500m", "memory": "128Mi"}
ENDPOINT_GUARANTEED: Final = {"cpu": "100m", "memory": "128Mi"}
#: Given to pods of the class Guaranteed, which an unequal container would take out of it.
GUARANTEED: Final = {"cpu": "100m", "memory": "64Mi"}
#: A day of seconds. A restart of the sidecar helps nobody: it tries on by itself, and the app waits.
FAILURE_THRESHOLD: Final = 86400
#: By this variable of the environment the sidecar is known, whatever its image and command are.
MARK: Final = "DATAKEYS_DELIVERY"
#: The program in the sidecar's image.
_COMMAND: Final = ("datakeys-sidecar",)
#: The kubelet starts a pod's containers one after the other, and waits for this hook in between.
_HOOK: Final = "until datakeys-sidecar probe; do sleep 0.2; done"
#: Runs the sidecar until it has delivered, then ends it; its volume keeps when lifetimes end.
_GATE: Final = (
    'datakeys-sidecar run & trap "kill $!; exit 143" TERM; '
    "until datakeys-sidecar probe >/dev/null; do kill -0 $! || exit 1; sleep 0.2; done; kill $!; wait"
)

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """What the operator's administrator decides about injected containers."""

    image: str
    image_pull_policy: str
    keyservice_url: str
    region: str
    kind: SidecarKind = SidecarKind.NATIVE


def build_containers(
    pod: Pod,
    wishes: Wishes,
    delivered: Iterable[str],
    settings: SidecarSettings,
    *,
    user: int,
    placement: Placement,
    volume_names: Mapping[str, str],
) -> dict[str, JsonObject]:
    """Return the first of ``initContainers``, and of ``containers`` where there is one to add.

    However the sidecar is made, the pod's own containers start only after every data key can be read.

    Args:
        pod: The pod it is for.
        wishes: What the pod gets.
        delivered: The names under which data keys are delivered, versions included.
        settings: The administrator's.
        user: UID it runs as.
        placement: What kind of container it is.
        volume_names: The name in this pod of each of the layout's volumes.
    """
    mode = INIT if placement is Placement.INIT else wishes.delivery.mode
    variables = {
        "DATAKEYS_REQUESTS": ",".join(delivered),
        MARK: mode,
        "DATAKEYS_KEYSERVICE_URL": settings.keyservice_url,
        "DATAKEYS_KEYSERVICE_CA_FILE": f"{PATH_TRUST}/{TRUST_BUNDLE_KEY}",
        "DATAKEYS_TOKEN_FILE": f"{PATH_TOKEN}/token",
        **_build_optional_variables(wishes),
    }
    sidecar = {
        "name": SIDECAR_NAME,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [*_COMMAND, "run"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": _build_resources(pod, endpoint=bool(wishes.endpoint_port)),
        "securityContext": _build_security_context(user),
        "volumeMounts": build_sidecar_mounts(volume_names, with_keys=bool(wishes.keys)),
    }
    if placement is Placement.NATIVE:
        return {"initContainers": sidecar | _build_native_fields()}
    if placement is Placement.INIT:
        return {"initContainers": sidecar}
    # The kubelet would start the app although the sidecar can't start, so the same must have run before.
    hook = {"postStart": {"exec": {"command": ["sh", "-c", _HOOK]}}}
    return {
        "initContainers": sidecar | {"name": GATE_NAME, "command": ["sh", "-c", _GATE]},
        "containers": sidecar | {"lifecycle": hook},
    }


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Return whether a container of a pod is the sidecar, and not another one of its name."""
    variables = container.get("env") or []
    return container["name"] == SIDECAR_NAME and any(variable["name"] == MARK for variable in variables)


def _build_native_fields() -> JsonObject:
    return {
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": [*_COMMAND, "probe"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": FAILURE_THRESHOLD,
        },
    }


def _build_optional_variables(wishes: Wishes) -> dict[str, str]:
    """Return the variables that differ from the sidecar's defaults."""
    delivery = wishes.delivery
    variables = {}
    bound = [f"{name}={request}" for name, request in wishes.keys.items() if name != request]
    if bound:
        variables["DATAKEYS_BOUND_REQUESTS"] = ",".join(bound)
    if delivery.ttl_seconds:
        variables["DATAKEYS_TTL_SECONDS"] = str(delivery.ttl_seconds)
    if delivery.reads_once:
        variables["DATAKEYS_READS"] = READ_ONCE
    if delivery.file_mode != OWNER_ONLY:
        variables["DATAKEYS_FILE_MODE"] = delivery.file_mode
    if wishes.endpoint_port:
        variables["DATAKEYS_AWS_ENDPOINT_PORT"] = str(wishes.endpoint_port)
    return variables


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
    """Return requests and limits that keep the pod valid, and in its quality-of-service class.

    With resources of the pod as a whole there are none: all containers share them, and the sum must not
    exceed them. Source: Kubernetes "Assign Pod-level CPU and memory resources".
    """
    if pod["spec"].get("resources"):
        return {}
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
