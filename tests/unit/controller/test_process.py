"""Settings, logs, health and Events: the edges of the process."""

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from controller_fakes import NAMESPACE, NOW, FakeApi, FakeCluster
from datakeys.contract.environment import Address
from datakeys.controller import json_logs, metrics
from datakeys.controller.health import Health, start_health_server
from datakeys.controller.kube.api import EVENTS
from datakeys.controller.kube.errors import UnavailableError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject, build_event
from datakeys.controller.settings import Settings

ENVIRONMENT = {"DATAKEYS_SYSTEM_NAMESPACE": "sys", "DATAKEYS_CLUSTER_NAME": "c"}
SUBJECT = Subject("DataKeyRequest", NAMESPACE, "orders", "u1")


def test_defaults_fit_the_chart() -> None:
    """Two variables are enough in a pod of the chart."""
    settings = Settings.from_environment(ENVIRONMENT)
    assert settings.keyservice_url == "https://datakeys-keyservice.sys.svc:443"
    assert str(settings.token_file) == "/var/run/datakeys/token/token"
    assert (settings.concurrency, settings.leader_election, settings.log_level) == (32, True, "INFO")
    assert settings.identity


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATAKEYS_SYSTEM_NAMESPACE", ""),
        ("DATAKEYS_CLUSTER_NAME", ""),
        ("DATAKEYS_CONCURRENCY", "0"),
        ("DATAKEYS_CONCURRENCY", "many"),
        ("DATAKEYS_LEADER_ELECTION", "maybe"),
        ("DATAKEYS_HEALTH_LISTEN", "9443"),
    ],
)
def test_bad_setting_is_named(variable: str, value: str) -> None:
    """A missing or malformed variable is named in the error."""
    with pytest.raises(ValueError, match=variable):
        Settings.from_environment({**ENVIRONMENT, variable: value})


def test_settings_are_read() -> None:
    """Every kind of value can be set."""
    settings = Settings.from_environment(
        {
            **ENVIRONMENT,
            "DATAKEYS_CONCURRENCY": "4",
            "DATAKEYS_LEADER_ELECTION": "False",
            "DATAKEYS_LOG_LEVEL": "debug",
            "DATAKEYS_IDENTITY": "me",
            "DATAKEYS_EXCLUDED_NAMESPACES": "kube-system,legacy",
            "DATAKEYS_EVICT_UNINJECTED": "true",
        }
    )
    assert settings.excluded_namespaces == {"kube-system", "legacy", settings.system_namespace}
    assert settings.evict_uninjected
    assert (settings.concurrency, settings.leader_election) == (4, False)
    assert (settings.log_level, settings.identity) == ("DEBUG", "me")


def format_record(**extra: Any) -> dict[str, Any]:
    """Return a log line as it is written."""
    record = logging.LogRecord("datakeys.x", logging.INFO, __file__, 1, "event", (), None)
    record.__dict__.update(extra)
    return dict(json.loads(json_logs.build_formatter().format(record)))


def test_log_lines_have_allowed_fields_only() -> None:
    """What a framework attaches to a record, such as an object, never reaches the log."""
    line = format_record(namespace="shop", reason="Issued", settings=object(), body={"data": "x"}, spec="y")
    assert set(line) == {"time", "level", "logger", "message", "namespace", "reason"}
    assert (line["level"], line["message"]) == ("INFO", "event")


