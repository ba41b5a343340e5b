"""The shape of pods and workloads, as far as the webhook reads them; pure.

Zone: no secrets. The API server has checked an object's types before it sends it; this keeps anybody else's
garbage out, with the name of the field. Source: Kubernetes API, ObjectMeta, Container and PodSpec.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

JsonObject = Mapping[str, Any]


class ShapeError(ValueError):
    """A member is missing or has the wrong type; the text names its path."""


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with known members. Others are left alone; null counts as absent."""

    members: Mapping[str, "Shape"]
    required: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Each:
    """A list of items, or a map of values, of one shape."""

    kind: type[list[Any]] | type[dict[str, Any]]
    item: "Shape"


Shape = type | Struct | Each

_TEXTS: Final = Each(dict, str)
_OWNER: Final = Struct({"kind": str, "name": str, "controller": bool}, ("kind", "name"))
_METADATA: Final = Struct(
    {
        "name": str,
        "generateName": str,
        "deletionTimestamp": str,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "ownerReferences": Each(list, _OWNER),
    }
)
_NAMED: Final = Struct({"name": str}, ("name",))
_RESOURCES: Final = Struct({"limits": Each(dict, object), "requests": Each(dict, object)})
_SECURITY: Final = Struct({"runAsUser": int, "fsGroup": int})
_CONTAINER: Final = Struct(
    {
        "name": str,
        "env": Each(list, Struct({"name": str, "value": str}, ("name",))),
        "envFrom": Each(list, dict),
        "ports": Each(list, Struct({"containerPort": int})),
        "resources": _RESOURCES,
        "securityContext": _SECURITY,
        "volumeMounts": Each(list, Struct({"name": str, "mountPath": str}, ("name", "mountPath"))),
    },
    ("name",),
)
_POD_SPEC: Final = Struct(
    {
        "containers": Each(list, _CONTAINER),
        "initContainers": Each(list, _CONTAINER),
        "volumes": Each(list, _NAMED),
        "serviceAccountName": str,
        "securityContext": _SECURITY,
        "resources": _RESOURCES,
        "nodeSelector": _TEXTS,
        "os": Struct({"name": str}),
        "restartPolicy": str,
        "dnsPolicy": str,
        "hostNetwork": bool,
        "hostPID": bool,
        "shareProcessNamespace": bool,
    },
    ("containers",),
)
_POD: Final = Struct({"metadata": _METADATA, "spec": _POD_SPEC}, ("metadata", "spec"))
_TEMPLATED: Final = Struct(
    {"template": Struct({"metadata": _METADATA, "spec": _POD_SPEC}, ("spec",))}, ("template",)
)
_SCHEDULED: Final = Struct({"jobTemplate": Struct({"spec": _TEMPLATED}, ("spec",))}, ("jobTemplate",))


def check_pod(pod: JsonObject) -> None:
    """Check a pod.

    Raises:
        ShapeError: It can't be one.
    """
    _check(pod, _POD, "object")


def check_workload(workload: JsonObject) -> None:
    """Check a workload with a pod template.

    Raises:
        ShapeError: It can't be one.
    """
    spec = _SCHEDULED if workload.get("kind") == "CronJob" else _TEMPLATED
    members: Mapping[str, Shape] = {"kind": str, "metadata": _METADATA, "spec": spec}
    _check(workload, Struct(members, tuple(members)), "object")


def _check(value: object, shape: Shape, path: str) -> None:
    if isinstance(shape, Struct):
        members = _require(value, dict, path)
        for name in shape.required:
            if members.get(name) is None:
                raise ShapeError(f"{path}.{name} is missing or has the wrong type")
        for name, inner in shape.members.items():
            if members.get(name) is not None:
                _check(members[name], inner, f"{path}.{name}")
    elif isinstance(shape, Each):
        items = _require(value, shape.kind, path)
        for key in items if shape.kind is dict else range(len(items)):
            _check(items[key], shape.item, f"{path}[{key}]")
    else:
        _require(value, shape, path)


def _require(value: object, kind: type, path: str) -> Any:  # noqa: ANN401 - the caller names the type
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ShapeError(f"{path} is missing or has the wrong type")
    return value
