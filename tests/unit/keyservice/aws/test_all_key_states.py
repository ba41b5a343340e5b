"""The table of key states for every operation with a key: the good request of the case table, in each state.

The table is written down here once more, from the specification's section 2.1, not taken from the service.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest
from botocore.parsers import create_parser

from datakeys.contract.errors import KeyDisabledError, KeyStateError, KmsError
from datakeys.contract.key_types import KeyState
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.operations.table import VERBS
from keyservice_rig import Rig
from kms_cases import CASES
from kms_endpoint import ACCOUNT, REGION
from kms_model import operation_model, operation_names, to_wire
from kms_states import STATES, TABLE, WITHOUT_KEY

CELLS: Final = [
    (operation, state, cell)
    for operation, row in TABLE.items()
    for state, cell in zip(STATES, row.split(), strict=True)
]
TEXTS: Final = {
    "PendingDeletion": "is pending deletion.",
    "PendingImport": "is pending import.",
    "Unavailable": "is unavailable.",
    "Creating": "is creating.",
    "Updating": "is updating.",
}


class RootRig(Rig):
    """The operations as the local mode's root calls them, in and out as a client spells members."""

    def __post_init__(self) -> None:
        """Speak as AWS does."""
        super().__post_init__()
        self.service = replace(self.service, realm=Realm(REGION, "aws"))
        self.root = Principal(PrincipalKind.ACCOUNT_ROOT, ACCOUNT, "", arn=f"arn:aws:iam::{ACCOUNT}:root")

    def kms(self, operation: str, **members: Any) -> dict[str, Any]:
        """Call an operation."""
        answer = self.call(operation, to_wire(operation, members), by=self.root)
        shape = operation_model(operation).output_shape
        raw = {"status_code": 200, "headers": {}, "body": json.dumps(answer).encode()}
        return dict(create_parser("json").parse(raw, shape))


@pytest.fixture
def root() -> RootRig:
    """Return the operations."""
    return RootRig()


@pytest.mark.parametrize(("operation", "state", "cell"), CELLS)
def test_cell(root: RootRig, operation: str, state: str, cell: str) -> None:
    """In this state the operation succeeds, or fails with the error and text of the table."""
    case = next(case for case in CASES[operation] if not case.error)
    members = case.build(root.kms)
    arns = set_states(root, state)
    outcome: Callable[[], Any] = partial(root.kms, operation, **members)
    if cell == "ok":
        outcome()
        return
    expected: type[KmsError] = KeyDisabledError if cell == "D" else KeyStateError
    with pytest.raises(expected) as caught:
        outcome()
    text = {"D": "is disabled.", "N": "is not pending deletion."}.get(cell) or TEXTS[state]
    assert caught.value.message in {f"{arn} {text}" for arn in arns}


def set_states(root: RootRig, state: str) -> set[str]:
    """Put every key there is into a state; return the keys' ARNs."""
    deletion_at = root.clock() + 1000 if state == "PendingDeletion" else None
    arns = set()
    for key in root.kms("ListKeys")["Keys"]:
        root.store.update_key(
            key["KeyId"], lambda record: replace(record, state=KeyState(state), deletion_at=deletion_at)
        )
        arns.add(key["KeyArn"])
    return arns


def test_every_operation_has_its_row() -> None:
    """No operation is left out of the table but those that have no key."""
    assert set(TABLE) == (set(VERBS) & set(operation_names())) - WITHOUT_KEY
