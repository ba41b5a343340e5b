"""The whole process in one event loop: start, serve over TLS, stop; against a cluster in memory."""

import asyncio
import json
import os
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.authn.cluster import PATH_ISSUER, PATH_KEYS, PATH_REVIEWS
from datakeys.keyservice.cluster_api import Answer
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.server.app import App
from datakeys.keyservice.settings import Settings
from datakeys.keyservice.store import codec
from datakeys.keyservice.store.records import AliasRecord
from datakeys.keyservice.store.root_key_provider import RootKeyError
from http_serving import until
from keyservice_rig import Clock, TokenIssuer
from ports import find_free_port


class Cluster(FakeClusterApi):
    """Objects, token reviews, and the discovery of signing keys."""

    def __init__(self) -> None:
        super().__init__()
        self.issuer = TokenIssuer(Clock(time.time()))

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer one request."""
        if path == PATH_ISSUER:
            return Answer(200, {"issuer": self.issuer.fetch_issuer()})
        if path == PATH_KEYS:
            return Answer(200, self.issuer.fetch_signing_keys())
        if path == PATH_REVIEWS:
            found = self.issuer.review(str((body or {})["spec"]["token"]), AUDIENCE)
            user = {"username": found.user_name, "uid": found.uid, "extra": dict(found.extra)}
            status = {"authenticated": True, "user": user, "audiences": [AUDIENCE]}
            return Answer(201, {"status": status})
        return super().call(method, path, query=query, body=body)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Return an empty cluster."""
    made = Cluster()
    yield made
    made.end_watches()


@pytest.fixture
def settings() -> Settings:
    """Return settings with free ports and no waiting at the end."""
    return Settings.from_environment(
        {
            "DATAKEYS_CLUSTER_NAME": "cluster-1",
            "DATAKEYS_SYSTEM_NAMESPACE": "datakey-system",
            "DATAKEYS_LISTEN": f"127.0.0.1:{find_free_port()}",
            "DATAKEYS_HEALTH_LISTEN": f"127.0.0.1:{find_free_port()}",
            "DATAKEYS_DRAIN_DELAY_SECONDS": "0",
            "DATAKEYS_DRAIN_GRACE_SECONDS": "30",
        }
    )


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def call(
    settings: Settings, cluster: Cluster, operation: str, prefix: str = "TrentService", body: str = "{}"
) -> dict[str, Any]:
    """Call an operation as the controller, verifying the certificate against the published bundle."""
    bundle = cluster.objects["configmaps", "datakeys-trust-bundle"]["data"]["ca.crt"]
    context = ssl.create_default_context(cadata=bundle)
    token = cluster.issuer.token("datakey-system", "datakeys-controller")
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {prefix}.{operation}\r\n"
        f"Authorization: Bearer {token}\r\nX-Datakeys-Account: team-a\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    )
    name = "datakeys-keyservice.datakey-system.svc"
    with (
        socket.create_connection(("127.0.0.1", settings.listen.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        secure.sendall(head.encode())
        raw = b""
        while chunk := secure.recv(65536):
            raw += chunk
    decoded: dict[str, Any] = json.loads(raw.partition(b"\r\n\r\n")[2])
    return decoded


async def wait_ready(settings: Settings, status: int = 200) -> None:
    """Wait until /readyz answers a status."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await asyncio.to_thread(get, settings.health_listen.port, "/readyz")
            except OSError:
                answer = (0, "")
            if answer[0] == status:
                return
            await asyncio.sleep(0.02)


async def test_life_of_a_process(
    settings: Settings, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """It gets ready, serves verified TLS, shows metrics, audits to stdout, and ends on SIGTERM."""
    running = asyncio.ensure_future(App(settings, cluster).run())
    await wait_ready(settings)
    answer = await asyncio.to_thread(call, settings, cluster, "CreateKey")
    assert answer["KeyMetadata"]["KeyState"] == "Enabled"
    _, metrics = await asyncio.to_thread(get, settings.health_listen.port, "/metrics")
    shown = ("cache_age_seconds", "records 1.0", "broken_records 0.0", "certificate_expiry_timestamp")
    for name in (*shown, 'scheduled_changes_total{kind="rotation"} 0.0'):
        assert f"datakeys_keyservice_{name}" in metrics
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 60) is True
    audit = [json.loads(line) for line in capfd.readouterr().out.splitlines() if "kms.audit" in line]
    assert [record["eventName"] for record in audit] == ["CreateKey"]


async def test_stop_ends_the_waiting_for_changes(settings: Settings, cluster: Cluster) -> None:
    """A caller who waits 30 seconds for a change is answered when the process is told to end."""
    app = App(settings, cluster)
    running = asyncio.ensure_future(app.run())
    await wait_ready(settings)

    async def watch(cursor: str) -> dict[str, Any]:
        body = json.dumps({"Cursor": cursor})
        return await asyncio.to_thread(call, settings, cluster, "WatchKeys", "DatakeysController", body)

    first = await watch("")
    waiting = asyncio.ensure_future(watch(first["Cursor"]))
    await until(lambda: bool(app._changes._waiters))
    assert not waiting.done()
    app._stopping.set()
    answer = await asyncio.wait_for(waiting, 20)
    assert (answer["Keys"], answer["Resync"]) == ([], False)
    assert await asyncio.wait_for(running, 60) is True


async def test_start_waits_for_the_cluster(settings: Settings, cluster: Cluster) -> None:
    """Alive but not ready while the cluster is away; ready when it comes."""
    cluster.reachable = False
    app = App(settings, cluster)
    running = asyncio.ensure_future(app.run())
    await wait_ready(settings, 503)
    assert (await asyncio.to_thread(get, settings.health_listen.port, "/healthz"))[0] == 200
    cluster.reachable = True
    await wait_ready(settings)
    app._stopping.set()
    assert await asyncio.wait_for(running, 60) is True


async def test_stop_while_waiting(settings: Settings, cluster: Cluster) -> None:
    """SIGTERM before the start is over ends the process at once."""
    cluster.reachable = False
    app = App(settings, cluster)
    running = asyncio.ensure_future(app.run())
    await wait_ready(settings, 503)
    app._stopping.set()
    assert await asyncio.wait_for(running, 60) is True


async def test_refuses_a_wrong_root_key(settings: Settings, cluster: Cluster) -> None:
    """Records that the root key doesn't open stop the start."""
    alias = AliasRecord("team-a", "alias/x", "00112233-4455-4677-8899-aabbccddeeff", 1, 1)
    secret = codec.encode(RootKey(b"r" * 32), alias, "datakey-system")
    cluster.call("POST", "/api/v1/namespaces/datakey-system/secrets", body=secret)
    with pytest.raises(RootKeyError):
        await asyncio.wait_for(App(settings, cluster).run(), 60)


async def test_failed_background_task_ends_the_process(settings: Settings, cluster: Cluster) -> None:
    """Without its tasks the service isn't right any more: it stops, and says so by its exit code."""
    app = App(settings, cluster)
    running = asyncio.ensure_future(app.run())
    await wait_ready(settings)

    async def fail() -> None:
        raise DependencyTimeoutError("x")

    task = asyncio.ensure_future(fail())
    task.add_done_callback(app._note_end)
    assert await asyncio.wait_for(running, 60) is False
