"""An API server and a key service in memory, for the controller's tests without a cluster.

Zone: tests. The API has the semantics that the controller's safety rests on: a create is atomic and refuses
a taken name, a patch with another resourceVersion is refused, and the CRD's rule forbids a change of
ciphertextBlob.
"""

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import DryRunOperationError, KmsError
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey, parse_request
from datakeys.controller.handlers.handle_data_key_request import RequestReconciler
from datakeys.controller.handlers.re_encrypt_data_keys import DataKeyReEncrypter
from datakeys.controller.handlers.re_encrypt_requests import ReEncrypter, ReEncryptionWakeups
from datakeys.controller.handlers.request_failures import FailureReporter
from datakeys.controller.handlers.request_status import StatusWriter
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.kube.api import REQUESTS, SECRETS, Json, Resource
from datakeys.controller.kube.errors import (
    ConflictError,
    ExistsError,
    KubeError,
    MissingError,
)
from datakeys.controller.kube.namespace_access import NamespaceAccess
from datakeys.controller.kube.secret_memory import SecretMemory
from datakeys.controller.re_encryption_turns import Turns
from datakeys.controller.request_memory import RequestMemory
from datakeys.controller.request_watch import RequestWatch
from datakeys.controller.wakeups import Wakeups
from datakeys.controller.work_queue import WorkQueue
from datakeys.controller.workload_memory import WorkloadMemory
from datakeys.controller.workloads import Workloads

