"""As whom the sidecar runs, so that every container that gets data keys can read them, and no other."""

from typing import Any

import pytest

from datakeys.webhook.patches import build_injection

from .conftest import SETTINGS, Pod, apply, build_pod
from .test_refusals import refuse

OWNER, MODE, DELIVERY = "datakeys.dev/file-owner", "datakeys.dev/file-mode", "datakeys.dev/delivery"


def sidecar_of(pod: Pod) -> dict[str, Any]:
    sidecar: dict[str, Any] = apply(pod, build_injection(pod, {}, SETTINGS))["spec"]["initContainers"][0]
    return sidecar


def user_of(pod: Pod) -> int:
    user: int = sidecar_of(pod)["securityContext"]["runAsUser"]
    return user


def two_users(first: int | None, second: int | None) -> list[dict[str, Any]]:
    users = {"app": first, "helper": second}
    return [
        {"name": name, "securityContext": {} if user is None else {"runAsUser": user}}
        for name, user in users.items()
    ]


def test_unknown_user_is_refused_with_both_ways_out() -> None:
    message = refuse(build_pod(securityContext={}))
    assert message.startswith("spec.securityContext.runAsUser: ")
    assert "container app" in message
    assert OWNER in message
    assert refuse(build_pod(securityContext=None)) == message


@pytest.mark.parametrize("delivery", ["file", "socket", "init"])
def test_owner_stands_for_the_image_s_user(delivery: str) -> None:
    pod = build_pod({OWNER: "1234", DELIVERY: delivery}, securityContext={})
    assert user_of(pod) == 1234
    assert user_of(build_pod({OWNER: "0"}, securityContext={})) == 0


def test_owner_that_contradicts_the_spec_is_refused() -> None:
    message = refuse(build_pod({OWNER: "1234"}))
    assert message.startswith(f"annotation {OWNER}: is 1234, but container app runs as 10001")
    assert user_of(build_pod({OWNER: "10001"})) == 10001


@pytest.mark.parametrize(
    ("annotations", "way_out"),
    [
        ({}, "fsGroup and annotation datakeys.dev/file-mode 0440"),
        ({MODE: "0440"}, "set spec.securityContext.fsGroup"),
        ({DELIVERY: "socket"}, "use datakeys.dev/delivery file"),
    ],
)
def test_different_users_are_refused_with_a_way_out(annotations: dict[str, str], way_out: str) -> None:
    message = refuse(build_pod(annotations, containers=two_users(None, 7)))
    assert message.startswith("spec.securityContext.runAsUser: ")
    for word in ("app (10001)", "helper (7)", "datakeys.dev/containers", way_out):
        assert word in message


@pytest.mark.parametrize(
    ("mode", "context"), [("0440", {"fsGroup": 3000}), ("0444", {}), ("0444", {"fsGroup": 3000})]
)
@pytest.mark.parametrize(
    ("users", "owner", "expected"),
    [
        ((1000, 2000), None, 1000),
        ((None, None), None, 65532),
        ((None, 2000), None, 2000),
        ((0, 2000), None, 2000),
        ((0, 0), None, 65532),
        ((1000, 2000), "2000", 2000),
        ((1000, 1000), "5", 5),
    ],
)
def test_mode_for_others_lets_users_differ(
    mode: str,
    context: dict[str, int],
    users: tuple[int | None, int | None],
    owner: str | None,
    expected: int,
) -> None:
    """The sidecar is one of them, but root only if it is told so; the mode reaches the sidecar."""
    annotations = {MODE: mode, **({OWNER: owner} if owner else {})}
    pod = build_pod(annotations, containers=two_users(*users), securityContext=context)
    assert user_of(pod) == expected
    assert {"name": "DATAKEYS_FILE_MODE", "value": mode} in sidecar_of(pod)["env"]


def test_group_mode_without_a_group_still_needs_one_user() -> None:
    """Without fsGroup the files' group is the sidecar's own."""
    assert user_of(build_pod({MODE: "0440"})) == 10001
    assert refuse(build_pod({MODE: "0440"}, securityContext={})).startswith(
        "spec.securityContext.runAsUser: "
    )


def test_containers_without_keys_may_run_as_anybody() -> None:
    pod = build_pod({"datakeys.dev/containers": "app"}, containers=two_users(None, 7))
    assert user_of(pod) == 10001
