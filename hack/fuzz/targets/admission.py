"""Admission reviews: whatever comes, the answer is HTTP 200 or 400, and a patch fits the object.

The first line is a path of the webhook; both decide alike.
"""

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from aiohttp import web

from datakeys.contract import identity
from datakeys.kubectl.inject.json_patch import apply_patch
from datakeys.webhook.admission import PATHS, AdmissionHandler, LookupUnavailableError
from datakeys.webhook.metrics import Metrics
from datakeys.webhook.patches import WORKLOAD_KINDS, RequestFacts, SidecarSettings
from fuzz.target import Target, require

_SETTINGS: Final = SidecarSettings(
    image="datakeys-sidecar:test",
    image_pull_policy="IfNotPresent",
    keyservice_url="https://datakeys-keyservice.datakey-system.svc:443",
    region="cluster-1",
)
_HEAD: Final = PATHS[0].encode() + b"\n"
#: Annotations of pods that each take another way.
_WISHES: Final[tuple[dict[str, str], ...]] = (
    {identity.ANNOTATION_REQUESTS: "orders"},
    {identity.ANNOTATION_REQUESTS: "orders,payments", identity.ANNOTATION_DELIVERY: "socket"},
    {identity.ANNOTATION_REQUESTS: "orders", identity.ANNOTATION_DELIVERY: "init"},
    {
        identity.ANNOTATION_REQUESTS: "orders",
        identity.ANNOTATION_TTL: "1h",
        identity.ANNOTATION_READS: "once",
    },
    {identity.ANNOTATION_REQUESTS: "orders", identity.ANNOTATION_CONTAINERS: "app,setup"},
    {identity.ANNOTATION_REQUESTS: "orders", identity.ANNOTATION_FILE_MODE: "0440"},
    {identity.ANNOTATION_REQUESTS: "absent,down"},
    {identity.ANNOTATION_AWS_ENDPOINT: "true", identity.ANNOTATION_AWS_ENDPOINT_PORT: "4600"},
    {identity.ANNOTATION_KEY: "orders", identity.ANNOTATION_ENCRYPTION_CONTEXT: "a=b,c=d"},
    {identity.ANNOTATION_KEY: "alias/orders", identity.ANNOTATION_SCOPE: "pod"},
    {identity.ANNOTATION_KEY: "orders", identity.ANNOTATION_WORKLOAD: "Deployment/orders"},
    {identity.ANNOTATION_KEY: "orders", identity.ANNOTATION_KEY_SPEC: "AES_128"},
    {identity.ANNOTATION_KEY: "orders", identity.ANNOTATION_NUMBER_OF_BYTES: "64"},
    {identity.ANNOTATION_KEY: "orders", identity.ANNOTATION_DELETION_POLICY: "Delete"},
)


class _Lookup:
    """Knows all requests but two."""

    async def fetch(self, namespace: str, names: tuple[str, ...]) -> Mapping[str, RequestFacts | None]:  # noqa: ARG002 - the protocol's
        if "down" in names:
            raise LookupUnavailableError("the API server can't be reached")
        facts = RequestFacts("secret-of-orders", "app", version=2)
        return {name: None if name == "absent" else facts for name in names}


