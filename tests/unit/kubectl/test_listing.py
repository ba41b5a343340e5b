"""What the lists say, row by row."""

import json
from datetime import UTC, datetime

import pytest

from datakeys.kubectl.answers import Gap, GapKind
from datakeys.kubectl.arguments import parse_arguments
from datakeys.kubectl.listing.command import run_keys, run_requests
from datakeys.kubectl.listing.keys import build_key_items, build_key_row
from datakeys.kubectl.listing.requests import Surroundings, build_request_items, build_request_row
from datakeys.kubectl.paths import DATAKEYS, build_path
from kubectl_objects import (
    NAMESPACE,
    FakeKubectl,
    build_alias,
    build_condition,
    build_console,
    build_key,
    build_request,
    build_secret_line,
)

NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
HIDDEN = Gap(GapKind.UNSEEN, "forbidden")
WORKLOAD = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders"}


def around(**changes: object) -> Surroundings:
    """Return surroundings in which all is well."""
    values = {
        "keys": [build_key()],
        "aliases": [],
        "secrets": {NAMESPACE: frozenset({"orders"})},
        "workloads": {"Deployment": [build_request("orders")]},
        **changes,
    }
    return Surroundings(**values)  # type: ignore[arg-type]


def test_keys_come_with_their_aliases_and_requests() -> None:
    """Sorted by name; a request is counted under the key that encrypts it."""
    items = build_key_items(
        [build_key("z", None), build_key()],
        [build_alias("team", targetKeyRef={"name": "main"})],
        [build_request("a"), build_request("b"), build_request("c", ready=False, key="z")],
    )
    assert [build_key_row(item, NOW)[:6] for item in items] == [
        ["main", "Enabled", "SYMMETRIC_DEFAULT", "True", "alias/team", "2"],
        ["z", "", "SYMMETRIC_DEFAULT", "Unknown", "", "1"],
    ]


def test_key_that_will_be_destroyed_says_when() -> None:
    """The one note that matters most."""
    key = build_key(state="PendingDeletion")
    key["status"]["deletionDate"] = "2026-02-01T00:00:00Z"
    (item,) = build_key_items([key], [], [])
    assert "its material is destroyed on 2026-02-01" in build_key_row(item, NOW)


def test_requests_that_can_t_be_seen_aren_t_counted_as_none() -> None:
    """Unknown isn't zero."""
    (item,) = build_key_items([build_key()], HIDDEN, HIDDEN)
    assert item["requests"] is None
    assert build_key_row(item, NOW)[5] == "?"


def test_alias_that_failed_leads_to_no_key() -> None:
    """Another KmsAlias has its name, or the key service refuses it: what its spec says isn't so."""
    failed = build_alias("team", targetKeyRef={"name": "main"})
    failed["status"] = {"conditions": [build_condition("False", "AlreadyExistsException")]}
    (item,) = build_key_items([build_key()], [failed], [])
    assert item["aliases"] == []


def test_deleted_kms_key_is_noted() -> None:
    """The deletion can be cancelled for some days only; a key without any KmsKey is no reason to worry."""
    (item,) = build_request_items([build_request()], around(keys=[]))
    assert item["note"] == "KmsKey main is gone: apply it again, before its key is destroyed"
    by_arn = build_request()
    by_arn["spec"] |= {"keyRef": None, "keyId": by_arn["status"]["keyId"]}
    (item,) = build_request_items([by_arn], around(keys=[]))
    assert item["note"] == ""


def test_dry_run_says_how_it_went() -> None:
    """It gets no data key, so it is never ready, and it isn't waiting either."""
    request = build_request(dryRun=True)
    request["status"] = {"conditions": [{**build_condition(), "type": "DryRun"}]}
    (item,) = build_request_items([request], around())
    assert (item["ready"], item["note"]) == ("False", "a dry run: it would succeed")


def test_request_that_is_fine_has_no_note() -> None:
    """Its row holds workload, account, key and the key's state."""
    (item,) = build_request_items([build_request(workloadRef=WORKLOAD)], around())
    assert build_request_row(item, NOW) == [
        "orders", "Deployment/orders", "app", "True", "main", "Enabled", "1", "", "1m",
    ]  # fmt: skip


def test_request_whose_workload_is_gone_is_retained() -> None:
    """Nobody uses the data key, and it is kept."""
    (item,) = build_request_items([build_request(workloadRef=WORKLOAD)], around(workloads={"Deployment": []}))
    assert item["workloadGone"] is True
    assert item["note"] == "retained: its workload is gone"


