"""The thin Kubernetes client and its watches, against an HTTP server on the loopback address."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web

from datakeys.controller.kube import api as api_module
from datakeys.controller.kube import list_watch
from datakeys.controller.kube.api import CONFIG_MAPS, EVENTS, REQUESTS, SECRETS, Json, KubeApi
from datakeys.controller.kube.connection import ClusterConnection, load_connection
from datakeys.controller.kube.errors import (
    ConflictError,
    ExistsError,
    ForbiddenError,
    GoneError,
    KubeError,
    MissingError,
    UnavailableError,
)
from datakeys.controller.kube.list_watch import ListWatch

HANG_UP = b"hang up"


@dataclass
class Server:
    """What the API server was asked, and what it answers, one answer per request."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def will(self, answer: Any, status: int = 200) -> None:
        """Answer the next request."""
        self.answers.append((status, answer))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer with JSON, raw bytes, or a stream of lines."""
        seen = (request.method, request.path_qs, dict(request.headers), await request.text())
        self.requests.append(seen)
        if not self.answers:
            await self.end.wait()
            return web.Response(status=503)
        status, answer = self.answers.pop(0)
        if answer is HANG_UP:
            assert request.transport is not None
            request.transport.abort()
        if isinstance(answer, bytes):
            return web.Response(status=status, body=answer)
        if not isinstance(answer, list):
            return web.json_response(answer, status=status)
        stream = web.StreamResponse(status=status)
        await stream.prepare(request)
        for part in answer:
            await stream.write(part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n")
        return stream


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run the server."""
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield server
    server.end.set()
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubeApi]:
    """Open a client."""
    async with KubeApi(ClusterConnection(kopf.ConnectionInfo(server=server.url, token="t"))) as api:
        yield api


def refusal(status: int, reason: str, **details: Any) -> Json:
    """Return a Status object."""
    return {"kind": "Status", "code": status, "reason": reason, "message": "why", "details": details}


async def test_calls_are_what_the_api_wants(server: Server, api: KubeApi) -> None:
    """Method, path, content type and credentials of each call."""
    for _ in range(6):
        server.will({"ok": True})
    await api.get(SECRETS, "shop", "orders")
    await api.list(SECRETS, "shop", metadata_only=True, labelSelector="a")
    await api.create(EVENTS, "shop", {"a": 1})
    await api.replace(CONFIG_MAPS, "shop", "c", {"b": 2})
    await api.patch_status(REQUESTS, "shop", "orders", {"status": {}})
    await api.delete(SECRETS, "shop", "orders", uid="u", resource_version="3")
    calls = [(method, path) for method, path, _, _ in server.requests]
    assert calls == [
        ("GET", "/api/v1/namespaces/shop/secrets/orders"),
        ("GET", "/api/v1/namespaces/shop/secrets?labelSelector=a"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events"),
        ("PUT", "/api/v1/namespaces/shop/configmaps/c"),
        ("PATCH", "/apis/datakeys.dev/v1alpha1/namespaces/shop/datakeyrequests/orders/status"),
        ("DELETE", "/api/v1/namespaces/shop/secrets/orders"),
    ]
    assert all(headers["Authorization"] == "Bearer t" for _, _, headers, _ in server.requests)
    assert "PartialObjectMetadataList" in server.requests[1][2]["Accept"]
    assert server.requests[4][2]["Content-Type"] == "application/merge-patch+json"
    assert json.loads(server.requests[2][3]) == {"a": 1}
    assert json.loads(server.requests[5][3]) == {"preconditions": {"uid": "u", "resourceVersion": "3"}}


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (409, "AlreadyExists", ExistsError),
        (409, "Conflict", ConflictError),
        (404, "NotFound", MissingError),
        (403, "Forbidden", ForbiddenError),
        (401, "Unauthorized", UnavailableError),
        (429, "TooManyRequests", UnavailableError),
        (500, "InternalError", UnavailableError),
        (503, "ServiceUnavailable", UnavailableError),
        (410, "Expired", GoneError),
        (422, "Invalid", KubeError),
    ],
)
async def test_refusals_have_types(
    server: Server, api: KubeApi, status: int, reason: str, expected: type[KubeError]
) -> None:
    """Each refusal has the type that says what the caller can do."""
    server.will(refusal(status, reason), status)
    with pytest.raises(expected) as refused:
        await api.get(SECRETS, "shop", "orders")
    assert type(refused.value) is expected
    assert (refused.value.status, refused.value.reason, refused.value.message) == (status, reason, "why")
    assert not refused.value.is_terminating


