"""``POST /mutate-pods`` over HTTP, and the lookup of the DataKeyRequests."""

import base64
import io
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from kubernetes.client.exceptions import ApiException
from prometheus_client import generate_latest
from urllib3.exceptions import MaxRetryError

from datakeys.webhook.admission import AdmissionHandler, LookupUnavailableError
from datakeys.webhook.logs import JsonFormatter
from datakeys.webhook.metrics import Metrics
from datakeys.webhook.patches import RequestFacts
from datakeys.webhook.request_lookup import KubernetesRequestLookup

from .conftest import SETTINGS, build_pod
from .test_review import build_review, build_workload_review


class FakeLookup:
    """Knows the request ``orders``; can fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def fetch(self, namespace: str, names: tuple[str, ...]) -> Mapping[str, RequestFacts | None]:
        """Return the facts."""
        self.asked.append((namespace, names))
        if self.error:
            raise self.error
        return {name: RequestFacts("secret-of-orders", "app") if name == "orders" else None for name in names}


@pytest.fixture
def lookup() -> FakeLookup:
    """Give a lookup."""
    return FakeLookup()


@pytest.fixture
def metrics() -> Metrics:
    """Give fresh metrics."""
    return Metrics()


@pytest.fixture
async def server(lookup: FakeLookup, metrics: Metrics) -> AsyncIterator[TestClient[Any, Any]]:
    """Give a client of the running application."""
    application = AdmissionHandler(lookup, SETTINGS, metrics).build_application()
    async with TestClient(TestServer(application)) as client:
        yield client


async def review(server: TestClient[Any, Any], **request: Any) -> dict[str, Any]:
    """Post a review; return the response."""
    async with server.post("/mutate-pods", json=build_review(**request)) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        response: dict[str, Any] = (await answer.json())["response"]
        return response


def count(metrics: Metrics, result: str) -> float:
    """Return how many reviews had a result."""
    value = metrics.registry.get_sample_value("datakeys_webhook_admissions_total", {"result": result})
    return value or 0.0


async def test_pod_is_injected(server: TestClient[Any, Any], lookup: FakeLookup, metrics: Metrics) -> None:
    """The request is looked up in the pod's namespace, its secretName is mounted."""
    response = await review(server)
    assert response["allowed"]
    assert "secret-of-orders" in base64.b64decode(response["patch"]).decode()
    assert lookup.asked == [("team", ("orders",))]
    assert count(metrics, "injected") == 1
    assert b"datakeys_webhook_admission_seconds_count 1.0" in generate_latest(metrics.registry)


async def test_workload_is_stamped(
    server: TestClient[Any, Any], lookup: FakeLookup, metrics: Metrics
) -> None:
    """The second route; nothing needs to be looked up."""
    async with server.post("/mutate-workloads", json=build_workload_review()) as answer:
        response = (await answer.json())["response"]
    assert response["allowed"]
    assert "Deployment/orders" in base64.b64decode(response["patch"]).decode()
    assert lookup.asked == []
    assert count(metrics, "stamped") == 1


async def test_dry_run_is_answered_alike(server: TestClient[Any, Any]) -> None:
    """There are no side effects to leave out."""
    assert await review(server, dryRun=True) == await review(server)


async def test_unknown_request_is_a_warning(server: TestClient[Any, Any]) -> None:
    """The pod may come before its request."""
    response = await review(server, object=build_pod({"datakeys.dev/requests": "later"}))
    assert response["allowed"]
    assert "later" in response["warnings"][0]


async def test_refusal_reaches_the_user(server: TestClient[Any, Any], metrics: Metrics) -> None:
    """A refused pod is denied with 422; the HTTP status is 200."""
    response = await review(server, object=build_pod(securityContext={}))
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    assert "runAsUser" in response["status"]["message"]
    assert "patch" not in response
    assert count(metrics, "refused") == 1


async def test_no_lookup_no_pod(server: TestClient[Any, Any], lookup: FakeLookup) -> None:
    """If the API server gives no answer the pod is refused for now: fail closed."""
    lookup.error = LookupUnavailableError("the API server answers 500")
    response = await review(server)
    assert not response["allowed"]
    assert response["status"]["code"] == 503
    assert "the API server answers 500" in response["status"]["message"]


