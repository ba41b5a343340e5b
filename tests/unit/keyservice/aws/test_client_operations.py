"""boto3 as the real client: every operation succeeds, and its answer is what the AWS service model says."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from datakeys.keyservice.operations.table import VERBS
from kms_cases import CASES, UNUSED_INPUTS, UNUSED_OUTPUTS, Case
from kms_model import (
    REQUIRED_OPERATIONS,
    allowed_errors,
    check_output,
    input_members,
    operation_names,
    output_members,
)

SERVED = sorted(set(VERBS) & set(operation_names()))
ALL_CASES = [case for operation in SERVED for case in CASES.get(operation, [])]


class Recorder:
    """Calls operations through boto3 and keeps the JSON of the last answer."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.last: dict[str, Any] = {}
        client.meta.events.register("before-parse.kms", self._keep, unique_id="recorder")

    def _keep(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        self.last = json.loads(response_dict["body"] or b"{}")

    def __call__(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation as boto3's methods do."""
        answer: dict[str, Any] = self._client._make_api_call(operation, members)
        return answer


@pytest.fixture(scope="module")
def kms(client: Any) -> Recorder:
    """Return a caller of operations."""
    return Recorder(client)


@pytest.mark.parametrize("case", ALL_CASES, ids=[case.id for case in ALL_CASES])
def test_success_fits_the_model(kms: Recorder, case: Case) -> None:
    """The operation succeeds; all members of its answer are known and within the model's constraints."""
    members = case.build(kms)
    if case.error:
        with pytest.raises(ClientError) as caught:
            kms(case.operation, **members)
        assert caught.value.response["Error"]["Code"] == case.error
        assert case.error in allowed_errors(case.operation)
        return
    answer = kms(case.operation, **members)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    assert check_output(case.operation, kms.last) == []


@pytest.mark.parametrize("operation", SERVED)
def test_every_member_is_used(kms: Recorder, operation: str) -> None:
    """Each input member occurs in a case and each output member in an answer, or the table says why not."""
    sent: set[str] = set()
    got: set[str] = set()
    for case in CASES[operation]:
        members = case.build(kms)
        sent |= members.keys()
        if not case.error:
            kms(operation, **members)
            got |= kms.last.keys()
    unused = {name for name in input_members(operation) if (operation, name) in UNUSED_INPUTS}
    absent = {name for name in output_members(operation) if (operation, name) in UNUSED_OUTPUTS}
    assert sent | unused == set(input_members(operation))
    assert not sent & unused
    assert got | absent == set(output_members(operation))
    assert not got & absent


@pytest.mark.parametrize("operation", sorted(set(operation_names()) - set(VERBS)))
def test_other_operations_are_unknown(kms: Recorder, operation: str) -> None:
    """What isn't served is refused by name, never a server fault."""
    assert operation not in REQUIRED_OPERATIONS, "asked for, but not served yet"
    members = {name: _any_value(shape) for name, shape in input_members(operation).items()}
    with pytest.raises(ClientError) as caught:
        kms(operation, **members)
    assert caught.value.response["Error"]["Code"] in (
        "UnknownOperationException",
        "UnsupportedOperationException",
    )


def _any_value(shape: Any) -> Any:
    low = shape.metadata.get("min") or 1
    match shape.type_name:
        case "string":
            return shape.enum[0] if shape.enum else "a" * low
        case "integer":
            return low
        case "boolean":
            return False
        case "blob":
            return b"x" * low
        case "list":
            return [_any_value(shape.member)]
        case "structure":
            return {name: _any_value(member) for name, member in shape.members.items()}
    return {}


@pytest.mark.parametrize("operation", sorted(REQUIRED_OPERATIONS))
def test_required_operation_is_served_and_tested(operation: str) -> None:
    """Every operation that the project promises exists and has cases."""
    assert operation in VERBS
    assert CASES[operation]
