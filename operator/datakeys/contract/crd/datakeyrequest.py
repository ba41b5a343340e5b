"""The DataKeyRequest resource: one encrypted data key for one workload.

Zone: ciphertext only, no I/O. Source: AWS KMS API, GenerateDataKeyWithoutPlaintext.
"""

from typing import Any

from datakeys.contract.crd import schema
from datakeys.contract.data_key_versions import FIRST_VERSION, MAX_ENDING_CHARACTERS, MAX_VERSION
from datakeys.contract.encryption_context import MAX_CONTEXT_CHARACTERS, RESERVED_PREFIX
from datakeys.contract.key_types import MAX_DATA_KEY_BYTES, MIN_DATA_KEY_BYTES, DataKeySpec

MAX_CONTEXT_PAIRS = 64
MAX_GRANT_TOKENS = 10
#: 6144 bytes in base64.
MAX_CIPHERTEXT_CHARACTERS = 8192

#: Everything that makes a data key what it is; versions of it are added, nothing else changes.
_IMMUTABLE_MEMBERS = (
    "keyId",
    "keyRef",
    "keySpec",
    "numberOfBytes",
    "encryptionContext",
    "grantTokens",
    "dryRun",
    "serviceAccountName",
    "secretName",
    "workloadRef",
)


def build_datakeyrequest_crd() -> dict[str, Any]:
    """Return the CRD ``datakeyrequests.datakeys.dev``."""
    return schema.build_crd(
        kind="DataKeyRequest",
        plural="datakeyrequests",
        short_names=["dkr"],
        description=(
            "A request for one data key, encrypted under a KMS key and bound to this namespace, this "
            "request's name and one ServiceAccount. The encrypted data key is kept in the status and in a "
            "Secret; the plaintext is seen by the consuming pod only. The spec is immutable, but for the "
            "versions of the data key."
        ),
        spec=_spec(),
        status=_status(),
        root_rules=[
            # The name becomes the value of a label of the Secret.
            schema.rule("size(self.metadata.name) <= 63", "metadata.name must have at most 63 characters"),
            *_kept_ciphertexts(),
        ],
        columns=[
            schema.READY_COLUMN,
            schema.REASON_COLUMN,
            schema.column("Secret", ".status.secretRef.name", "Secret with the encrypted data key."),
            schema.column("ServiceAccount", ".spec.serviceAccountName", "Who may decrypt."),
            schema.column("Version", ".status.version", "The current version.", "integer", priority=1),
            schema.column("Key", ".status.keyId", "ARN of the KMS key.", priority=1),
            schema.AGE_COLUMN,
        ],
    )


def _kept_ciphertexts() -> list[schema.Schema]:
    """Return the rules by which no ciphertext vanishes from a status, whoever writes it.

    A ciphertext may move to ``previousVersions`` when a new version comes, and to ``formerCiphertextBlob`` of
    its version when it is re-encrypted.
    """
    version = "(has({0}.version) ? {0}.version : 1)"
    held = (
        "({0}.ciphertextBlob == {1}.ciphertextBlob || (has({0}.formerCiphertextBlob) && "
        "{0}.formerCiphertextBlob == {1}.ciphertextBlob))"
    )
    new, old = "self.status", "oldSelf.status"
    new_version, old_version = version.format(new), version.format(old)
    current = (
        f"!has({old}) || !has({old}.ciphertextBlob) || (has({new}) && has({new}.ciphertextBlob) && "
        f"(({new_version} == {old_version} && {held.format(new, old)}) || "
        f"(has({new}.previousVersions) && {new}.previousVersions.exists(kept, "
        f"kept.version == {old_version} && {held.format('kept', old)}))))"
    )
    previous = (
        f"!has({old}) || !has({old}.previousVersions) || (has({new}) && has({new}.previousVersions) && "
        f"{old}.previousVersions.all(known, {new}.previousVersions.exists(kept, "
        f"kept.version == known.version && {held.format('kept', 'known')})))"
    )
    lost = "can't be changed or removed, only re-encrypted or followed by a new version"
    return [
        schema.rule(current, f"ciphertextBlob {lost}: the data key would be lost", ".status.ciphertextBlob"),
        schema.rule(
            previous, f"previousVersions {lost}: the data key would be lost", ".status.previousVersions"
        ),
    ]