async def test_terminating_namespace_is_recognised(server: Server, api: KubeApi) -> None:
    """The cause tells a namespace that is going away from one that forbids."""
    server.will(refusal(403, "Forbidden", causes=[{"reason": "NamespaceTerminating"}]), 403)
    with pytest.raises(ForbiddenError) as refused:
        await api.create(SECRETS, "shop", {})
    assert refused.value.is_terminating


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b""])
async def test_refusal_without_a_status_object(server: Server, api: KubeApi, body: bytes) -> None:
    """A proxy's answer is judged by its HTTP status."""
    server.will(body, 502)
    with pytest.raises(UnavailableError, match="502"):
        await api.get(SECRETS, "shop", "orders")


async def test_nobody_there() -> None:
    """A refused connection is an unavailable API, also for a watch."""
    connection = ClusterConnection(kopf.ConnectionInfo(server="http://127.0.0.1:1"))
    async with KubeApi(connection) as api:
        with pytest.raises(UnavailableError):
            await api.get(SECRETS, "shop", "orders")
        with pytest.raises(UnavailableError):
            [event async for event in api.watch(SECRETS, "shop", "1")]
    closed = KubeApi(connection)
    with pytest.raises(RuntimeError):
        await closed.get(SECRETS, "shop", "orders")


async def test_only_a_call_without_further_effect_is_repeated(server: Server, api: KubeApi) -> None:
    """A kept connection may be closed at any time; whether a create took effect then is for the caller."""
    server.will(HANG_UP)
    server.will({"ok": True})
    assert await api.get(SECRETS, "shop", "orders") == {"ok": True}
    for call in (api.create(SECRETS, "shop", {}), api.patch_status(REQUESTS, "shop", "orders", {})):
        server.will(HANG_UP)
        with pytest.raises(UnavailableError, match="ClosedError"):
            await call
    server.will(HANG_UP)
    server.will(HANG_UP)
    with pytest.raises(UnavailableError, match="ClosedError"):
        await api.get(SECRETS, "shop", "orders")
    assert [method for method, *_ in server.requests] == ["GET", "GET", "POST", "PATCH", "GET", "GET"]


async def test_served_kinds(server: Server, api: KubeApi) -> None:
    """The kinds of a group are read from discovery; no group, no kinds."""
    server.will({"resources": [{"name": "kmskeys"}, {"name": "kmskeys/status"}]})
    server.will(refusal(404, "NotFound"), 404)
    assert await api.served_plurals("datakeys.dev", "v1alpha1") == {"kmskeys", "kmskeys/status"}
    assert await api.served_plurals("datakeys.dev", "v1alpha1") == set()


async def test_watch_yields_events_across_chunks(server: Server, api: KubeApi) -> None:
    """Lines that arrive in pieces are put together."""
    line = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "x" * 100_000}}}).encode()
    server.will([line[:50], line[50:] + b"\n\n" + line + b"\n"])
    events = [event async for event in api.watch(SECRETS, "shop", "5", metadata_only=True)]
    assert [kind for kind, _ in events] == ["ADDED", "ADDED"]
    _, path, headers, _ = server.requests[0]
    assert "resourceVersion=5" in path
    assert "allowWatchBookmarks=true" in path
    assert "PartialObjectMetadata;" in headers["Accept"]


async def test_watch_errors_are_raised(server: Server, api: KubeApi) -> None:
    """A refused watch and an ERROR event have the types of refusals."""
    server.will(refusal(403, "Forbidden"), 403)
    with pytest.raises(ForbiddenError):
        [event async for event in api.watch(SECRETS, "shop", "1")]
    server.will([{"type": "ERROR", "object": refusal(410, "Expired")}])
    with pytest.raises(GoneError):
        [event async for event in api.watch(SECRETS, "shop", "1")]