class _Request:
    """What the handler takes of an HTTP request."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


class AdmissionTarget(Target):
    """``AdmissionHandler.handle``."""

    max_bytes = 8192
    words = (
        *sorted({key for wishes in _WISHES for key in wishes}),
        *sorted({value for wishes in _WISHES for value in wishes.values()}),
        *WORKLOAD_KINDS,
        *(
            "initContainers",
            "ephemeralContainers",
            "volumes",
            "securityContext",
            "runAsUser",
            "restartPolicy",
        ),
        *(
            "datakeys-keys",
            "datakeys-sidecar",
            "volumeMounts",
            "mountPath",
            "/var/run/datakeys/keys",
            "Always",
        ),
        *("ownerReferences", "generateName", "shareProcessNamespace", "resources", "limits", "env", "UPDATE"),
    )
    has_json = True

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._handler = AdmissionHandler(_Lookup(), _SETTINGS, Metrics())

    def close(self) -> None:
        """Give back what it holds."""
        self._loop.close()

    def seeds(self) -> Iterator[bytes]:
        """Return reviews of pods and of every kind of workload, and of what isn't for this webhook."""
        for wishes in _WISHES:
            pod = _build_pod(wishes)
            yield _HEAD + json.dumps(_build_review(object=pod)).encode()
            yield _HEAD + json.dumps(_build_review(object=self._inject(pod))).encode()
        for number, kind in enumerate(WORKLOAD_KINDS):
            for operation in ("CREATE", "UPDATE"):
                review = _build_workload_review(kind, operation, _WISHES[8 + number])
                yield _HEAD + json.dumps(review).encode()
        yield (
            _HEAD + json.dumps(_build_review(subResource="ephemeralcontainers", operation="UPDATE")).encode()
        )

    def _inject(self, pod: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(json.dumps(_build_review(object=pod)).encode())
        return _apply(pod, answer) if answer else pod

    def run(self, data: bytes) -> None:
        """Answer a review, apply the patch, and ask again about the result."""
        body = data.partition(b"\n")[2]
        answer = self._ask(body)
        if answer is None:
            return
        review = json.loads(body)
        require(answer["uid"] == review["request"]["uid"], "another review's answer")
        require(answer["allowed"] or "patch" not in answer, "a refused object is patched")
        if "patch" in answer:
            try:
                patched = _apply(review["request"]["object"], answer)
            except RecursionError:  # of the copy made here: the object is deep where the webhook doesn't look
                return
            review["request"]["object"] = patched
            again = self._ask(json.dumps(review).encode())
            require(again is not None, "what was patched is refused as malformed")
            require(again and again["allowed"], "what was patched is refused", again)
            require(_apply(patched, again or {}) == patched, "what was patched is patched again")

    def _ask(self, body: bytes) -> dict[str, Any] | None:
        """Return the response to a review; None if it is malformed."""
        request = cast("web.Request", _Request(body))
        answer = self._loop.run_until_complete(self._handler.handle(request))
        require(answer.status in (200, 400), "an internal error", answer.status)
        text = answer.text or ""
        response: dict[str, Any] = json.loads(text).get("response", {})
        return response if answer.status == 200 else None  # noqa: PLR2004 - HTTP


def _apply(document: dict[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    if "patch" not in answer:
        return document
    patched: dict[str, Any] = apply_patch(document, json.loads(base64.b64decode(answer["patch"])))
    return patched


def _build_pod(annotations: Mapping[str, str]) -> dict[str, Any]:
    mount = {"name": "data", "mountPath": "/data"}
    app = {"name": "app", "image": "app:1", "resources": {}, "volumeMounts": [mount]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "app-",
            "labels": {identity.LABEL_INJECT: "true"},
            "annotations": dict(annotations),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "app-1",
                    "uid": "u",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsUser": 10001},
            "containers": [app],
            "initContainers": [{"name": "setup", "image": "app:1"}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }


def _build_review(**request: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    members = {
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "team",
        "object": _build_pod(_WISHES[0]),
        **request,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": members}


def _build_workload_review(kind: str, operation: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    group = "batch" if kind.endswith("Job") else "apps"
    spec: dict[str, Any] = {"template": _build_pod({})}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    metadata = {"name": "orders", "annotations": dict(annotations)}
    workload = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return _build_review(
        kind={"group": group, "version": "v1", "kind": kind},
        resource={"group": group, "version": "v1", "resource": f"{kind.lower()}s"},
        operation=operation,
        object=workload,
        oldObject={**workload, "metadata": {"name": "orders"}} if operation == "UPDATE" else None,
    )


def build() -> AdmissionTarget:
    """Return the target."""
    return AdmissionTarget()
