"""One namespace in which controllers die over a data key, and what has ever been visible in it.

Zone: tests. What was visible is read from the API server's own history, so nothing in between is missed.
"""

import hashlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from kubernetes import client, watch

from annotated_workloads import WorkloadClient
from controller_rig import Rig
from controller_wire import Wire
from custom_objects import KEYS, REQUESTS, Objects, fresh_objects
from datakeys.contract.data_key_versions import build_version_secret_name
from datakeys.contract.identity import GROUP, VERSION
from pod_caller import decrypt, start_pod

Json = dict[str, Any]
GENERATE: Final = "GenerateDataKeyWithoutPlaintext"
#: Made when all is over: the last event of the history of Secrets.
_END: Final = "end-of-history"
_HISTORY_SECONDS: Final = 120


@dataclass
class Visible:
    """All ciphertexts that anybody could ever see, in the order in which they came to be seen.

    Attributes:
        statuses: Version -> ciphertexts in base64, as statuses held them, former ones included.
        secrets: Name of a Secret -> ciphertexts in base64.
    """

    statuses: dict[int, list[str]]
    secrets: dict[str, list[str]]

    def all(self) -> list[list[str]]:
        """Return the ciphertexts, those of one version or one Secret together."""
        return [*self.statuses.values(), *self.secrets.values()]


@dataclass
class Scene:
    """The namespace, and whoever looks into it.

    Attributes:
        key: What the requests call their KMS key.
        request: Name of the one DataKeyRequest.
        since: resourceVersion from before there was anything.
    """

    rig: Rig
    objects: Objects
    key: str
    request: str
    since: str

    @property
    def namespace(self) -> str:
        """Return its name."""
        return self.objects.namespace

    @cached_property
    def workloads(self) -> WorkloadClient:
        """Return the workloads."""
        return WorkloadClient(self.objects.api, self.namespace)

    @cached_property
    def pod(self) -> Wire:
        """Return the calls of a pod that owns the data key."""
        return start_pod(self.rig, self.namespace)

    def find_request(self) -> Json | None:
        """Return the request, or None."""
        found = [it for it in self.objects.list(REQUESTS) if it["metadata"]["name"] == self.request]
        return found[0] if found else None

    def secrets(self) -> dict[str, Any]:
        """Return all Secrets by name."""
        listed: Any = client.CoreV1Api(self.objects.api).list_namespaced_secret(self.namespace)
        return {item.metadata.name: item for item in listed.items}

    def key_status(self) -> Json:
        """Return the status of the namespace's own KmsKey."""
        return dict(self.objects.get(KEYS, "main").get("status") or {})

    def open(self, ciphertext: str) -> bytes:
        """Return the plaintext of a ciphertext in base64, as the pod gets it."""
        return decrypt(self.pod, ciphertext, self.namespace, self.request)

    def generated(self) -> list[str]:
        """Return the SHA-256 of every ciphertext that was generated, as the audit records have it."""
        return [record["ciphertextBlobSha256"] for record in self.rig.audited(GENERATE, self.namespace)]

    def rotations(self) -> int:
        """Return how often the namespace's own KMS key has been rotated."""
        answer = Wire(self.rig, self.namespace).call("ListKeyRotations", KeyId=self.key_status()["keyId"])
        return len(answer["Rotations"])

    def clear(self) -> None:
        """Remove everything; no controller may run."""
        core = client.CoreV1Api(self.objects.api)
        self.workloads.delete_all()
        self.objects.remove_all()
        core.delete_collection_namespaced_secret(self.namespace)
        body: Any = {"metadata": {"name": _END}}
        core.create_namespaced_secret(self.namespace, body)

    def read_history(self) -> Visible:
        """Return what was ever visible; to be called after ``clear``."""
        visible = Visible({}, {})
        for status in self._past_statuses():
            for version, blobs in _blobs_of(status):
                if blobs:
                    _append(visible.statuses.setdefault(version, []), blobs)
        for name, blob in self._past_secrets():
            _append(visible.secrets.setdefault(name, []), [blob])
        return visible

    def _past_statuses(self) -> Iterator[Json]:
        alive: set[str] = set()
        custom = client.CustomObjectsApi(self.objects.api)
        for kind, body in self._past(
            custom.list_namespaced_custom_object, GROUP, VERSION, self.namespace, REQUESTS
        ):
            yield body.get("status") or {}
            alive.add(body["metadata"]["uid"])
            if kind == "DELETED":
                alive.discard(body["metadata"]["uid"])
            if not alive:
                return
        raise AssertionError("the history of requests has no end")

    def _past_secrets(self) -> Iterator[tuple[str, str]]:
        core = client.CoreV1Api(self.objects.api)
        for _, secret in self._past(core.list_namespaced_secret, self.namespace):
            if secret.metadata.name == _END:
                return
            yield secret.metadata.name, secret.data["ciphertextBlob"]
        raise AssertionError("the history of Secrets has no end")

    def _past(self, listing: Callable[..., Any], *arguments: str) -> Iterator[tuple[str, Any]]:
        """Yield kind and object of every event since the beginning, and of those to come."""
        watching: Any = watch.Watch  # untyped
        options = {"resource_version": self.since, "timeout_seconds": _HISTORY_SECONDS}
        for event in watching().stream(listing, *arguments, **options):
            assert event["type"] != "ERROR", event
            yield event["type"], event["object"]


def check_visible(visible: Visible, request: str, wanted: Mapping[int, int], *, given_up: bool) -> None:
    """Fail unless there was one data key per version, in no other ciphertexts than wanted.

    Args:
        visible: What ``read_history`` gave.
        request: Name of the request.
        wanted: Version -> how many ciphertexts of it there are.
        given_up: The request was deleted before it was Ready: there may be fewer.
    """
    made = {version: len(blobs) for version, blobs in visible.statuses.items()}
    if not given_up:
        assert made == wanted, visible
    assert all(count <= wanted[version] for version, count in made.items()), visible
    names = {build_version_secret_name(request, version): version for version in wanted}
    for name, blobs in visible.secrets.items():
        version = names[name]
        assert len(blobs) <= wanted[version], (name, visible)
        if version in visible.statuses or not given_up:
            assert blobs == visible.statuses[version][: len(blobs)], (name, visible)
    assert given_up or visible.secrets.keys() == names.keys(), visible


def count_hidden(generated: list[str], visible: Visible) -> int:
    """Return how many of the generated ciphertexts nobody could ever see."""
    seen = {_digest(blob) for blobs in visible.all() for blob in blobs}
    assert {_digest(blobs[0]) for blobs in visible.all()} <= {*generated}
    return len({*generated} - seen)


def _digest(blob: str) -> str:
    return hashlib.sha256(b64decode(blob)).hexdigest()


@contextmanager
def fresh_scene(rig: Rig, api: client.ApiClient, key: str, request: str) -> Iterator[Scene]:
    """Yield a scene in a namespace of its own."""
    with fresh_objects(api) as objects:
        listed: Any = client.CoreV1Api(api).list_namespaced_secret(objects.namespace)
        yield Scene(rig, objects, key, request, str(listed.metadata.resource_version))


def _blobs_of(status: Json) -> Iterator[tuple[int, list[str]]]:
    for member in ({"version": 1, **status}, *(status.get("previousVersions") or ())):
        blobs = [member.get("formerCiphertextBlob"), member.get("ciphertextBlob")]
        yield member["version"], [blob for blob in blobs if blob]


def _append(known: list[str], blobs: list[str]) -> None:
    known += [blob for blob in blobs if blob not in known]