async def test_other_objects_pass(server: TestClient[Any, Any], lookup: FakeLookup, metrics: Metrics) -> None:
    """What isn't a pod's creation is allowed without a look."""
    assert await review(server, operation="UPDATE") == {"uid": "u-1", "allowed": True}
    assert lookup.asked == []
    assert count(metrics, "unchanged") == 1


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff", b"{}", b"[[[", json.dumps(build_review(uid=None)).encode()]
)
async def test_malformed_body_is_400(server: TestClient[Any, Any], metrics: Metrics, body: bytes) -> None:
    """A JSON error, and the metric counts it."""
    async with server.post("/mutate-pods", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == 400
    assert count(metrics, "malformed") == 1


async def test_huge_body_is_413(server: TestClient[Any, Any]) -> None:
    """More than any object can have isn't read."""
    async with server.post("/mutate-pods", data=io.BytesIO(b" " * (9 << 20))) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/mutate-pods", 405), ("PUT", "/mutate-workloads", 405), ("POST", "/", 404)],
)
async def test_other_routes_do_not_exist(
    server: TestClient[Any, Any], method: str, path: str, status: int
) -> None:
    """There are two routes."""
    async with server.request(method, path) as answer:
        assert answer.status == status


async def test_unforeseen_error_is_500_without_words(
    server: TestClient[Any, Any], lookup: FakeLookup, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server applies failurePolicy; neither answer nor log quotes the error."""
    lookup.error = RuntimeError("canary")
    async with server.post("/mutate-pods", json=build_review()) as answer:
        assert answer.status == 500
        assert "canary" not in await answer.text()
    assert count(metrics, "error") == 1
    assert caplog.records
    for record in caplog.records:
        assert "canary" not in JsonFormatter().format(record)


async def test_logs_name_the_decision_but_show_no_pod(
    server: TestClient[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One line per review, with names; environment variables of the pod never appear."""
    caplog.set_level(logging.DEBUG)
    container = {"name": "app", "env": [{"name": "PASSWORD", "value": "canary"}], "command": ["canary"]}
    await review(server, object=build_pod(containers=[container]))
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "datakeys.webhook"]
    (line,) = [json.loads(text) for text in lines]
    assert (line["event"], line["result"], line["namespace"]) == ("reviewed", "injected", "team")
    assert "canary" not in "".join(JsonFormatter().format(record) for record in caplog.records)


class FakeApi:
    """Counts calls; answers or fails."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def get(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a request."""
        self.calls.append((namespace, name))
        if self.error:
            raise self.error
        return {"metadata": {"name": name}, "spec": {"serviceAccountName": "app"}}


async def test_found_requests_are_remembered_for_seconds() -> None:
    """A burst of pods costs one GET; another namespace is another request."""
    api, now = FakeApi(), [0.0]
    lookup = KubernetesRequestLookup(api.get, clock=lambda: now[0])
    assert await lookup.fetch("team", ("a", "b")) == {
        "a": RequestFacts("a", "app"),
        "b": RequestFacts("b", "app"),
    }
    await lookup.fetch("team", ("a",))
    assert len(api.calls) == 2
    await lookup.fetch("other", ("a",))
    now[0] = 1.1
    await lookup.fetch("team", ("a",))
    assert len(api.calls) == 4
    assert await lookup.fetch("team", ()) == {}


async def test_missing_requests_are_not_remembered() -> None:
    """A request that is created a moment later is seen at once."""
    api = FakeApi()
    api.error = ApiException(status=404)
    lookup = KubernetesRequestLookup(api.get)
    assert await lookup.fetch("team", ("a",)) == {"a": None}
    api.error = None
    assert await lookup.fetch("team", ("a",)) == {"a": RequestFacts("a", "app")}


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ApiException(status=403), "403"),
        (ApiException(status=500), "500"),
        (MaxRetryError(None, "/", None), "reached"),  # type: ignore[arg-type]
        (TimeoutError(), "reached"),
    ],
)
async def test_failed_lookups_say_why(error: Exception, word: str) -> None:
    """Lacking rights, an error of the server, a broken connection."""
    api = FakeApi()
    api.error = error
    with pytest.raises(LookupUnavailableError, match=word):
        await KubernetesRequestLookup(api.get).fetch("team", ("a",))


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names don't make it grow for ever."""
    monkeypatch.setattr("datakeys.webhook.request_lookup._MAX_REMEMBERED", 3)
    lookup = KubernetesRequestLookup(FakeApi().get)
    for index in range(10):
        await lookup.fetch("team", (f"r{index}",))
    assert len(lookup._remembered) <= 3
