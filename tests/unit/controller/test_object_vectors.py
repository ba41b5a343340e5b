"""Requests and Secrets of former versions are read for ever, and nothing is generated for them anew."""

import base64
import json
from pathlib import Path
from typing import Any, Final

import pytest

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.controller.decisions.keys import ResolvedKey
from datakeys.controller.decisions.request_action import DoNothing, RestoreSecret, decide_request_action
from datakeys.controller.decisions.request_view import parse_request
from datakeys.controller.decisions.secret import build_secret, parse_secret

CASES: Final = json.loads((Path(__file__).parents[2] / "vectors" / "workload-objects-v1.json").read_text())[
    "cases"
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_stored_request_is_at_rest(case: dict[str, Any]) -> None:
    """With its Secrets there is nothing to do: no write, no data key."""
    request = parse_request(case["request"])
    secrets = {body["metadata"]["name"]: parse_secret(body, with_content=False) for body in case["secrets"]}
    assert decide_request_action(request, secrets, ResolvedKey(request.key_id or "")) == DoNothing()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_lost_secret_comes_back_from_a_stored_request(case: dict[str, Any]) -> None:
    """Byte for byte what it was."""
    request = parse_request(case["request"])
    secrets = {body["metadata"]["name"]: parse_secret(body, with_content=False) for body in case["secrets"]}
    for body in case["secrets"]:
        name = body["metadata"]["name"]
        others = {other: view for other, view in secrets.items() if other != name}
        action = decide_request_action(request, others, ResolvedKey(request.key_id or ""))
        assert isinstance(action, RestoreSecret)
        restored = build_secret(request, action.version)
        restored["metadata"] |= {key: body["metadata"][key] for key in ("uid", "resourceVersion")}
        assert restored == body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_stored_secret_is_what_the_sidecar_reads(case: dict[str, Any]) -> None:
    """The fields of a Secret are the sidecar's files; a field that isn't known is no reason to refuse."""
    for body in case["secrets"]:
        files = {name: base64.b64decode(value) for name, value in body["data"].items()}
        read = EncryptedDataKey.from_fields({**files, "unheardOf": b"x"})
        assert read.to_secret_data() == body["data"]
        assert read.encryption_context["datakeys.dev/request"] == "orders"


def test_status_members_that_are_not_known_are_no_reason_to_write() -> None:
    """A later controller, or a later CRD, may have added some."""
    case = CASES[1]
    body = {**case["request"], "status": {**case["request"]["status"], "unheardOf": {"a": 1}}}
    secrets = {it["metadata"]["name"]: parse_secret(it, with_content=False) for it in case["secrets"]}
    request = parse_request(body)
    assert decide_request_action(request, secrets, ResolvedKey(request.key_id or "")) == DoNothing()
