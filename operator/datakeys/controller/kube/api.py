"""A thin asynchronous client of the Kubernetes API: JSON in, JSON out, over kept-alive connections.

Zone: bodies pass through and are never logged. Source: Kubernetes API concepts.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
import orjson

from datakeys.contract.identity import GROUP, VERSION
from datakeys.controller import metrics
from datakeys.controller.http_client import Answer, ClosedError, HttpClient
from datakeys.controller.kube.connection import ClusterConnection
from datakeys.controller.kube.errors import MissingError, UnavailableError, build_kube_error

Json = dict[str, Any]

REQUEST_TIMEOUT_SECONDS: Final = 20
#: The server sends a bookmark about once a minute; a longer silence is a dead connection.
WATCH_SILENCE_SECONDS: Final = 90
#: Larger than the largest object that etcd takes.
_MAX_LINE_BYTES: Final = 8 * 1024 * 1024
#: The server keeps an idle connection for 90 seconds.
_IDLE_SECONDS: Final = 60.0
#: Methods whose second call has no further effect (RFC 9110, 9.2.2).
_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object as it appears in URLs."""

    group: str
    version: str
    plural: str

    @classmethod
    def of_kind(cls, api_version: str, kind: str) -> Self:
        """Return the resource of a kind such as ``apps/v1`` ``Deployment``, whose plural has an s."""
        group, _, version = api_version.partition("/")
        return cls(group, version, f"{kind.lower()}s")

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of a collection, an object or a subresource."""
        parts = ["api" if not self.group else f"apis/{self.group}", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/" + "/".join(parts)


REQUESTS: Final = Resource(GROUP, VERSION, "datakeyrequests")
KEYS: Final = Resource(GROUP, VERSION, "kmskeys")
SECRETS: Final = Resource("", "v1", "secrets")
PODS: Final = Resource("", "v1", "pods")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")


class KubeApi:
    """One session with the API server: calls over connections of our own, watches by aiohttp."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._calls = HttpClient(connection.server, lambda: connection.tls, idle_seconds=_IDLE_SECONDS)
        self._watches: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        await self._calls.__aenter__()
        connector = aiohttp.TCPConnector(limit=0, ssl=self._connection.tls, keepalive_timeout=60)
        self._watches = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=2**18
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._calls.__aexit__()
        if self._watches is not None:
            await self._watches.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        """Return one object."""
        return await self._call("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None, *, metadata_only: bool = False, **selectors: str
    ) -> Json:
        """Return a list object."""
        accept = _METADATA_ONLY.format("List") if metadata_only else "application/json"
        return await self._call("GET", resource.path(namespace), params=selectors, accept=accept)

    async def served_plurals(self, group: str, version: str) -> set[str]:
        """Return the plurals of the kinds that a group serves; empty if there is no such group."""
        try:
            answer = await self._call("GET", f"/apis/{group}/{version}")
        except MissingError:
            return set()
        return {item["name"] for item in answer.get("resources") or []}

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object and return it as stored."""
        metrics.WRITES.labels(resource.plural, "create").inc()
        return await self._call("POST", resource.path(namespace), body=body)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Replace an object; its resourceVersion guards against lost updates."""
        metrics.WRITES.labels(resource.plural, "update").inc()
        return await self._call("PUT", resource.path(namespace, name), body=body)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, resource_version: str
    ) -> None:
        """Delete an object, if it is still the one with this UID in exactly this version.

        Raises:
            MissingError: It is gone.
            ConflictError: It has changed, or another one has its name.
            KubeError: It is refused.
        """
        metrics.WRITES.labels(resource.plural, "delete").inc()
        body = {"preconditions": {"uid": uid, "resourceVersion": resource_version}}
        await self._call("DELETE", resource.path(namespace, name), body=body)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Merge a patch into an object and return it; a resourceVersion in it guards against lost updates."""
        metrics.WRITES.labels(resource.plural, "patch").inc()
        path = resource.path(namespace, name)
        return await self._call("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def patch_status(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Merge a patch into an object's status and return the object."""
        metrics.WRITES.labels(f"{resource.plural}/status", "patch").inc()
        path = resource.path(namespace, name, "status")
        return await self._call("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        """Evict a pod, if it is still the one with this UID.

        Source: Kubernetes API policy/v1 Eviction.

        Raises:
            UnavailableError: A PodDisruptionBudget doesn't allow it now (429).
            MissingError: It is gone.
            ConflictError: Another pod has its name.
            KubeError: It is refused.
        """
        metrics.WRITES.labels("pods/eviction", "create").inc()
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._call("POST", PODS.path(namespace, name, "eviction"), body=body)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        since: str,
        *,
        metadata_only: bool = False,
        **selectors: str,
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield type and object of every change since a resourceVersion, until the stream ends.

        Raises:
            KubeError: The watch is refused, or an ERROR event came (``GoneError``: list again).
        """
        params = {**selectors, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
        accept = _METADATA_ONLY.format("") if metadata_only else "application/json"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        headers = {"Accept": accept, **self._connection.headers()}
        url = self._connection.server + resource.path(namespace)
        try:
            async with self._open().get(url, params=params, headers=headers, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    raise build_kube_error(response.status, _parse(await response.read()))
                async for line in _lines(response):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise build_kube_error(event["object"].get("code", 500), event["object"])
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(0, "Unavailable", type(error).__name__) from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> Json:
        headers = {"Accept": accept, "Content-Type": content_type, **self._connection.headers()}
        raw = b"" if body is None else orjson.dumps(body)
        if params:
            path = f"{path}?{urlencode(params)}"
        try:
            status, raw = await self._send(method, path, headers, raw)
        except OSError as error:
            raise UnavailableError(0, "Unavailable", type(error).__name__) from error
        answer = _parse(raw)
        if status >= HTTPStatus.BAD_REQUEST:
            raise build_kube_error(status, answer)
        return answer

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        try:
            return await self._calls.call(method, path, headers, body, REQUEST_TIMEOUT_SECONDS)
        except ClosedError:
            if method not in _REPEATABLE:
                raise
        return await self._calls.call(method, path, headers, body, REQUEST_TIMEOUT_SECONDS)

    def _open(self) -> aiohttp.ClientSession:
        if self._watches is None:
            raise RuntimeError("KubeApi is used outside its context")
        return self._watches


def _parse(raw: bytes) -> Json:
    try:
        parsed = orjson.loads(raw)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; aiohttp's own line reader has a limit far below the size of an object."""
    buffer = bytearray()
    async for chunk in response.content.iter_any():
        buffer += chunk
        if len(buffer) > _MAX_LINE_BYTES:
            raise aiohttp.ClientPayloadError("a watch event is too long")
        *complete, rest = buffer.split(b"\n")
        for line in complete:
            if line:
                yield bytes(line)
        buffer = bytearray(rest)
