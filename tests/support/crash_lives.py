"""What happens to a data key while controllers die: each life is a list of changes that people make.

Zone: tests. A stage is over when everything in the cluster fits together again, not before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from annotated_workloads import build_workload
from crash_scene import GENERATE, Json, Scene
from custom_objects import KEYS, REQUESTS
from datakeys.contract.data_key_versions import build_version_secret_name

CREATE_SECRET: Final = "POST shop secrets"
_ROTATE: Final = "crash"


@dataclass(frozen=True)
class Stage:
    """One change, and when it is settled."""

    change: Callable[[Scene], None]
    settled: Callable[[Scene], bool]


@dataclass(frozen=True)
class Life:
    """Stages, and what must be so afterwards.

    Attributes:
        before: Stages that are over before the controller that dies is started.
        stages: Stages in which it dies.
        ciphertexts: Version -> how many ciphertexts of it come to be seen.
        calls: Calls that a controller must be seen to make, or nothing was proved.
        request: Name of the request.
        own_key: The namespace has a KmsKey of its own.
        rotations: How often that is rotated.
        is_rushed: What comes after a death is changed before the next controller is started.
    """

    before: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    ciphertexts: Mapping[int, int]
    calls: frozenset[str]
    request: str = "orders"
    own_key: bool = False
    rotations: int = 0
    is_rushed: bool = False


def is_whole(scene: Scene) -> bool:
    """Return whether the request is Ready with all its versions, each in its own Secret, and no other."""
    request = scene.find_request()
    if request is None or not _is_ready(request):
        return False
    versions, secrets = _versions_of(request), scene.secrets()
    names = {build_version_secret_name(scene.request, version) for version in versions}
    return secrets.keys() == names and all(
        _is_copy(secrets[build_version_secret_name(scene.request, version)], blob, request)
        for version, blob in versions.items()
    )


def is_gone(scene: Scene) -> bool:
    """Return whether nothing of it is left."""
    return scene.find_request() is None and not scene.secrets()


def is_re_encrypted(scene: Scene) -> bool:
    """Return whether the rotation is recorded, the campaign is over and the Secrets have followed."""
    key, request = scene.key_status(), scene.find_request()
    campaign = key.get("reEncryption") or {}
    material = key.get("currentKeyMaterialId")
    return (
        request is not None
        and key.get("onDemandRotation") == {"request": _ROTATE}
        and "finishedAt" in campaign
        and campaign["keyMaterialId"] == request["status"]["keyMaterialId"] == material
        and "formerCiphertextBlob" in request["status"]
        and is_whole(scene)
    )


def _is_ready(request: Json) -> bool:
    status, spec = request.get("status") or {}, request["spec"]
    ready = [it["status"] for it in status.get("conditions") or () if it["type"] == "Ready"]
    return (
        ready == ["True"]
        and status.get("version", 1) == spec.get("version", 1)
        and status.get("observedGeneration") == request["metadata"]["generation"]
    )


def _versions_of(request: Json) -> dict[int, str]:
    status = request["status"]
    members = [{"version": 1, **status}, *(status.get("previousVersions") or ())]
    return {member["version"]: member["ciphertextBlob"] for member in members}


def _is_copy(secret: Any, blob: str, request: Json) -> bool:
    owners = [(it.uid, it.controller) for it in secret.metadata.owner_references or ()]
    return secret.data["ciphertextBlob"] == blob and owners == [(request["metadata"]["uid"], True)]


def _create_key(scene: Scene) -> None:
    scene.objects.create_key(reEncryption={"enabled": True})


def _has_key(scene: Scene) -> bool:
    return scene.objects.condition(KEYS, "main")[0] == "True"


def _create_request(scene: Scene) -> None:
    named = {"keyId": scene.key} if scene.key.startswith("arn:") else {"key": scene.key}
    scene.objects.create_request(scene.request, **named)


def _patch_request(**spec: int) -> Callable[[Scene], None]:
    return lambda scene: scene.objects.patch(REQUESTS, scene.request, {"spec": spec})


def _rotate(scene: Scene) -> None:
    scene.objects.patch(KEYS, "main", {"spec": {"rotateOnDemand": _ROTATE}})


def _delete_request(scene: Scene) -> None:
    scene.objects.delete(REQUESTS, scene.request)


def _create_workload(scene: Scene) -> None:
    annotations = {"key": scene.key, "deletion-policy": "Delete"}
    scene.workloads.create(build_workload("Deployment", annotations=annotations))


def _delete_workload(scene: Scene) -> None:
    scene.workloads.delete("Deployment", "orders")


ISSUE: Final = Stage(_create_request, is_whole)
_WRITE_STATUS: Final = "PATCH shop datakeyrequests/orders/status"
_ISSUING: Final = frozenset({f"{GENERATE} shop", CREATE_SECRET, _WRITE_STATUS})

LIVES: Final[Mapping[str, Life]] = {
    "issue": Life((), (ISSUE,), {1: 1}, _ISSUING),
    "restore": Life(
        (ISSUE,),
        (Stage(lambda scene: scene.objects.delete_secret(scene.request), is_whole),),
        {1: 1},
        frozenset({CREATE_SECRET}),
    ),
    "version": Life(
        (ISSUE,),
        (Stage(_patch_request(version=2), is_whole), Stage(_patch_request(oldestVersion=2), is_whole)),
        {1: 1, 2: 1},
        _ISSUING,
    ),
    "re-encryption": Life(
        (Stage(_create_key, _has_key), ISSUE),
        (Stage(_rotate, is_re_encrypted),),
        {1: 2},
        frozenset(
            {
                "RotateKeyOnDemand shop",
                "ReEncrypt shop",
                _WRITE_STATUS,
                "DELETE shop secrets/orders",
                CREATE_SECRET,
            }
        ),
        own_key=True,
        rotations=1,
    ),
    "workload": Life(
        (),
        (Stage(_create_workload, is_whole), Stage(_delete_workload, is_gone)),
        {1: 1},
        frozenset({"POST shop datakeyrequests", f"{GENERATE} shop", CREATE_SECRET}),
        request="orders.deployment",
    ),
    "deletion": Life((), (ISSUE, Stage(_delete_request, is_gone)), {1: 1}, _ISSUING, is_rushed=True),
}
