"""Strategies for pods of many shapes that a real API server accepts. Zone: tests.

All run as one user, so that every one of them may get data keys.
"""

from typing import Any, Final

from hypothesis import strategies as st

Json = dict[str, Any]

USER: Final = 10001
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_LIMITS: Final = {"cpu": "100m", "memory": "64Mi"}
_VOLUME_SOURCES: Final[tuple[Json, ...]] = (
    {"emptyDir": {}},
    {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    {"configMap": {"name": "c"}},
    {"secret": {"secretName": "s", "optional": True}},
    {"persistentVolumeClaim": {"claimName": "p"}},
    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "a"}}]}},
)
_UNRESTRICTED_SOURCES: Final = ({"hostPath": {"path": "/tmp"}},)  # noqa: S108 - of a pod that never runs
#: Some are the webhook's own.
_VOLUME_NAMES: Final = ("data", "cache", "x", "datakeys-keys", "datakeys-token", "datakeys-keys-2")
_PATHS: Final = ("/data", "/cache", "/etc/app", "/var/run", "/run/app", "/var/run/secrets/own")
_CONTAINER_FIELDS: Final = (
    {
        "env": [
            {"name": "A", "value": "$(B)"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ]
    },
    {"envFrom": [{"configMapRef": {"name": "c"}}]},
    {"ports": [{"containerPort": 8080, "name": "web"}, {"containerPort": 53, "protocol": "UDP"}]},
    {"command": ["sh", "-c", "true"], "args": ["a"], "workingDir": "/"},
    {"stdin": True, "tty": True},
    {"imagePullPolicy": "Never", "terminationMessagePolicy": "FallbackToLogsOnError"},
)
_APP_FIELDS: Final = (
    {
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
        "livenessProbe": {"exec": {"command": ["true"]}},
    },
    {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}}},
)
_FREE_CONTEXTS: Final[tuple[Json, ...]] = ({"readOnlyRootFilesystem": True}, {"privileged": True})
_RESOURCES: Final[tuple[Json, ...]] = (
    {},
    {"requests": {"cpu": "10m"}},
    {"requests": {"memory": "1Mi"}, "limits": {"memory": "2Mi"}},
    {"limits": _LIMITS},
    {"limits": _LIMITS, "requests": _LIMITS},
)
_POD_FIELDS: Final = (
    {"automountServiceAccountToken": False},
    {"shareProcessNamespace": True},
    {"hostUsers": False},
    {"terminationGracePeriodSeconds": 0},
    {"activeDeadlineSeconds": 60},
    {"enableServiceLinks": False},
    {"hostname": "h", "subdomain": "s"},
    {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}},
    {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}]},
    {"nodeSelector": {"kubernetes.io/os": "linux", "disk": "ssd"}},
    {"os": {"name": "linux"}},
    {"tolerations": [{"operator": "Exists"}]},
    {"imagePullSecrets": [{"name": "pull"}]},
    {"schedulingGates": [{"name": "example.com/gate"}]},
    {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ]
    },
)
_UNRESTRICTED_POD_FIELDS: Final = ({"hostPID": True}, {"hostIPC": True})
_SECURITY_FIELDS: Final = (
    {"fsGroup": 3000, "fsGroupChangePolicy": "OnRootMismatch"},
    {"runAsGroup": 3000},
    {"supplementalGroups": [1, 2]},
    {"seccompProfile": {"type": "RuntimeDefault"}},
)


def _subset(fields: tuple[Json, ...], most: int = 3) -> st.SearchStrategy[Json]:
    """Give the union of some of these fields."""
    chosen = st.lists(st.sampled_from(fields), max_size=most, unique_by=min)
    return chosen.map(lambda parts: {key: value for part in parts for key, value in part.items()})


