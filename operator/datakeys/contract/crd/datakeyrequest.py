"""The DataKeyRequest resource: one encrypted data key for one workload.

Zone: ciphertext only, no I/O. Source: AWS KMS API, GenerateDataKeyWithoutPlaintext.
"""

from typing import Any

from datakeys.contract.crd import schema
from datakeys.contract.encryption_context import MAX_CONTEXT_CHARACTERS, RESERVED_PREFIX
from datakeys.contract.key_types import MAX_DATA_KEY_BYTES, MIN_DATA_KEY_BYTES, DataKeySpec

MAX_CONTEXT_PAIRS = 64
MAX_GRANT_TOKENS = 10
#: 6144 bytes in base64.
MAX_CIPHERTEXT_CHARACTERS = 8192


def build_datakeyrequest_crd() -> dict[str, Any]:
    """Return the CRD ``datakeyrequests.datakeys.dev``."""
    return schema.build_crd(
        kind="DataKeyRequest",
        plural="datakeyrequests",
        short_names=["dkr"],
        description=(
            "A request for one data key, encrypted under a KMS key and bound to this namespace, this "
            "request's name and one ServiceAccount. The encrypted data key is kept in the status and in a "
            "Secret; the plaintext is seen by the consuming pod only. The spec is immutable."
        ),
        spec=_spec(),
        status=_status(),
        root_rules=[
            # The name becomes the value of a label of the Secret.
            schema.rule("size(self.metadata.name) <= 63", "metadata.name must have at most 63 characters"),
            schema.rule(
                "!has(oldSelf.status) || !has(oldSelf.status.ciphertextBlob) || (has(self.status) && "
                "has(self.status.ciphertextBlob) && "
                "self.status.ciphertextBlob == oldSelf.status.ciphertextBlob)",
                "ciphertextBlob can't be changed or removed: the data key would be lost",
                ".status.ciphertextBlob",
            ),
        ],
        columns=[
            schema.READY_COLUMN,
            schema.REASON_COLUMN,
            schema.column("Secret", ".status.secretRef.name", "Secret with the encrypted data key."),
            schema.column("ServiceAccount", ".spec.serviceAccountName", "Who may decrypt."),
            schema.column("Key", ".status.keyId", "ARN of the KMS key.", priority=1),
            schema.AGE_COLUMN,
        ],
    )


def _spec() -> schema.Schema:
    context = schema.context_map(
        "Pairs that are authenticated with the data key. Not secret: they appear in audit records.",
        max_pairs=MAX_CONTEXT_PAIRS,
        max_value=MAX_CONTEXT_CHARACTERS,
    )
    context["x-kubernetes-validations"] = [
        schema.rule(
            f"self.all(key, !key.lowerAscii().startsWith('{RESERVED_PREFIX}'))",
            f"keys with the prefix {RESERVED_PREFIX} are reserved",
        )
    ]
    return schema.obj(
        "What is asked for; immutable.",
        {
            "keyId": schema.any_key_id("The KMS key: key id, key ARN, alias name or alias ARN."),
            "keyRef": schema.key_reference("The KMS key by the name of its KmsKey in this namespace."),
            "keySpec": schema.string("Length of the data key by name.", enum=list(DataKeySpec)),
            "numberOfBytes": schema.integer(
                "Length of the data key in bytes.", MIN_DATA_KEY_BYTES, MAX_DATA_KEY_BYTES
            ),
            "encryptionContext": context,
            "grantTokens": {
                "type": "array",
                "description": "Grant tokens that make new grants effective at once.",
                "maxItems": MAX_GRANT_TOKENS,
                "items": {"type": "string", "minLength": 1, "maxLength": 8192},
            },
            "dryRun": schema.boolean(
                "Only check whether the request would succeed: no data key, no Secret. A success is final; a "
                "failure is looked at again when its key changes.",
                default=False,
            ),
            "serviceAccountName": schema.object_name("The ServiceAccount whose pods may decrypt."),
            "secretName": schema.object_name("Name of the Secret; default: the request's name."),
            "workloadRef": schema.obj(
                "The workload that consumes the data key, for people and tools; it gives no right.",
                {
                    "apiVersion": schema.string("API version of the workload.", minLength=1, maxLength=253),
                    "kind": schema.string("Kind of the workload.", minLength=1, maxLength=63),
                    "name": schema.object_name("Name of the workload."),
                },
                required=["apiVersion", "kind", "name"],
            ),
        },
        required=["serviceAccountName"],
        rules=[
            schema.rule("self == oldSelf", "spec is immutable: make a new DataKeyRequest"),
            schema.rule(
                "has(self.keyId) != has(self.keyRef)", "give exactly one of keyId and keyRef", ".keyId"
            ),
            schema.rule(
                "has(self.keySpec) != has(self.numberOfBytes)",
                "give exactly one of keySpec and numberOfBytes",
                ".keySpec",
            ),
        ],
    )


def _status() -> schema.Schema:
    return schema.obj(
        "What was given.",
        {
            "ciphertextBlob": schema.string(
                "The encrypted data key in base64; never changes once set.",
                maxLength=MAX_CIPHERTEXT_CHARACTERS,
            ),
            "keyId": schema.string("ARN of the KMS key that encrypted the data key."),
            "keyMaterialId": schema.string("Id of the key material that encrypted the data key."),
            "secretRef": schema.obj(
                "The Secret with the encrypted data key.",
                {"name": schema.object_name("Its name, in this namespace.")},
                required=["name"],
            ),
            "observedGeneration": schema.observed_generation(),
            "conditions": schema.conditions(),
        },
    )