async def test_endless_line_is_cut(server: Server, api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any object ends the watch instead of filling the memory."""
    monkeypatch.setattr(api_module, "_MAX_LINE_BYTES", 1000)
    server.will([b"x" * 5000])
    with pytest.raises(UnavailableError):
        [event async for event in api.watch(SECRETS, "shop", "1")]


@dataclass
class Seen:
    """What a watch told."""

    lists: list[list[str]] = field(default_factory=list)
    changes: list[tuple[str, str]] = field(default_factory=list)

    def on_list(self, items: Sequence[Json]) -> None:
        """Remember a list."""
        self.lists.append([item["metadata"]["name"] for item in items])

    def on_change(self, kind: str, item: Json) -> None:
        """Remember a change."""
        self.changes.append((kind, item["metadata"]["name"]))


def named(name: str, version: str) -> Json:
    """Return an object."""
    return {"metadata": {"name": name, "resourceVersion": version}}


def listing(version: str, *names: str) -> Json:
    """Return a list object."""
    return {"metadata": {"resourceVersion": version}, "items": [named(name, "1") for name in names]}


async def test_list_then_watch_then_resume(
    server: Server, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that ends is resumed where it ended; a version that is too old leads to a new list."""
    monkeypatch.setattr(list_watch, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(list_watch, "_MAX_PAUSE_SECONDS", 0.0)
    server.will(listing("10", "a"))
    server.will(
        [{"type": "ADDED", "object": named("b", "11")}, {"type": "BOOKMARK", "object": named("", "15")}]
    )
    server.will([{"type": "DELETED", "object": named("b", "16")}])
    server.will(refusal(500, "InternalError"), 500)
    server.will([{"type": "ERROR", "object": refusal(410, "Expired")}])
    server.will(listing("20", "c"))
    server.will(refusal(403, "Forbidden"), 403)
    server.will(listing("30"))
    seen = Seen()
    task = asyncio.create_task(ListWatch(api, SECRETS, "shop", seen, {"labelSelector": "l"}).run())
    async with asyncio.timeout(60):
        while len(server.requests) < 9:  # noqa: ASYNC110 - the ninth request is never answered
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen.lists == [["a"], ["c"], []]
    assert seen.changes == [("ADDED", "b"), ("DELETED", "b")]
    versions = [
        path.rpartition("resourceVersion=")[2] for _, path, _, _ in server.requests if "watch" in path
    ]
    assert versions == ["10", "15", "16", "16", "20", "30"]


def write_kubeconfig(path: Path) -> None:
    """Write a kubeconfig with a token."""
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://api:6443/"}}],
                "users": [{"name": "u", "user": {"token": "from-kubeconfig"}}],
            }
        )
    )


def test_connection_from_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit kubeconfig wins; kopf gets the same credentials."""
    write_kubeconfig(tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    connection = load_connection()
    assert connection.server == "https://api:6443"
    assert connection.headers() == {"Authorization": "Bearer from-kubeconfig"}
    assert connection.login_info().token == "from-kubeconfig"


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a pod and without kubeconfig the process says what is missing."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(kopf.LoginError, match="KUBECONFIG"):
        load_connection()


def test_connection_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod the API server's address needs no name lookup."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    info = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="old")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: info)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert load_connection().server == "https://[fd00::1]:6443"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert load_connection().server == "https://10.0.0.1:6443"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert load_connection().server == "https://kubernetes.default.svc"
    token = tmp_path / "token"
    token.write_text("one")
    connection = ClusterConnection(info, token)
    assert connection.headers() == {"Authorization": "Bearer one"}
    token.write_text("two!")
    assert connection.headers() == {"Authorization": "Bearer two!"}
    assert connection.login_info().token == "two!"


def test_ten_thousand_watches_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit of open files is raised to what the kernel allows."""
    write_kubeconfig(tmp_path / "config")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        load_connection()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
