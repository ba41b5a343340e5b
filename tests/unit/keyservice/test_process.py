"""The edges of the process: settings, logs, dumps, health, the API client's line splitting."""

import ctypes
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from datakeys.contract.environment import Address
from datakeys.keyservice import cluster_api
from datakeys.keyservice.process import JsonFormatter, configure_logging
from datakeys.keyservice.server.health import Health
from datakeys.keyservice.server.http import HttpRequest
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.settings import Settings

OPERATOR = Path(__file__).parents[3] / "operator"
REQUIRED = {"DATAKEYS_CLUSTER_NAME": "c", "DATAKEYS_SYSTEM_NAMESPACE": "s"}


def test_defaults() -> None:
    """Only cluster name and namespace must be given."""
    settings = Settings.from_environment(REQUIRED)
    assert settings.controller_service_account == "datakeys-controller"
    assert settings.token_cache_seconds == 10
    assert settings.listen == Address("0.0.0.0", 8443)  # noqa: S104
    assert settings.health_listen == Address("0.0.0.0", 9443)  # noqa: S104
    assert settings.log_level == "INFO"


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_missing(missing: str) -> None:
    """The error names the variable."""
    with pytest.raises(ValueError, match=missing):
        Settings.from_environment({name: value for name, value in REQUIRED.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_CACHE_SECONDS", "x"),
        ("TOKEN_CACHE_SECONDS", "-1"),
        ("TOKEN_CACHE_SECONDS", "nan"),
        ("LEAF_SECONDS", "x"),
        ("LEAF_SECONDS", "400000000"),
        ("CA_OVERLAP_SECONDS", "inf"),
        ("CA_SECONDS", "nan"),
        ("WEBHOOK_CERTIFICATE", "maybe"),
        ("LISTEN", "8443"),
        ("LISTEN", "a:b"),
        ("RATE_QUOTA_FACTOR", "much"),
        ("CALLER_ADDRESS", "No"),
    ],
)
def test_malformed(name: str, value: str) -> None:
    """A value that makes no sense stops the start; the error names the variable."""
    with pytest.raises(ValueError, match=name):
        Settings.from_environment({**REQUIRED, f"DATAKEYS_{name}": value})


def test_lifetimes_of_certificates() -> None:
    """Years and weeks usually; an operator may want hours, and somebody else may make the webhook's."""
    usual = Settings.from_environment(REQUIRED)
    day = 86_400
    assert (usual.lifetimes.ca, usual.lifetimes.leaf, usual.lifetimes.overlap) == (
        3650 * day,
        90 * day,
        7 * day,
    )
    assert usual.webhook_certificate
    names = {"DATAKEYS_CA_SECONDS": "600", "DATAKEYS_LEAF_SECONDS": "90", "DATAKEYS_CA_OVERLAP_SECONDS": "60"}
    asked = Settings.from_environment({**REQUIRED, **names, "DATAKEYS_WEBHOOK_CERTIFICATE": "false"})
    assert (asked.lifetimes.ca, asked.lifetimes.leaf, asked.lifetimes.overlap) == (600, 90, 60)
    assert not asked.webhook_certificate


def test_log_line() -> None:
    """One JSON object with the extra fields; an exception shows type and place, not its text."""
    try:
        raise ValueError("CANARY")  # noqa: TRY301
    except ValueError:
        record = logging.makeLogRecord(
            {"msg": "event", "levelname": "ERROR", "exc_info": sys.exc_info(), "key_id": "k", "odd": {1}}
        )
    line = JsonFormatter().format(record)
    fields = json.loads(line)
    assert (fields["event"], fields["key_id"], fields["error_type"]) == ("event", "k", "ValueError")
    assert "test_process.py" in fields["frames"][0]
    assert "CANARY" not in line


def test_libraries_stay_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """At DEBUG the HTTP client's logger, which prints requests, stays at WARNING."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    configure_logging("DEBUG")
    assert logging.getLogger("urllib3.connectionpool").getEffectiveLevel() == logging.WARNING


def test_no_dumps() -> None:
    """After the start the process is undumpable, and core files have no room."""
    code = (
        "import resource, ctypes; from datakeys.keyservice.process import forbid_dumps; forbid_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    shown = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(OPERATOR)}, text=True
    )
    assert shown.split() == ["0", "0"]
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1


def test_soft_limit_of_open_files_is_raised_as_far_as_it_may() -> None:
    """1,024 files, as many runtimes give, would be fewer than the connections that the server admits."""
    code = (
        "import resource; from datakeys.keyservice.process import allow_open_files;"
        "kind = resource.RLIMIT_NOFILE;"
        "resource.setrlimit(kind, (256, 2048)); allow_open_files(); print(*resource.getrlimit(kind));"
        "resource.setrlimit(kind, (64, 128)); allow_open_files(); print(*resource.getrlimit(kind))"
    )
    shown = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(OPERATOR)}, text=True
    )
    assert shown.split() == ["2048", "2048", "128", "128"]


def test_bad_settings_stop_the_start() -> None:
    """The process ends with code 2 and says which variable is missing."""
    ended = subprocess.run(
        [sys.executable, "-m", "datakeys.keyservice"],
        env={"PYTHONPATH": str(OPERATOR)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "DATAKEYS_CLUSTER_NAME" in ended.stderr


@pytest.mark.parametrize(
    ("method", "target", "ready", "status"),
    [
        ("GET", b"/healthz", False, 200),
        ("GET", b"/readyz", False, 503),
        ("GET", b"/readyz?verbose", True, 200),
        ("HEAD", b"/readyz", True, 200),
        ("GET", b"/metrics", False, 200),
        ("GET", b"/", True, 404),
        ("POST", b"/healthz", True, 405),
    ],
)
def test_health(method: str, target: bytes, *, ready: bool, status: int) -> None:
    """Alive from the start, ready only when told."""
    health = Health(RequestMetrics())
    health.ready = ready
    assert health.handle(HttpRequest(method, target, {}, b"", "")).status == status


@pytest.mark.parametrize(
    "chunks",
    [[b'{"a":1}\n{"a":2}\n'], [b'{"a"', b':1}\n{"a":2', b"}\n"], [b'{"a":1}\n\n', b'{"a":2}\n', b'{"a']],
)
def test_events_are_split_at_line_ends(chunks: list[bytes]) -> None:
    """However the bytes arrive, whole lines are events."""
    assert list(cluster_api._split_events(iter(chunks))) == [{"a": 1}, {"a": 2}]


def test_endless_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that never ends doesn't fill the memory."""
    monkeypatch.setattr(cluster_api, "_MAX_EVENT_BYTES", 10)
    with pytest.raises(ValueError, match="too long"):
        list(cluster_api._split_events(iter([b"x" * 11])))
