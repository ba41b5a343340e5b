"""How the tests of crashes name calls and plan deaths: a call without a name of its own would be left out."""

import json
from pathlib import Path

import pytest

from crash_points import CallLog, Moment, Passed, Point, name_call, plan_deaths, select_points
from datakeys.contract.identity import HEADER_ACCOUNT

PLACES = {"shop-1": "shop", "datakey-system": "system"}
CUSTOM = "/apis/datakeys.dev/v1alpha1"


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("POST", "/api/v1/namespaces/shop-1/secrets", "POST shop secrets"),
        ("GET", "/api/v1/namespaces/shop-1/secrets?labelSelector=a", "LIST shop secrets"),
        ("GET", "/api/v1/namespaces/shop-1/secrets?watch=true", "WATCH shop secrets"),
        ("GET", "/api/v1/namespaces/shop-1/secrets/orders", "GET shop secrets/orders"),
        ("GET", "/api/v1/namespaces/shop-1", "GET cluster namespaces/shop-1"),
        ("GET", "/api/v1/namespaces/other/secrets/orders", "GET elsewhere secrets/orders"),
        ("patch", f"{CUSTOM}/namespaces/shop-1/kmskeys/main/status", "PATCH shop kmskeys/main/status"),
        ("get", f"https://api:6443{CUSTOM}/kmskeys?watch=true", "WATCH cluster kmskeys"),
        ("GET", CUSTOM, f"GET cluster {CUSTOM}"),
        ("GET", "/api", "GET cluster /api"),
    ],
)
def test_calls_of_the_api_server_are_named_by_what_they_do_and_to_what(
    method: str, url: str, name: str
) -> None:
    assert name_call(method, url, {}, PLACES) == name


@pytest.mark.parametrize(
    ("account", "name"),
    [("shop-1", "Decrypt shop"), ("other", "Decrypt elsewhere"), (None, "Decrypt cluster")],
)
def test_calls_of_the_key_service_are_named_by_operation_and_account(account: str | None, name: str) -> None:
    headers = {"X-Amz-Target": "TrentService.Decrypt"} | ({HEADER_ACCOUNT: account} if account else {})
    assert name_call("POST", "/", headers, PLACES) == name


def point(call: str, number: int = 1, moment: Moment = Moment.BEFORE) -> Point:
    """Return a point."""
    return Point(call, number, moment)


def test_a_death_before_a_call_has_sent_nothing_and_one_after_it_is_answered(tmp_path: Path) -> None:
    create, generate = "POST shop secrets", "GenerateDataKeyWithoutPlaintext shop"
    log = CallLog(tmp_path / "calls")
    assert (log.begin(generate), log.begin(create), log.begin(create)) == (1, 1, 2)
    log.write(point(generate))
    log.write(point(generate, moment=Moment.AFTER), died=True)
    log.write(point(create), died=True)
    passed = Passed.read(tmp_path / "calls")
    assert (passed.sent(generate), passed.answered(generate)) == (1, 1)
    assert (passed.sent(create), passed.answered(create)) == (0, 0)
    assert passed.death == point(create)
    assert len(passed.of("shop")) == 3
    assert json.loads((tmp_path / "calls").read_text().splitlines()[0])["number"] == 1


def test_a_controller_that_has_called_nobody_has_passed_nothing(tmp_path: Path) -> None:
    assert Passed.read(tmp_path / "none") == Passed((), None)


def test_a_call_without_its_answer_is_under_way(tmp_path: Path) -> None:
    log = CallLog(tmp_path / "calls")
    for moment in Moment:
        log.write(Point("LIST shop secrets", 1, moment))
    assert not Passed.read(tmp_path / "calls").is_under_way("shop")
    log.write(point("POST shop secrets"))
    passed = Passed.read(tmp_path / "calls")
    assert passed.is_under_way("shop")
    assert not passed.is_under_way("system")


def test_a_line_that_has_only_begun_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    CallLog(path).write(point("LIST shop secrets"))
    line = path.read_text()
    path.write_text(line + line[:20])
    assert Passed.read(path).points == (point("LIST shop secrets"),)
    path.write_text(line + line)
    assert len(Passed.read(path).points) == 2


def test_only_points_of_every_run_count_and_no_write_shares_a_life() -> None:
    read, write, late = point("LIST shop secrets"), point("POST shop secrets"), point("GET shop x", 2)
    points = select_points([[read, write, late], [write, read]])
    assert points == (read, write)
    assert plan_deaths([read, write, late]) == ((write,), (late,), (read,))
    assert plan_deaths([write]) == ((write,),)


def test_only_repeated_reads_and_what_is_told_may_stay_away() -> None:
    assert not point("LIST shop secrets").is_uncertain
    assert point("LIST shop secrets", 2).is_uncertain
    assert point("POST shop events", 2).is_uncertain
    assert not point("POST shop secrets", 2).is_uncertain
    assert not point("GenerateDataKeyWithoutPlaintext shop", 2).is_uncertain
    assert not point("PATCH shop datakeyrequests/orders/status", 2).is_uncertain
