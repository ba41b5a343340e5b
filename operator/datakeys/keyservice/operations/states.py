"""The table of key states: which state lets which operation through, and the error of the others.

Zone: pure. Source: kms-semantics section 2.1; AWS KMS Developer Guide, "Key states of AWS KMS keys".
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from datakeys.contract.errors import KeyDisabledError, KeyStateError
from datakeys.contract.key_types import KeyState


class _Cell(Enum):
    OK = "ok"
    DISABLED = "DisabledException"
    STATE = "KMSInvalidStateException"
    NOT_PENDING = "KMSInvalidStateException: not pending deletion"


_OK, _D, _S, _N = _Cell.OK, _Cell.DISABLED, _Cell.STATE, _Cell.NOT_PENDING

_COLUMNS: Final = (
    KeyState.ENABLED,
    KeyState.DISABLED,
    KeyState.PENDING_DELETION,
    KeyState.PENDING_IMPORT,
    KeyState.UNAVAILABLE,
    KeyState.CREATING,
    KeyState.UPDATING,
)

_CRYPTO: Final = (_OK, _D, _S, _S, _S, _S, _OK)
_ALWAYS: Final = (_OK,) * 7
_SWITCH: Final = (_OK, _OK, _S, _S, _OK, _S, _S)
_ALIAS: Final = (_OK, _OK, _S, _OK, _OK, _OK, _OK)

_TABLE: Final[Mapping[str, tuple[_Cell, ...]]] = {
    **dict.fromkeys(
        (
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext",
            "Encrypt",
            "Decrypt",
            "ReEncryptFrom",
            "ReEncryptTo",
            "Sign",
            "Verify",
            "GenerateMac",
            "VerifyMac",
            "GetPublicKey",
        ),
        _CRYPTO,
    ),
    "CreateGrant": (_OK, _D, _S, _S, _OK, _S, _OK),
    **dict.fromkeys(
        (
            "DescribeKey",
            "GetKeyPolicy",
            "PutKeyPolicy",
            "ListKeyPolicies",
            "ListGrants",
            "ListResourceTags",
            "ListAliases",
            "RetireGrant",
            "RevokeGrant",
            "DeleteAlias",
            # Of keys that can rotate at all; the others are refused before their state is looked at.
            "GetKeyRotationStatus",
            "ListKeyRotations",
        ),
        _ALWAYS,
    ),
    "EnableKey": _SWITCH,
    "DisableKey": _SWITCH,
    "ScheduleKeyDeletion": (_OK, _OK, _S, _OK, _OK, _OK, _S),
    "CancelKeyDeletion": (_N, _N, _OK, _N, _N, _S, _S),
    "CreateAlias": _ALIAS,
    "UpdateAlias": _ALIAS,
    "TagResource": _ALIAS,
    "UntagResource": _ALIAS,
    "UpdateKeyDescription": _ALIAS,
    "EnableKeyRotation": (_OK, _D, _S, _S, _S, _S, _OK),
    "DisableKeyRotation": (_OK, _D, _S, _S, _S, _S, _OK),
    "RotateKeyOnDemand": (_OK, _D, _S, _S, _S, _S, _S),
    "GetParametersForImport": (_OK, _OK, _S, _OK, _S, _S, _S),
    "ImportKeyMaterial": (_OK, _OK, _S, _OK, _S, _S, _OK),
    "DeleteImportedKeyMaterial": (_OK, _OK, _OK, _OK, _S, _S, _S),
}

_TEXTS: Final = {
    KeyState.PENDING_DELETION: "is pending deletion.",
    KeyState.PENDING_IMPORT: "is pending import.",
    KeyState.UNAVAILABLE: "is unavailable.",
    KeyState.CREATING: "is creating.",
    KeyState.UPDATING: "is updating.",
    KeyState.PENDING_REPLICA_DELETION: "is pending replica deletion.",
}


def check_state(operation: str, state: KeyState, key_arn: str) -> None:
    """Check that a key's state lets an operation through.

    Raises:
        KeyDisabledError: The key is disabled, and the operation needs it enabled.
        KeyStateError: Another state forbids the operation.
    """
    if state is KeyState.PENDING_REPLICA_DELETION:
        raise KeyStateError(f"{key_arn} {_TEXTS[state]}")
    cell = _TABLE[operation][_COLUMNS.index(state)]
    if cell is _OK:
        return
    if cell is _D:
        raise KeyDisabledError(f"{key_arn} is disabled.")
    raise KeyStateError(f"{key_arn} {'is not pending deletion.' if cell is _N else _TEXTS[state]}")