def test_workloads_that_can_t_be_seen_aren_t_gone() -> None:
    """Nobody may delete a data key because of a right that he lacks."""
    (item,) = build_request_items(
        [build_request(workloadRef=WORKLOAD)], around(workloads={"Deployment": HIDDEN})
    )
    assert item["workloadGone"] is None
    assert item["note"] == ""


@pytest.mark.parametrize(("pod", "gone"), [("batch", False), ("batch-x2k4z", False), ("batcher", True)])
def test_pods_of_one_generated_name_are_one_workload(pod: str, gone: bool) -> None:
    """It is named by their prefix."""
    request = build_request("batch.pod", workloadRef={"apiVersion": "v1", "kind": "Pod", "name": "batch"})
    (item,) = build_request_items([request], around(workloads={"Pod": [build_request(pod)]}))
    assert item["workloadGone"] is gone


def test_missing_secret_of_any_version_is_noted() -> None:
    """Version 2 is in a Secret of its own."""
    (item,) = build_request_items([build_request(version=2)], around())
    assert item["secrets"] == ["orders.v2", "orders"]
    assert item["note"] == "Secret orders.v2 is missing"
    assert build_request_row(item, NOW)[6] == "2 (from 1)"


def test_request_that_isn_t_ready_says_why() -> None:
    """The reason is the KMS error's name."""
    request = build_request(ready=False)
    request["status"] = {"conditions": [build_condition("False", "DisabledException")]}
    (item,) = build_request_items([request], around(secrets=None))
    assert item["note"] == "DisabledException"
    assert item["missingSecrets"] is None


def test_lists_are_fetched_and_shown(kubectl: FakeKubectl) -> None:
    """From the command line to the table."""
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys", NAMESPACE), build_key())
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases", NAMESPACE))
    kubectl.answer_list(build_path(DATAKEYS, "datakeyrequests", NAMESPACE), build_request())
    kubectl.answer("secrets", build_secret_line("orders", "orders"))
    for words, run in ((["keys"], run_keys), (["requests"], run_requests)):
        arguments = parse_arguments(words)
        arguments.scope = NAMESPACE
        console, out = build_console()
        assert run(arguments, kubectl.cluster(), console) == 0
        header, row = out.getvalue().splitlines()
        assert header.startswith("NAME")
        assert row.split()[0] in {"main", "orders"}


def test_all_namespaces_have_a_column_of_their_own(kubectl: FakeKubectl) -> None:
    """Secrets are found by namespace and name."""
    kubectl.answer_list(build_path(DATAKEYS, "kmskeys"), build_key())
    kubectl.answer_list(build_path(DATAKEYS, "kmsaliases"))
    kubectl.answer_list(build_path(DATAKEYS, "datakeyrequests"), build_request())
    kubectl.answer("secrets", f"web {build_secret_line('orders', 'orders')}")
    arguments = parse_arguments(["requests", "-A"])
    arguments.scope = None
    console, out = build_console()
    assert run_requests(arguments, kubectl.cluster(), console) == 0
    header, row = out.getvalue().splitlines()
    assert header.startswith("NAMESPACE   NAME")
    assert row.startswith("shop        orders")
    assert "Secret orders is missing" in row


def test_empty_list_says_where_it_looked(kubectl: FakeKubectl) -> None:
    """A wrong namespace is the usual reason."""
    for plural in ("kmskeys", "kmsaliases", "datakeyrequests"):
        kubectl.answer_list(build_path(DATAKEYS, plural, NAMESPACE))
    arguments = parse_arguments(["keys"])
    arguments.scope = NAMESPACE
    console, out = build_console()
    assert run_keys(arguments, kubectl.cluster(), console) == 0
    assert out.getvalue() == "None found in namespace shop.\n"


def test_lists_for_machines_have_the_same_form_when_empty(kubectl: FakeKubectl) -> None:
    """An empty list is a list."""
    for plural in ("kmskeys", "kmsaliases", "datakeyrequests"):
        kubectl.answer_list(build_path(DATAKEYS, plural))
    arguments = parse_arguments(["requests", "-A", "-o", "json"])
    arguments.scope = None
    console, out = build_console()
    assert run_requests(arguments, kubectl.cluster(), console) == 0
    assert json.loads(out.getvalue())["items"] == []
