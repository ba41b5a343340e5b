"""Hostile callers of the real webhook: the API server is answered, memory stays bounded.

They come from addresses of their own, and from the API server's.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from chart_installation import named
from hostile_stage import many_open_files
from waiting import WAIT_SECONDS
from webhook_attack import POD, WebhookStage
from webhook_rig import running_webhook_process

STRANGERS: Final = [f"127.0.0.{number}" for number in range(2, 12)]
HEAD: Final = b"POST /mutate-pods HTTP/1.1\r\nHost: webhook\r\nContent-Length: 6000000\r\n\r\n"
NAMESPACE: Final = "webhook-attack"


@pytest.fixture(scope="module")
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebhookStage]:
    """Run a webhook that the API server needs."""
    core = client.CoreV1Api(api_client)
    core.create_namespace(named(NAMESPACE))
    core.create_namespaced_service_account(NAMESPACE, named("app"))
    try:
        folder = tmp_path_factory.mktemp("webhook")
        with (
            many_open_files(),
            running_webhook_process(control_plane, api_client, folder) as webhook,
        ):
            stage = WebhookStage(webhook, api_client, NAMESPACE)
            stage.admit()
            yield stage
    finally:
        core.delete_namespace(NAMESPACE)


@pytest.mark.parametrize("sources", [STRANGERS, [""]], ids=["strangers", "the API server's address"])
def test_connections_by_the_thousand_leave_room_for_the_api_server(
    stage: WebhookStage, sources: list[str]
) -> None:
    """Slow bodies, slow headers, idle ones, half handshakes, silent ones."""
    with ExitStack() as stack:
        for opening in (HEAD + b"x" * 100_000, HEAD[:50] + b"\r\nX-A: " + b"a" * 3000, b""):
            stage.hold(stack, 350, opening, sources)
            stage.admit()
        for opening in (b"\x16\x03\x01\x02\x00", b""):
            stage.hold(stack, 1200, opening, sources, securely=False)
            stage.admit()
        stage.check_unharmed()
    stage.admit()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 6_000_000, 400),
        (b"[[]," * 1_500_000, 400),
        (b'{"a":' * 30_000, 400),
        (b'["' + "\N{GRINNING FACE}".encode() + b"x" * 6_000_000 + b'"]', 400),
        (b'["ab"' + b',"ab"' * 190_000 + b"]", 400),
        (b"\xff" * 1000, 400),
        (b"{}", 400),
        (b"x" * 9_000_000, 413),
    ],
    ids=["open", "lists", "deep", "wide", "many", "no UTF-8", "no review", "too long"],
)
def test_hostile_bodies_are_refused(stage: WebhookStage, body: bytes, status: int) -> None:
    """Eight of them at once, from two addresses; never status 500."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda number: stage.post(body, source=STRANGERS[number % 2]), range(8)))
    assert status in found
    assert found <= {status, 0}
    stage.admit()
    stage.check_unharmed()


def test_body_without_a_length_ends_at_the_limit(stage: WebhookStage) -> None:
    """In chunks, of which no end is told."""
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
    assert stage.post(chunk * 12, "Transfer-Encoding: chunked\r\n") in (413, 0)
    stage.admit()
    stage.check_unharmed()


def test_pipelined_flood_is_cut(stage: WebhookStage) -> None:
    """Thousands of requests on many connections, whose answers nobody takes."""
    with ExitStack() as stack:
        for number in range(60):
            secure = stack.enter_context(stage.connect_securely(STRANGERS[number % len(STRANGERS)]))
            secure.settimeout(0.5)
            with suppress(OSError):
                secure.sendall(b"GET / HTTP/1.1\r\nHost: w\r\n\r\n" * 2000)
        stage.admit()
        stage.check_unharmed()
    stage.admit()


def build_review(number: int) -> bytes:
    """Return a review of a pod with as many requests as a pod may have, none of which exists."""
    names = ",".join(f"r{number}-{index}" for index in range(32))
    pod = {**POD, "metadata": {**POD["metadata"], "annotations": {"datakeys.dev/requests": names}}}
    request: Any = {
        "uid": "u",
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"kind": "Pod", "apiVersion": "v1", **pod},
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()


def test_flood_of_lookups_makes_the_api_server_wait_for_its_turn_only(stage: WebhookStage) -> None:
    """Genuine reviews of a stranger, of which each asks the API server 32 times."""
    with ThreadPoolExecutor(60) as pool:
        running = [pool.submit(stage.post, build_review(number)) for number in range(120)]
        for _ in range(5):
            stage.admit()
        assert {one.result(WAIT_SECONDS) for one in running} <= {200}
    stage.check_unharmed()