def test_debug_is_for_own_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """At DEBUG the frameworks stay at INFO or above: below it they print bodies."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    monkeypatch.setattr(root, "handlers", [])
    try:
        json_logs.configure_logging("DEBUG")
        assert logging.getLogger("datakeys.controller").isEnabledFor(logging.DEBUG)
        for name in ("kopf", "kopf.objects", "aiohttp.client", "kubernetes", "asyncio"):
            assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("kopf.objects").isEnabledFor(logging.INFO)
    finally:
        root.level = before[1]
        for name in ("datakeys", "kopf", "kopf.objects", "aiohttp", "kubernetes", "asyncio"):
            logging.getLogger(name).setLevel(logging.NOTSET)


async def test_health_server() -> None:
    """Liveness answers at once, readiness when told, metrics have this project's names only."""
    health = Health()
    server = await start_health_server(Address("127.0.0.1", 0), health)
    host, port = server.addresses[0][:2]
    base = f"http://{host}:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            for path, status in (("/healthz", 200), ("/readyz", 503)):
                async with session.get(base + path) as answer:
                    assert answer.status == status
            health.ready.set()
            async with session.get(base + "/readyz") as answer:
                assert answer.status == 200
            async with session.get(base + "/metrics") as answer:
                text = await answer.text()
    finally:
        await server.cleanup()
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith("datakeys_") for name in names)


def test_event_is_about_its_object() -> None:
    """An Event names the object and its reason; warnings are warnings."""
    event = build_event(SUBJECT, EventReason.CONFLICT, "n" * 2000, instance="one", now=NOW)
    assert event["regarding"]["uid"] == "u1"
    assert (event["reason"], event["type"]) == ("Conflict", "Warning")
    assert len(event["note"]) == 1024
    assert event["metadata"]["name"].startswith("orders.")
    assert build_event(SUBJECT, EventReason.ISSUED, "", instance="one", now=NOW)["type"] == "Normal"


def test_event_that_is_told_once_has_one_name() -> None:
    """Another leader builds the same name, so that the API server refuses the second; others differ."""
    pod = Subject("Pod", "shop", "orders", "u1", "v1")

    def name(subject: Subject, reason: EventReason, *, once: bool) -> str:
        event = build_event(subject, reason, "", instance="any", now=NOW, once=once)
        assert event["regarding"]["apiVersion"] == "v1"
        return str(event["metadata"]["name"])

    first = name(pod, EventReason.NOT_INJECTED, once=True)
    assert first == name(pod, EventReason.NOT_INJECTED, once=True)
    others = {
        name(pod, EventReason.EVICTION_STOPPED, once=True),
        name(replace(pod, uid="u2"), EventReason.NOT_INJECTED, once=True),
        name(pod, EventReason.NOT_INJECTED, once=False),
        name(pod, EventReason.NOT_INJECTED, once=False),
    }
    assert len(others | {first}) == 5


async def test_events_are_posted_at_a_bounded_rate() -> None:
    """A flood of Events is cut after the burst, what is well after a part of it; the rest is counted."""
    cluster, now = FakeCluster(), [0.0]
    untyped: Any = FakeApi(cluster)
    recorder = EventRecorder(untyped, instance="one", events_per_second=2, clock=lambda: now[0])
    dropped = metrics.EVENTS_DROPPED._value.get()
    task = asyncio.create_task(recorder.run())
    for reason, number in ((EventReason.ISSUED, 80), (EventReason.CONFLICT, 120)):
        for _ in range(number):
            recorder.record(SUBJECT, reason, "")
            await asyncio.sleep(0)
    now[0] = 1.0
    for _ in range(5):
        recorder.record(SUBJECT, EventReason.CONFLICT, "")
        await asyncio.sleep(0)
    for _ in range(300):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    posted = [event["reason"] for _, plural, _, event in cluster.history if plural == EVENTS.plural]
    assert (posted.count("Issued"), posted.count("Conflict")) == (75, 25 + 2)
    assert metrics.EVENTS_DROPPED._value.get() - dropped == 103


async def test_event_that_cannot_be_posted_is_let_go() -> None:
    """An unavailable API costs an Event, nothing more."""

    async def fail(_: str) -> None:
        raise UnavailableError(0, "Unavailable", "x")

    untyped: Any = FakeApi(FakeCluster(), before=fail)
    recorder = EventRecorder(untyped, instance="one", events_per_second=2)
    task = asyncio.create_task(recorder.run())
    recorder.record(SUBJECT, EventReason.ISSUED, "")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
