"""The table of key states, cell by cell, as the specification's section 2.1 prints it."""

from dataclasses import replace
from typing import Any

import pytest

from datakeys.contract.errors import KeyDisabledError, KeyStateError, KmsError
from datakeys.contract.key_types import KeyState
from keyservice_rig import Rig, account, b64, pod

STATES = ("Enabled", "Disabled", "PendingDeletion", "PendingImport", "Unavailable", "Creating", "Updating")
#: One word per state: ok, D (disabled), S (state), N (not pending deletion).
TABLE = {
    "GenerateDataKeyWithoutPlaintext": "ok D S S S S ok",
    "GenerateDataKey": "ok D S S S S ok",
    "Encrypt": "ok D S S S S ok",
    "Decrypt": "ok D S S S S ok",
    "CreateGrant": "ok D S S ok S ok",
    "DescribeKey": "ok ok ok ok ok ok ok",
    "ListGrants": "ok ok ok ok ok ok ok",
    "ListAliases": "ok ok ok ok ok ok ok",
    "RevokeGrant": "ok ok ok ok ok ok ok",
    "DeleteAlias": "ok ok ok ok ok ok ok",
    "EnableKey": "ok ok S S ok S S",
    "DisableKey": "ok ok S S ok S S",
    "ScheduleKeyDeletion": "ok ok S ok ok ok S",
    "CancelKeyDeletion": "N N ok N N S S",
    "CreateAlias": "ok ok S ok ok ok ok",
    "UpdateAlias": "ok ok S ok ok ok ok",
}
CELLS = [
    (operation, state, cell)
    for operation, row in TABLE.items()
    for state, cell in zip(STATES, row.split(), strict=True)
]
TEXTS = {
    "PendingDeletion": "is pending deletion.",
    "PendingImport": "is pending import.",
    "Unavailable": "is unavailable.",
    "Creating": "is creating.",
    "Updating": "is updating.",
}


def set_state(rig: Rig, arn: str, state: str) -> None:
    deletion_at = rig.clock() + 1000 if state == "PendingDeletion" else None
    rig.store.update_key(
        arn.rpartition("/")[2],
        lambda record: replace(record, state=KeyState(state), deletion_at=deletion_at),
    )


def prepare(rig: Rig, arn: str, operation: str) -> dict[str, Any]:
    """Return the arguments of a call that succeeds while the key is enabled."""
    grant = rig.grant(arn, "GenerateDataKey", "Encrypt")
    rig.call("CreateAlias", {"AliasName": "alias/old", "TargetKeyId": arn})
    body: dict[str, Any] = {"KeyId": arn}
    by = account() if operation in ("GenerateDataKey", "Encrypt") else None
    match operation:
        case "GenerateDataKey":
            body |= {"KeySpec": "AES_256"}
        case "GenerateDataKeyWithoutPlaintext" | "Decrypt":
            context = {
                "datakeys.dev/namespace": "team-a",
                "datakeys.dev/request": "r",
                "datakeys.dev/service-account": "app",
            }
            body |= {"EncryptionContext": context}
            if operation == "Decrypt":
                by, body["CiphertextBlob"] = pod(), rig.data_key(arn, context)
            else:
                body["KeySpec"] = "AES_256"
        case "Encrypt":
            body |= {"Plaintext": b64(b"x")}
        case "CreateGrant":
            body |= {"GranteePrincipal": "system:serviceaccount:team-a:x", "Operations": ["Decrypt"]}
        case "RevokeGrant":
            body |= {"GrantId": grant["GrantId"]}
        case "CreateAlias":
            body = {"AliasName": "alias/new", "TargetKeyId": arn}
        case "UpdateAlias":
            body = {"AliasName": "alias/old", "TargetKeyId": arn}
        case "DeleteAlias":
            body = {"AliasName": "alias/old"}
    return {"body": body, **({} if by is None else {"by": by})}


@pytest.mark.parametrize(("operation", "state", "cell"), CELLS)
def test_cell(rig: Rig, operation: str, state: str, cell: str) -> None:
    """In this state the operation succeeds, or fails with the error and text of the table."""
    arn = rig.create_key()
    arguments = prepare(rig, arn, operation)
    set_state(rig, arn, state)
    if cell == "ok":
        rig.call(operation, **arguments)
        return
    expected: type[KmsError] = KeyDisabledError if cell == "D" else KeyStateError
    with pytest.raises(expected) as caught:
        rig.call(operation, **arguments)
    text = {"D": "is disabled.", "N": "is not pending deletion."}.get(cell) or TEXTS[state]
    assert caught.value.message == f"{arn} {text}"


def test_pending_replica_deletion_forbids_everything(rig: Rig) -> None:
    """The state of multi-Region keys isn't reachable here, and lets nothing through."""
    arn = rig.create_key()
    set_state(rig, arn, "PendingReplicaDeletion")
    with pytest.raises(KeyStateError, match="pending replica deletion"):
        rig.call("DescribeKey", {"KeyId": arn})


def test_old_target_of_an_alias_may_be_pending_deletion(rig: Rig) -> None:
    """UpdateAlias looks at the new target's state only."""
    old, new = rig.create_key(), rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/x", "TargetKeyId": old})
    rig.call("ScheduleKeyDeletion", {"KeyId": old})
    rig.call("UpdateAlias", {"AliasName": "alias/x", "TargetKeyId": new})
    assert rig.call("DescribeKey", {"KeyId": "alias/x"})["KeyMetadata"]["Arn"] == new


def test_switching_an_unavailable_key_shows_no_change(rig: Rig) -> None:
    """The call succeeds, the visible state stays until the store is connected again."""
    arn = rig.create_key()
    set_state(rig, arn, "Unavailable")
    rig.call("DisableKey", {"KeyId": arn})
    assert rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["KeyState"] == "Unavailable"