def _version_rules() -> list[schema.Schema]:
    same = " && ".join(
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        for name in _IMMUTABLE_MEMBERS
    )
    room = schema.MAX_NAME_LENGTH - MAX_ENDING_CHARACTERS
    return [
        schema.rule(same, "spec is immutable, but for version and oldestVersion: make a new DataKeyRequest"),
        schema.rule(
            "self.version == oldSelf.version || self.version == oldSelf.version + 1",
            "version can only be raised by one: a data key is never taken back",
            ".version",
        ),
        schema.rule(
            "self.oldestVersion <= self.version", "oldestVersion can't be above version", ".oldestVersion"
        ),
        schema.rule(
            "self.version == 1 || !self.dryRun",
            "a dry run makes no data key, so it has no versions",
            ".version",
        ),
        schema.rule(
            f"self.version == 1 || !has(self.secretName) || size(self.secretName) <= {room}",
            f"secretName must have at most {room} characters to have versions: make a new DataKeyRequest",
            ".version",
        ),
    ]


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
        "What is asked for; immutable, but for version and oldestVersion.",
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
            "version": schema.integer(
                "The current version of the data key; raise it by one for a new data key under the same "
                "names. The older ones stay, in Secrets of their own.",
                FIRST_VERSION,
                MAX_VERSION,
                default=FIRST_VERSION,
            ),
            "oldestVersion": schema.integer(
                "The oldest version that new pods are offered; the ones before it are kept all the same.",
                FIRST_VERSION,
                MAX_VERSION,
                default=FIRST_VERSION,
            ),
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
            *_version_rules(),
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
    previous = schema.obj(
        "One version.",
        {
            "version": schema.integer("Its number.", FIRST_VERSION, MAX_VERSION),
            **_encrypted_data_key(),
            "secretName": schema.object_name("The Secret that holds it."),
        },
        required=["version", "ciphertextBlob", "keyId", "keyMaterialId", "secretName"],
    )
    return schema.obj(
        "What was given.",
        {
            "version": schema.integer(
                "The version that the fields beside this one are of; absent: 1.", FIRST_VERSION, MAX_VERSION
            ),
            **_encrypted_data_key(),
            "secretRef": schema.obj(
                "The Secret with the encrypted data key.",
                {"name": schema.object_name("Its name, in this namespace.")},
                required=["name"],
            ),
            "previousVersions": {
                "type": "array",
                "description": "The versions before, all of which can still be decrypted.",
                "maxItems": MAX_VERSION - 1,
                "items": previous,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["version"],
            },
            "observedGeneration": schema.observed_generation(),
            "conditions": schema.conditions(),
        },
        rules=[
            schema.rule(
                "!has(self.previousVersions) || "
                "(has(self.version) && self.previousVersions.all(it, it.version < self.version))",
                "previousVersions must be before version",
                ".previousVersions",
            )
        ],
    )


def _encrypted_data_key() -> dict[str, schema.Schema]:
    """Return the members that hold one version of a data key."""
    return {
        "ciphertextBlob": schema.string(
            "The encrypted data key in base64; it changes by re-encryption only.",
            maxLength=MAX_CIPHERTEXT_CHARACTERS,
        ),
        "keyId": schema.string("ARN of the KMS key that encrypted the data key."),
        "keyMaterialId": schema.string("Id of the key material that encrypted the data key."),
        "formerCiphertextBlob": schema.string(
            "The same data key as it was encrypted before the last re-encryption, in base64.",
            maxLength=MAX_CIPHERTEXT_CHARACTERS,
        ),
        "formerKeyMaterialId": schema.string("Id of the key material that encrypted the former ciphertext."),
    }