@st.composite
def _containers(
    draw: st.DrawFn, names: list[str], volumes: list[str], *, restricted: bool, init: bool
) -> list[Json]:
    """Give containers of these names, which mount some of these volumes."""
    fields = _CONTAINER_FIELDS if init else _CONTAINER_FIELDS + _APP_FIELDS
    made = []
    for name in names:
        container: Json = {"name": name, "image": f"{name}:1", **draw(_subset(fields))}
        context = draw(st.just(RESTRICTED) if restricted else _subset(_FREE_CONTEXTS))
        own_user: bool = draw(st.booleans())
        if context or own_user:
            container["securityContext"] = {**context, **({"runAsUser": USER} if own_user else {})}
        mounted = draw(st.lists(st.sampled_from(volumes), max_size=3, unique=True)) if volumes else []
        if mounted:
            pairs = zip(mounted, draw(st.permutations(_PATHS)), strict=False)
            container["volumeMounts"] = [{"name": volume, "mountPath": path} for volume, path in pairs]
        container.update(draw(st.sampled_from([{}, {"restartPolicy": "Always"}]) if init else st.just({})))
        made.append(container)
    return made


@st.composite
def pod_specs(draw: st.DrawFn, *, restricted: bool) -> Json:
    """Give the spec of a pod whose containers all run as :data:`USER`."""
    sources = _VOLUME_SOURCES if restricted else _VOLUME_SOURCES + _UNRESTRICTED_SOURCES
    volumes = draw(st.lists(st.sampled_from(_VOLUME_NAMES), max_size=4, unique=True))
    apps = ["app", "helper", "proxy"][: draw(st.integers(1, 3))]
    inits = ["migrate", "warm-up"][: draw(st.integers(0, 2))]
    pod_fields = _POD_FIELDS if restricted else _POD_FIELDS + _UNRESTRICTED_POD_FIELDS
    spec: Json = {
        "serviceAccountName": "app",
        **draw(_subset(pod_fields, 4)),
        "securityContext": {"runAsUser": USER, **draw(_subset(_SECURITY_FIELDS))},
        "containers": draw(_containers(apps, volumes, restricted=restricted, init=False)),
    }
    if "hostUsers" in spec or "shareProcessNamespace" in spec:
        # The API server takes these only without the host's namespaces.
        for name in ("hostPID", "hostIPC"):
            spec.pop(name, None)
    if inits:
        spec["initContainers"] = draw(_containers(inits, volumes, restricted=restricted, init=True))
    if volumes:
        spec["volumes"] = [{"name": name, **draw(st.sampled_from(sources))} for name in volumes]
    _give_resources(spec, draw(st.sampled_from([None, *_RESOURCES])))
    return spec


def _give_resources(spec: Json, resources: Json | None) -> None:
    """Give all containers these resources, or the pod as a whole."""
    if resources is None:
        spec["resources"] = {"requests": dict(_LIMITS), "limits": dict(_LIMITS)}
        return
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        container["resources"] = resources


@st.composite
def annotations(draw: st.DrawFn, spec: Json) -> dict[str, str]:
    """Give annotations that ask for something this pod can have; without a scope."""
    asked: dict[str, str] = draw(
        st.sampled_from(
            [
                {"requests": "orders"},
                {"requests": "orders,a.b", "key": "alias/payments"},
                {"key": "main", "key-name": "main-key", "number-of-bytes": "64"},
                {"aws-endpoint": "true"},
                {"requests": "orders", "aws-endpoint": "true", "aws-endpoint-port": "4600"},
            ]
        )
    )
    lifetime = st.sampled_from([{}, {"ttl": "90s"}, {"reads": "once"}, {"ttl": "1h30m", "reads": "once"}])
    deliveries: list[Json] = [{"file-mode": "0440"}, {"file-mode": "0444"}, {"delivery": "socket"}, {}]
    if "aws-endpoint" not in asked:
        deliveries.append({"delivery": "init"})
    found = {**asked, **draw(st.sampled_from(deliveries))}
    if found.get("delivery") != "init":
        found |= draw(lifetime)
    chosen: bool = draw(st.booleans())
    if chosen:
        names = [one["name"] for one in [*spec["containers"], *spec.get("initContainers", [])]]
        found["containers"] = ",".join(draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
    return {f"datakeys.dev/{name}": value for name, value in found.items()}
