"""Delivery, lifetime and modes: what the sidecar is told, and which combinations are refused."""

from typing import Any

import pytest

from datakeys.webhook.patches import build_injection

from .conftest import SETTINGS, Pod, apply, build_pod
from .test_refusals import refuse

PREFIX = "datakeys.dev/"


def annotated(**values: str) -> dict[str, str]:
    return {PREFIX + name.replace("_", "-"): value for name, value in values.items()}


def inject(pod: Pod) -> dict[str, Any]:
    sidecar: dict[str, Any] = apply(pod, build_injection(pod, {}, SETTINGS))["spec"]["initContainers"][0]
    return sidecar


def environment_of(pod: Pod) -> dict[str, str]:
    return {one["name"]: one["value"] for one in inject(pod)["env"]}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("8h", 28800),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("720h", 2592000),
    ],
)
def test_ttl_reaches_the_sidecar_in_seconds(text: str, seconds: int) -> None:
    assert environment_of(build_pod(annotated(ttl=text)))["DATAKEYS_TTL_SECONDS"] == str(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0s",
        "90",
        "1d",
        "1.5h",
        "-1s",
        "1m1h",
        "1h 30m",
        "721h",
        "2592001s",
        "9" * 5000 + "s",
        "\uff11s",
        "s",
    ],
)
def test_bad_ttl_is_named(text: str) -> None:
    message = refuse(build_pod(annotated(ttl=text)))
    assert message.startswith("annotation datakeys.dev/ttl: ")
    assert "15m" in message


def test_reads_once_reaches_the_sidecar() -> None:
    assert environment_of(build_pod(annotated(reads="once")))["DATAKEYS_READS"] == "once"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("reads", "twice"),
        ("reads", ""),
        ("reads", "1"),
        ("file-mode", "400"),
        ("file-mode", "0600"),
        ("file-mode", ""),
        ("file-owner", "root"),
        ("file-owner", "-1"),
        ("file-owner", ""),
        ("file-owner", "2147483648"),
        ("file-owner", "\u0664"),
        ("file-owner", "9" * 5000),
    ],
)
def test_bad_annotation_is_named(annotation: str, value: str) -> None:
    assert refuse(build_pod({PREFIX + annotation: value})).startswith(
        f"annotation {PREFIX}{annotation}: must"
    )


def test_defaults_are_left_out() -> None:
    """A pod without these annotations is injected as ever."""
    assert set(environment_of(build_pod())) == {
        "DATAKEYS_REQUESTS",
        "DATAKEYS_DELIVERY",
        "DATAKEYS_KEYSERVICE_URL",
        "DATAKEYS_KEYSERVICE_CA_FILE",
        "DATAKEYS_TOKEN_FILE",
    }
    assert environment_of(build_pod(annotated(file_mode="0400"))) == environment_of(build_pod())


def test_init_is_an_ordinary_init_container_before_all_others() -> None:
    """It ends when every key is delivered; nothing of it stays."""
    pod = build_pod(annotated(delivery="init"), initContainers=[{"name": "migrate"}])
    patched = apply(pod, build_injection(pod, {}, SETTINGS))
    first, second = patched["spec"]["initContainers"]
    assert (first["name"], second["name"]) == ("datakeys-sidecar", "migrate")
    assert not {"restartPolicy", "startupProbe", "lifecycle"} & set(first)
    assert first["command"][-1] == "run"
    assert {"name": "DATAKEYS_DELIVERY", "value": "init"} in first["env"]
    assert build_injection(patched, {}, SETTINGS).patch == ()


@pytest.mark.parametrize(
    ("annotations", "named"),
    [
        (annotated(delivery="init", ttl="1h"), "ttl"),
        (annotated(delivery="init", reads="once"), "reads"),
        (annotated(delivery="init", aws_endpoint="true"), "aws-endpoint"),
        (annotated(delivery="socket", file_mode="0444"), "file-mode"),
    ],
)
def test_what_does_not_go_together_is_refused(annotations: dict[str, str], named: str) -> None:
    assert refuse(build_pod(annotations)).startswith(f"annotation {PREFIX}{named}: ")


@pytest.mark.parametrize("delivery", ["file", "socket"])
def test_lifetime_goes_with_every_delivery_that_stays(delivery: str) -> None:
    environment = environment_of(build_pod(annotated(delivery=delivery, ttl="1h", reads="once")))
    assert environment["DATAKEYS_DELIVERY"] == delivery
    assert {"DATAKEYS_TTL_SECONDS", "DATAKEYS_READS"} <= set(environment)
