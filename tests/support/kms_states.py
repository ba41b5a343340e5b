"""The table of key states, written down once more from the specification, not taken from the service.

Zone: tests. Source: kms-semantics section 2.1.
"""

from typing import Final

STATES: Final = (
    "Enabled",
    "Disabled",
    "PendingDeletion",
    "PendingImport",
    "Unavailable",
    "Creating",
    "Updating",
)
#: Operation -> one word per state: ok, D (disabled), S (state), N (not pending deletion).
TABLE: Final = {
    **dict.fromkeys(
        [
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext",
            "Encrypt",
            "Decrypt",
            "ReEncrypt",
            "Sign",
            "Verify",
            "GenerateMac",
            "VerifyMac",
            "GetPublicKey",
        ],
        "ok D S S S S ok",
    ),
    "CreateGrant": "ok D S S ok S ok",
    **dict.fromkeys(
        [
            "DescribeKey",
            "GetKeyPolicy",
            "PutKeyPolicy",
            "ListGrants",
            "ListKeyPolicies",
            "ListResourceTags",
            "ListAliases",
            "RetireGrant",
            "RevokeGrant",
            "DeleteAlias",
            "GetKeyRotationStatus",
            "ListKeyRotations",
        ],
        "ok ok ok ok ok ok ok",
    ),
    **dict.fromkeys(("EnableKey", "DisableKey"), "ok ok S S ok S S"),
    "ScheduleKeyDeletion": "ok ok S ok ok ok S",
    "CancelKeyDeletion": "N N ok N N S S",
    **dict.fromkeys(
        ["CreateAlias", "UpdateAlias", "TagResource", "UntagResource", "UpdateKeyDescription"],
        "ok ok S ok ok ok ok",
    ),
    **dict.fromkeys(("EnableKeyRotation", "DisableKeyRotation"), "ok D S S S S ok"),
    "RotateKeyOnDemand": "ok D S S S S S",
    "GetParametersForImport": "ok ok S ok S S S",
    "ImportKeyMaterial": "ok ok S ok S S ok",
    "DeleteImportedKeyMaterial": "ok ok ok ok S S S",
}
WITHOUT_KEY: Final = {"CreateKey", "ListKeys", "GenerateRandom", "ListRetirableGrants"}
