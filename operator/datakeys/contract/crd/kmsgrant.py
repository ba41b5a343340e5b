"""The KmsGrant resource: the right of one ServiceAccount to use a KMS key.

Zone: no secrets, no I/O. Source: AWS KMS API, CreateGrant.
"""

from enum import StrEnum
from typing import Any

from datakeys.contract.crd import schema

MAX_CONSTRAINT_PAIRS = 8
MAX_CONSTRAINT_VALUE_CHARACTERS = 384


class GrantOperation(StrEnum):
    """The operations that a grant can allow. GenerateDataKey doesn't include ...WithoutPlaintext."""

    DECRYPT = "Decrypt"
    ENCRYPT = "Encrypt"
    GENERATE_DATA_KEY = "GenerateDataKey"
    GENERATE_DATA_KEY_WITHOUT_PLAINTEXT = "GenerateDataKeyWithoutPlaintext"
    GENERATE_DATA_KEY_PAIR = "GenerateDataKeyPair"
    GENERATE_DATA_KEY_PAIR_WITHOUT_PLAINTEXT = "GenerateDataKeyPairWithoutPlaintext"
    RE_ENCRYPT_FROM = "ReEncryptFrom"
    RE_ENCRYPT_TO = "ReEncryptTo"
    SIGN = "Sign"
    VERIFY = "Verify"
    GET_PUBLIC_KEY = "GetPublicKey"
    GENERATE_MAC = "GenerateMac"
    VERIFY_MAC = "VerifyMac"
    DERIVE_SHARED_SECRET = "DeriveSharedSecret"  # noqa: S105 - an operation's name
    ENCAPSULATE = "Encapsulate"
    DECAPSULATE = "Decapsulate"
    DESCRIBE_KEY = "DescribeKey"
    CREATE_GRANT = "CreateGrant"
    RETIRE_GRANT = "RetireGrant"


def build_kmsgrant_crd() -> dict[str, Any]:
    """Return the CRD ``kmsgrants.datakeys.dev``."""
    return schema.build_crd(
        kind="KmsGrant",
        plural="kmsgrants",
        short_names=["kmsg"],
        description="A grant on a KMS key. The spec is immutable; deleting the object revokes the grant.",
        spec=_spec(),
        status=schema.obj(
            "What was granted.",
            {
                "grantId": schema.string("Id of the grant."),
                "grantToken": schema.string("Token that makes the grant effective at once; not a secret."),
                "keyArn": schema.string("ARN of the key."),
                "observedGeneration": schema.observed_generation(),
                "conditions": schema.conditions(),
            },
        ),
        columns=[
            schema.column("Grantee", ".spec.granteePrincipal.serviceAccountName", "Who gets the right."),
            schema.column("Operations", ".spec.operations", "What is allowed."),
            schema.READY_COLUMN,
            schema.REASON_COLUMN,
            schema.AGE_COLUMN,
        ],
    )


def _principal(description: str) -> schema.Schema:
    return schema.obj(
        description,
        {
            "serviceAccountName": schema.object_name("Name of the ServiceAccount."),
            "namespace": schema.string(
                "Its namespace; default: this one.",
                minLength=1,
                maxLength=63,
                pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            ),
        },
        required=["serviceAccountName"],
    )


def _pairs(description: str) -> schema.Schema:
    return schema.context_map(
        description, max_pairs=MAX_CONSTRAINT_PAIRS, max_value=MAX_CONSTRAINT_VALUE_CHARACTERS
    )


def _spec() -> schema.Schema:
    return schema.obj(
        "Who may do what with which key; immutable.",
        {
            "keyRef": schema.key_reference("The key by the name of its KmsKey in this namespace."),
            "keyId": schema.key_or_arn("The key by its key id or key ARN."),
            "granteePrincipal": _principal("Who gets the right."),
            "retiringPrincipal": _principal("Who may retire the grant."),
            "operations": {
                "type": "array",
                "description": "What is allowed.",
                "minItems": 1,
                "maxItems": len(GrantOperation),
                "items": {"type": "string", "enum": list(GrantOperation)},
                "x-kubernetes-list-type": "set",
            },
            "constraints": schema.obj(
                "Which encryption contexts the grant is for.",
                {
                    "encryptionContextEquals": _pairs("The context has these pairs and no others."),
                    "encryptionContextSubset": _pairs("The context has these pairs, and maybe others."),
                },
            ),
        },
        required=["granteePrincipal", "operations"],
        rules=[
            schema.rule("self == oldSelf", "spec is immutable: make a new KmsGrant"),
            schema.rule(
                "has(self.keyId) != has(self.keyRef)", "give exactly one of keyId and keyRef", ".keyId"
            ),
        ],
    )
