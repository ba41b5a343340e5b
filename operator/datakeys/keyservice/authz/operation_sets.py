"""Which operations the policy chain treats alike. Zone: pure.

Source: docs/architecture.md, "Who may call what"; kms-semantics section 4.4.
"""

from typing import Final

#: Everything the controller may call, always on the account in its header.
CONTROLLER_OPERATIONS: Final = frozenset(
    {
        "CreateKey",
        "DescribeKey",
        "EnableKey",
        "DisableKey",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
        "CreateAlias",
        "UpdateAlias",
        "DeleteAlias",
        "ListAliases",
        "ListKeys",
        "UpdateKeyDescription",
        "TagResource",
        "UntagResource",
        "ListResourceTags",
        "EnableKeyRotation",
        "DisableKeyRotation",
        "GetKeyRotationStatus",
        "RotateKeyOnDemand",
        "ListKeyRotations",
        "GetParametersForImport",
        "ImportKeyMaterial",
        "DeleteImportedKeyMaterial",
        "CreateGrant",
        "ListGrants",
        "RevokeGrant",
        "RetireGrant",
        "GetKeyPolicy",
        "PutKeyPolicy",
        "GenerateDataKeyWithoutPlaintext",
    }
)
#: What else it may do to a data key that is bound in its account: bring it under the newest material of the
#: same key. Everything but the ciphertext stays the same.
RENEWAL_OPERATIONS: Final = frozenset({"ReEncryptFrom", "ReEncryptTo"})
#: The controller's operations on data keys; the others manage keys.
DATA_KEY_OPERATIONS: Final = RENEWAL_OPERATIONS | {"GenerateDataKeyWithoutPlaintext"}
#: What the controller may call for an account on a key of another one, if that key's policy lets the account.
CONTROLLER_ABROAD: Final = DATA_KEY_OPERATIONS | {"DescribeKey", "CreateGrant", "ListGrants", "RevokeGrant"}
#: Operations that make ciphertext under the given context.
ENCRYPTING_OPERATIONS: Final = frozenset(
    {
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKey",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyPair",
        "Encrypt",
        "ReEncryptTo",
    }
)
#: Operations that open ciphertext under the given context.
DECRYPTING_OPERATIONS: Final = frozenset({"Decrypt", "ReEncryptFrom"})
#: Operations whose context a grant's constraints bind.
CONTEXT_OPERATIONS: Final = ENCRYPTING_OPERATIONS | DECRYPTING_OPERATIONS
#: Operations on keys of other accounts. Source: kms-semantics section 4.4.
CROSS_ACCOUNT_OPERATIONS: Final = CONTEXT_OPERATIONS | {
    "Sign",
    "Verify",
    "GenerateMac",
    "VerifyMac",
    "GetPublicKey",
    "DescribeKey",
    "CreateGrant",
    "ListGrants",
    "RetireGrant",
    "RevokeGrant",
}