NAMESPACE = "shop"
SYSTEM = "datakey-system"
KEY_ARN = f"arn:k8s:kms:cluster-1:{NAMESPACE}:key/0f4c4a3e-0000-4000-8000-000000000001"
MATERIAL = "ab" * 32
TRUST_BUNDLE = {"ca.crt": "-----BEGIN CERTIFICATE-----\n"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def build_request_body(name: str = "orders", **spec: Any) -> Json:
    """Return a DataKeyRequest as the API server stores it."""
    body = {"keyId": KEY_ARN, "keySpec": "AES_256", "serviceAccountName": "app", **spec}
    if "keyRef" in spec:
        del body["keyId"]
    return {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "DataKeyRequest",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": body,
    }


def build_key_body(name: str = "main", state: str = "Enabled", arn: str = KEY_ARN) -> Json:
    """Return a KmsKey that the key service has made."""
    status = {"keyId": arn.rpartition("/")[2], "arn": arn, "keyState": state} if arn else {}
    return {
        "metadata": {"namespace": NAMESPACE, "name": name, "uid": f"key-{name}"},
        "spec": {"enabled": state == "Enabled"},
        "status": status,
    }


@dataclass
class Write:
    """One write that the API accepted."""

    verb: str
    plural: str
    name: str


@dataclass
class FakeCluster:
    """The objects, their history, and every write that changed them."""

    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    history: list[tuple[int, str, str, Json]] = field(default_factory=list)
    versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def version(self) -> int:
        """Return the version of the newest change."""
        return self.history[-1][0] if self.history else 0

    def find(self, resource: Resource, name: str) -> Json | None:
        """Return an object of the test's namespace."""
        return self.objects.get((resource.plural, NAMESPACE, name))

    async def put(self, resource: Resource, body: Json) -> Json:
        """Create an object as a user would."""
        return await self._store("ADDED", resource, body["metadata"]["namespace"], body)

    async def remove(self, resource: Resource, name: str) -> None:
        """Delete an object as a user would."""
        key = (resource.plural, NAMESPACE, name)
        body = self.objects.pop(key)
        await self._publish("DELETED", resource.plural, body)

    async def change(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Replace an object."""
        return await self._store("MODIFIED", resource, namespace, body)

    async def _store(self, kind: str, resource: Resource, namespace: str, body: Json) -> Json:
        stored = copy.deepcopy(body)
        metadata = stored["metadata"]
        if kind == "ADDED":
            metadata["uid"] = f"uid-{next(self.versions)}"
            metadata["generation"] = 1
        self.objects[resource.plural, namespace, metadata["name"]] = stored
        await self._publish(kind, resource.plural, stored)
        return copy.deepcopy(stored)

    async def _publish(self, kind: str, plural: str, body: Json) -> None:
        version = next(self.versions)
        body["metadata"]["resourceVersion"] = str(version)
        self.history.append((version, plural, kind, copy.deepcopy(body)))
        async with self.changed:
            self.changed.notify_all()


class FakeApi:
    """One controller's connection to the cluster.

    ``before`` and ``after`` are awaited around each call: tests let other things happen there, or raise.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        *,
        before: Callable[[str], Awaitable[None]] | None = None,
        after: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.cluster = cluster
        self.calls: list[str] = []
        self._before = before
        self._after = after

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        """Return one object."""
        await self._enter(f"get {resource.plural}")
        found = self.cluster.objects.get((resource.plural, namespace or "", name))
        if found is None:
            raise MissingError(404, "NotFound", name)
        await self._leave(f"get {resource.plural}")
        return copy.deepcopy(found)

    async def list(
        self, resource: Resource, namespace: str | None, *, metadata_only: bool = False, **selectors: str
    ) -> Json:
        """Return a list."""
        await self._enter(f"list {resource.plural}")
        items = [
            _project(body, metadata_only=metadata_only)
            for (plural, where, _), body in self.cluster.objects.items()
            if plural == resource.plural and namespace in (None, where) and _selected(body, selectors)
        ]
        return {"metadata": {"resourceVersion": str(self.cluster.version)}, "items": items}

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        since: str,
        *,
        metadata_only: bool = False,
        **selectors: str,
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield changes for ever."""
        position = int(since)
        while True:
            for version, plural, kind, body in list(self.cluster.history):
                if version <= position:
                    continue
                position = version
                mine = plural == resource.plural and namespace in (None, body["metadata"]["namespace"])
                if mine and _selected(body, selectors):
                    yield kind, _project(body, metadata_only=metadata_only)
            async with self.cluster.changed:
                if self.cluster.version <= position:
                    await self.cluster.changed.wait()

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object, or refuse a taken name."""
        await self._enter(f"create {resource.plural}")
        name = body["metadata"]["name"]
        if (resource.plural, namespace, name) in self.cluster.objects:
            raise ExistsError(409, "AlreadyExists", name)
        self.cluster.writes.append(Write("create", resource.plural, name))
        stored = await self.cluster.put(
            resource, {**body, "metadata": {**body["metadata"], "namespace": namespace}}
        )
        await self._leave(f"create {resource.plural}")
        return stored

    async def replace(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Replace an object."""
        await self._enter(f"update {resource.plural}")
        current = self.cluster.objects[resource.plural, namespace, name]
        if current["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", name)
        self.cluster.writes.append(Write("update", resource.plural, name))
        return await self.cluster.change(resource, namespace, body)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> None:
        """Delete an object in a known version."""
        await self._enter(f"delete {resource.plural}")
        current = self.cluster.objects.get((resource.plural, namespace, name))
        if current is None:
            raise MissingError(404, "NotFound", name)
        metadata = current["metadata"]
        if (metadata["uid"], metadata["resourceVersion"]) != (uid, resource_version):
            raise ConflictError(409, "Conflict", name)
        self.cluster.writes.append(Write("delete", resource.plural, name))
        await self.cluster.remove(resource, name)
        await self._leave(f"delete {resource.plural}")

    async def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Merge metadata; another resourceVersion is refused."""
        await self._enter(f"patch {resource.plural}")
        current = self.cluster.objects.get((resource.plural, namespace, name))
        if current is None:
            raise MissingError(404, "NotFound", name)
        if body["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", name)
        self.cluster.writes.append(Write("patch", resource.plural, name))
        metadata = {**current["metadata"], **body["metadata"]}
        return await self.cluster.change(resource, namespace, {**current, "metadata": metadata})

    async def patch_status(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Merge a status; unknown versions and a ciphertext that vanishes are refused."""
        await self._enter(f"patch {resource.plural}")
        current = self.cluster.objects.get((resource.plural, namespace, name))
        if current is None:
            raise MissingError(404, "NotFound", name)
        seen = body.get("metadata", {}).get("resourceVersion")
        if seen not in (None, current["metadata"]["resourceVersion"]):
            raise ConflictError(409, "Conflict", name)
        old = current.get("status") or {}
        new = merge_patch(old, body["status"])
        if not all(held & _held(new).get(number, set()) for number, held in _current(old).items()):
            raise KubeError(422, "Invalid", "ciphertextBlob can't be changed")
        if new == old:
            return copy.deepcopy(current)
        self.cluster.writes.append(Write("patch", f"{resource.plural}/status", name))
        stored = await self.cluster.change(resource, namespace, {**current, "status": new})
        await self._leave(f"patch {resource.plural}")
        return stored

    async def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self._before is not None:
            await self._before(call)

    async def _leave(self, call: str) -> None:
        if self._after is not None:
            await self._after(call)


def merge_patch(old: Json, patch: Json) -> Json:
    """Return a JSON object with a patch merged into it. Source: RFC 7396."""
    merged = {**old, **patch}
    return {
        name: merge_patch(old.get(name) or {}, value) if isinstance(patch.get(name), dict) else value
        for name, value in merged.items()
        if value is not None
    }


def _versions(status: Json) -> list[Json]:
    current = [{"version": 1, **status}] if status.get("ciphertextBlob") else []
    return [*(status.get("previousVersions") or []), *current]


def _current(status: Json) -> dict[int, set[str]]:
    """Return the ciphertext of each version of a status."""
    return {it["version"]: {it["ciphertextBlob"]} for it in _versions(status)}


def _held(status: Json) -> dict[int, set[str]]:
    """Return the ciphertexts of each version, the one before its re-encryption included."""
    return {
        it["version"]: {it["ciphertextBlob"], it.get("formerCiphertextBlob", "")} for it in _versions(status)
    }


def _project(body: Json, *, metadata_only: bool) -> Json:
    projected = copy.deepcopy(body)
    return {"metadata": projected["metadata"]} if metadata_only else projected


def _selected(body: Json, selectors: Mapping[str, str]) -> bool:
    label, equals, value = selectors.get("labelSelector", "").partition("=")
    labels = body["metadata"].get("labels") or {}
    return not label or (labels.get(label) == value if equals else label in labels)


@dataclass
class FakeKeyService:
    """Counts calls and makes recognisable ciphertexts; ``error`` is raised instead, if set."""

    error: KmsError | None = None
    made: list[bytes] = field(default_factory=list)
    calls: int = 0
    re_encryptions: int = 0
    material: str = MATERIAL
    honours_dry_run: bool = True
    pause: Callable[[], Awaitable[None]] | None = None

    async def generate_data_key_without_plaintext(
        self,
        account: str,  # noqa: ARG002 - the real client's signature
        parameters: Mapping[str, Any],
        context: Mapping[str, str],
    ) -> EncryptedDataKey:
        """Return the next ciphertext."""
        self.calls += 1
        if self.pause is not None:
            await self.pause()
        if self.error is not None:
            raise self.error
        if parameters.get("DryRun") and self.honours_dry_run:
            raise DryRunOperationError
        blob = f"{len(self.made)}:{json.dumps(dict(context), sort_keys=True)}".encode()
        self.made.append(blob)
        return EncryptedDataKey(blob, KEY_ARN, self.material, context)

    async def re_encrypt(self, account: str, encrypted: EncryptedDataKey) -> EncryptedDataKey:  # noqa: ARG002
        """Return a ciphertext that tells which one it was made of."""
        self.re_encryptions += 1
        if self.pause is not None:
            await self.pause()
        if self.error is not None:
            raise self.error
        blob = f"{self.re_encryptions}>".encode() + encrypted.ciphertext_blob
        return encrypted._replace(ciphertext_blob=blob, key_material_id=self.material)


@dataclass
class FakeRecorder:
    """Remembers what was told."""

    reasons: list[str] = field(default_factory=list)

    def record(self, subject: object, reason: str, note: str, *, once: bool = False) -> None:  # noqa: ARG002
        """Remember the reason."""
        self.reasons.append(str(reason))


class SimulatedController:
    """A whole controller without kopf: events are fed by hand, the queue is emptied by hand."""

    def __init__(self, api: FakeApi, keyservice: FakeKeyService) -> None:
        self.api = api
        self.recorder = FakeRecorder()
        self.requests, self.keys, self.turns = RequestMemory(), KeyMemory(), Turns()
        untyped: Any = api
        self.secrets = SecretMemory(untyped)
        self.access = NamespaceAccess(untyped, service_account="datakeys-controller", system_namespace=SYSTEM)
        self.access.on_list([{"data": TRUST_BUNDLE}])
        recorder: Any = self.recorder
        service: Any = keyservice
        statuses = StatusWriter(untyped, self.requests, recorder, now=lambda: NOW)
        self.reconciler = RequestReconciler(
            requests=self.requests,
            keys=self.keys,
            secrets=self.secrets,
            access=self.access,
            keyservice=service,
            statuses=statuses,
            failures=FailureReporter(self.requests, statuses, fraction=lambda: 0.0),
            re_encrypter=DataKeyReEncrypter(service, statuses),
            turns=self.turns,
        )
        self.queue = WorkQueue(self.reconciler.reconcile, workers=1)
        self.wakeups = Wakeups(self.requests, self.queue, self.secrets, self.access)
        self.secrets.subscribe(self.wakeups.on_secret)
        self.campaigns = ReEncrypter(
            untyped,
            recorder,
            self.requests,
            self.keys,
            self.turns,
            self._see_all,
            self.queue.add,
        )
        self.slices = WorkQueue(self.campaigns.look, workers=1)
        self.re_encryptions = ReEncryptionWakeups(self.campaigns, self.slices.add)
        self.workloads = Workloads(
            WorkloadMemory(), WorkQueue(self.reconciler.reconcile, workers=1), recorder
        )
        self.request_watch = RequestWatch(
            self.requests, self.keys, self.wakeups, self.re_encryptions, self.workloads
        )

    async def _see_all(self) -> None:
        """List all requests once, as the watch does at its start."""
        if self.request_watch.synced.is_set():
            return
        untyped: Any = self.api
        await self.request_watch.build(untyped)._list()

    def see(self, name: str = "orders") -> None:
        """Feed the present state of a request, as a watch would."""
        body = self.api.cluster.find(REQUESTS, name)
        assert body is not None
        self.wakeups.on_request(parse_request(copy.deepcopy(body)))

    async def see_key(self, body: Json) -> None:
        """Feed a state of a KmsKey."""
        facts = parse_key_facts(body)
        old = await self.keys.observe(facts)
        self.wakeups.on_key(old, facts)
        self.re_encryptions.on_key(old, facts)

    async def reconcile(self, name: str = "orders") -> float | None:
        """Look at a request once."""
        return await self.reconciler.reconcile(ObjectKey(NAMESPACE, name))

    async def settle(self, name: str = "orders", attempts: int = 12) -> float | None:
        """See a request and look at it, without the pauses, until it has nothing more to do at once."""
        self.see(name)
        delay = await self.reconcile(name)
        while delay is not None and attempts:
            attempts -= 1
            delay = await self.reconcile(name)
        return delay

    def secret(self, name: str = "orders") -> Json | None:
        """Return the Secret of a request."""
        return self.api.cluster.find(SECRETS, name)

    def status(self, name: str = "orders") -> Json:
        """Return the status of a request."""
        body = self.api.cluster.find(REQUESTS, name)
        assert body is not None
        return dict(body.get("status") or {})

    def condition(self, name: str = "orders") -> Json:
        """Return the one condition of a request."""
        (condition,) = self.status(name)["conditions"]
        return dict(condition)
