"""Every constraint of every input member, broken one at a time, as the AWS service model lists them.

The base is a good request of the case table. The answer must be the error that names the member, whatever
else is true of the request, and nothing may have happened.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final

import pytest

from datakeys.keyservice.operations.table import VERBS
from kms_cases import CASES, UNUSED_INPUTS
from kms_endpoint import LocalKms, RawConnection
from kms_model import (
    SERIALIZATION,
    Cell,
    break_request,
    constraint_cells,
    input_members,
    operation_names,
    to_wire,
)

SERVED: Final = sorted(set(VERBS) & set(operation_names()))
CELLS: Final = [cell for operation in SERVED for cell in constraint_cells(operation)]
#: Cells whose answer differs from the plain rule: (operation, top member or "*", rule) -> codes, reason.
EXCEPTIONS: Final[Mapping[tuple[str, str, str], tuple[tuple[str, ...], str]]] = {
    ("Decrypt", "CiphertextBlob", "missing"): (("ValidationException",), "required but for a dry run"),
}
#: Members that this service refuses as such, so that what they hold is not looked at.
REFUSED: Final = frozenset(UNUSED_INPUTS) - {("ListKeyPolicies", "Marker")}
_REFUSALS: Final = ("ValidationException", "UnsupportedOperationException", SERIALIZATION)


def build_good_request(client: Any, operation: str) -> dict[str, Any]:
    """Return the JSON of a request that succeeds."""
    case = next(case for case in CASES[operation] if not case.error)
    return to_wire(operation, case.build(lambda name, **given: client._make_api_call(name, given)))


@pytest.fixture(scope="module")
def good_request(client: Any) -> Callable[[str], dict[str, Any]]:
    """Return what finds an operation's good request; each is made once."""
    return cache(partial(build_good_request, client))


def lower_camel(name: str) -> str:
    """Return a member's name as validation messages write it."""
    return name[0].lower() + name[1:]


def names_member(text: str, cell: Cell) -> bool:
    """Return whether the text names the member, or for a nested one any of its steps."""
    steps = [step for step in cell.path if isinstance(step, str)]
    return any(step in text or lower_camel(step) in text for step in steps)


@pytest.mark.parametrize("cell", CELLS, ids=[cell.id for cell in CELLS])
def test_broken_constraint(
    good_request: Callable[[str], dict[str, Any]], raw: RawConnection, cell: Cell
) -> None:
    """A broken constraint gives the error that names the member, a wrong type a SerializationException."""
    body = break_request(good_request(cell.operation), cell)
    answer = raw.post(cell.operation, body)
    if cell.rule == "too long" and cell.path[-1] == "AttestationDocument":
        # Longer than any body that is read.
        assert (answer.status, answer.code) == (413, "RequestEntityTooLargeException")
        return
    codes, _ = EXCEPTIONS.get((cell.operation, str(cell.path[0]), cell.rule), ((cell.code,), ""))
    if (cell.operation, cell.path[0]) in REFUSED:
        codes = _REFUSALS
    assert answer.code in codes, answer.raw
    assert answer.status == 400
    head, _, failures = answer.message.rpartition(" detected: ")
    if answer.code == "ValidationException":
        # A text that is too short can break a pattern too.
        assert head in ("1 validation error", "2 validation errors"), answer.message
    assert all(names_member(part, cell) for part in failures.split("; Value")), answer.message


@pytest.mark.parametrize("operation", SERVED)
def test_unknown_members_are_ignored(client: Any, raw: RawConnection, operation: str) -> None:
    """A member that the model doesn't know changes nothing; null is the same as absent."""
    body = {**build_good_request(client, operation), "NoSuchMember": {"x": [1]}, "keyId": 7}
    for name in input_members(operation):
        body.setdefault(name, None)
    assert raw.post(operation, body).status == 200


@pytest.mark.parametrize("operation", SERVED)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b"\xff", b'"x"', b'{"a":NaN}', b"{}{}"])
def test_what_is_no_object(raw: RawConnection, operation: str, body: bytes) -> None:
    """A body that isn't a JSON object is a SerializationException; an empty one is an empty object."""
    answer = raw.post(operation, body)
    if body:
        assert answer.code == SERIALIZATION
    else:
        assert answer.status == 200 or answer.code == "ValidationException"


@pytest.mark.parametrize("days", [6, 31])
def test_deletion_window_is_seven_to_thirty_days(local_kms: LocalKms, raw: RawConnection, days: int) -> None:
    """The model's shape allows more than the service does."""
    client = local_kms.client()
    arn = client.create_key()["KeyMetadata"]["Arn"]
    answer = raw.post("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": days})
    assert answer.code == "ValidationException"
    assert "pendingWindowInDays" in answer.message
    assert client.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Enabled"
    client.close()


def test_failures_are_collected(raw: RawConnection) -> None:
    """All broken constraints are in one message, with their count."""
    body = {"KeyId": "", "KeySpec": "x", "NumberOfBytes": 0}
    answer = raw.post("GenerateDataKeyWithoutPlaintext", body)
    assert answer.code == "ValidationException"
    assert answer.message.startswith("3 validation errors detected: ")
    assert answer.message.count("; ") == 2
    assert [name in answer.message for name in ("'keyId'", "'keySpec'", "'numberOfBytes'")] == [True] * 3
