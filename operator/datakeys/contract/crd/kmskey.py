"""The KmsKey resource: one KMS key of the namespace's account.

Zone: no secrets, no I/O. Source: AWS KMS API, CreateKey and KeyMetadata.
"""

from enum import StrEnum
from typing import Any

from datakeys.contract.crd import schema
from datakeys.contract.key_types import (
    ALLOWED_USAGES,
    DEFAULT_PENDING_WINDOW_DAYS,
    DEFAULT_ROTATION_PERIOD_DAYS,
    MAX_PENDING_WINDOW_DAYS,
    MAX_ROTATION_PERIOD_DAYS,
    MIN_PENDING_WINDOW_DAYS,
    MIN_ROTATION_PERIOD_DAYS,
    KeyOrigin,
    KeySpec,
    KeyState,
    KeyUsage,
)

MAX_POLICY_CHARACTERS = 32768
MAX_TAGS = 50
DEFAULT_RE_ENCRYPTIONS_PER_SECOND = 10
MAX_RE_ENCRYPTIONS_PER_SECOND = 200


class ReEncryptionPhase(StrEnum):
    """How far the re-encryption of the data keys under a KMS key is.

    ``Waiting``: the key can't be used, or every request that is left has failed and waits for its retry.
    """

    RUNNING = "Running"
    PAUSED = "Paused"
    WAITING = "Waiting"
    COMPLETE = "Complete"
    IDLE = "Idle"


_ROTATES = "(self.keySpec == 'SYMMETRIC_DEFAULT' && self.origin in ['AWS_KMS', 'EXTERNAL'])"


def build_kmskey_crd() -> dict[str, Any]:
    """Return the CRD ``kmskeys.datakeys.dev``."""
    return schema.build_crd(
        kind="KmsKey",
        plural="kmskeys",
        short_names=["kmsk"],
        description=(
            "A KMS key. Its key material lives in the key service only. Deleting this object schedules the "
            "key's deletion; applying it again within the pending window cancels that and gives the same "
            "key. The spec is applied when it changes: what it gives is made so, what it gives no more is "
            "the default again. What is changed by API calls in between stays, and shows in the status."
        ),
        spec=_spec(),
        status=_status(),
        columns=[
            schema.column("State", ".status.keyState", "The key state."),
            schema.column("Spec", ".spec.keySpec", "The key spec."),
            schema.column("Usage", ".spec.keyUsage", "The key usage.", priority=1),
            schema.READY_COLUMN,
            schema.column(
                "Re-Encrypted", ".status.reEncryption.progress", "Requests re-encrypted.", priority=1
            ),
            schema.column("Key-ID", ".status.keyId", "The key id."),
            schema.column("ARN", ".status.arn", "The key ARN.", priority=1),
            schema.AGE_COLUMN,
        ],
    )


def _usage_rules() -> list[schema.Schema]:
    """Return one rule per set of usages; an absent keyUsage is checked as ENCRYPT_DECRYPT."""
    by_usages: dict[frozenset[KeyUsage], list[KeySpec]] = {}
    for spec, usages in ALLOWED_USAGES.items():
        by_usages.setdefault(usages, []).append(spec)
    rules = []
    for usages, specs in by_usages.items():
        spec_list = ", ".join(f"'{spec}'" for spec in specs)
        usage_list = ", ".join(f"'{usage}'" for usage in sorted(usages))
        rules.append(
            schema.rule(
                f"!(self.keySpec in [{spec_list}]) || self.keyUsage in [{usage_list}]",
                f"keyUsage must be one of {', '.join(sorted(usages))} for this keySpec",
                ".keyUsage",
            )
        )
    return rules


def _spec() -> schema.Schema:
    tag = {"type": "string", "maxLength": 256}
    return schema.obj(
        "What the key should be.",
        {
            "description": schema.string("What the key is for.", maxLength=8192),
            "keySpec": schema.string(
                "Type of key material; immutable. Only SYMMETRIC_DEFAULT makes data keys.",
                enum=list(KeySpec),
                default=KeySpec.SYMMETRIC_DEFAULT,
            ),
            "keyUsage": schema.string(
                "What the key may be used for; immutable.",
                enum=list(KeyUsage),
                default=KeyUsage.ENCRYPT_DECRYPT,
            ),
            "origin": schema.string(
                "Where the key material comes from; immutable.",
                enum=list(KeyOrigin),
                default=KeyOrigin.AWS_KMS,
            ),
            "enabled": schema.boolean("Whether the key may be used.", default=True),
            "rotation": schema.obj(
                "Automatic rotation of the key material. Old ciphertext decrypts for ever.",
                {
                    "enabled": schema.boolean("Whether it is on.", default=False),
                    "periodDays": schema.integer(
                        "Days between rotations.",
                        MIN_ROTATION_PERIOD_DAYS,
                        MAX_ROTATION_PERIOD_DAYS,
                        default=DEFAULT_ROTATION_PERIOD_DAYS,
                    ),
                },
            ),
            "rotateOnDemand": schema.string(
                "Any text, like a time or a ticket's number: each new one rotates the key material once, "
                "now. The one that a new key begins with rotates nothing.",
                minLength=1,
                maxLength=128,
            ),
            "reEncryption": schema.obj(
                "Re-encryption, after a rotation, of the data keys of all DataKeyRequests under this key: "
                "under the current key material, without their plaintext. The data keys stay the same.",
                {
                    "enabled": schema.boolean("Whether it is done.", default=False),
                    "paused": schema.boolean("Stops it where it is.", default=False),
                    "requestsPerSecond": schema.integer(
                        "How many DataKeyRequests are re-encrypted per second, at most.",
                        1,
                        MAX_RE_ENCRYPTIONS_PER_SECOND,
                        default=DEFAULT_RE_ENCRYPTIONS_PER_SECOND,
                    ),
                },
            ),
            "deletion": schema.obj(
                "What happens when this object is deleted.",
                {
                    "pendingWindowDays": schema.integer(
                        "Days in which a deletion can be cancelled, before the key material is destroyed.",
                        MIN_PENDING_WINDOW_DAYS,
                        MAX_PENDING_WINDOW_DAYS,
                        default=DEFAULT_PENDING_WINDOW_DAYS,
                    )
                },
            ),
            "policy": schema.string(
                "The key policy, a JSON document.", minLength=1, maxLength=MAX_POLICY_CHARACTERS
            ),
            "tags": {
                "type": "object",
                "description": "Tags of the key; a tag key has 1..128 characters, a value 0..256.",
                "maxProperties": MAX_TAGS,
                "additionalProperties": tag,
                "x-kubernetes-validations": [
                    schema.rule(
                        "self.all(key, size(key) >= 1 && size(key) <= 128)",
                        "tag keys must have 1..128 characters",
                    )
                ],
            },
        },
        rules=[
            schema.immutable("keySpec"),
            schema.immutable("keyUsage"),
            schema.immutable("origin"),
            *_usage_rules(),
            schema.rule(
                "self.origin in ['AWS_KMS', 'EXTERNAL'] || self.keySpec == 'SYMMETRIC_DEFAULT'",
                "a key in a custom key store must be SYMMETRIC_DEFAULT",
                ".origin",
            ),
            schema.rule(
                "!has(self.rotation) || !self.rotation.enabled || "
                "(self.keySpec == 'SYMMETRIC_DEFAULT' && self.origin == 'AWS_KMS')",
                "only SYMMETRIC_DEFAULT keys of origin AWS_KMS rotate automatically",
                ".rotation.enabled",
            ),
            schema.rule(
                f"!has(self.rotateOnDemand) || {_ROTATES}",
                "only SYMMETRIC_DEFAULT keys of origin AWS_KMS or EXTERNAL rotate",
                ".rotateOnDemand",
            ),
            schema.rule(
                f"!has(self.reEncryption) || !self.reEncryption.enabled || {_ROTATES}",
                "only SYMMETRIC_DEFAULT keys of origin AWS_KMS or EXTERNAL make data keys",
                ".reEncryption.enabled",
            ),
        ],
    )


def _status() -> schema.Schema:
    return schema.obj(
        "What the key is.",
        {
            "keyId": schema.string("The key id, a UUID."),
            "arn": schema.string("The key ARN."),
            "keyState": schema.string("The key state.", enum=list(KeyState)),
            "currentKeyMaterialId": schema.string("Id of the material that encrypts: 64 hex characters."),
            "creationDate": schema.string("When the key was created.", format="date-time"),
            "deletionDate": schema.string(
                "When the key material will be destroyed; only while deletion is pending.", format="date-time"
            ),
            "validTo": schema.string("When the imported key material expires.", format="date-time"),
            "rotation": schema.obj(
                "Automatic rotation as it is; only of keys that can rotate.",
                {
                    "enabled": schema.boolean("Whether it is on."),
                    "periodDays": schema.integer(
                        "Days between rotations.", MIN_ROTATION_PERIOD_DAYS, MAX_ROTATION_PERIOD_DAYS
                    ),
                    "nextRotationDate": schema.string(
                        "When the key material is rotated next.", format="date-time"
                    ),
                },
            ),
            "onDemandRotation": schema.obj(
                "What has become of spec.rotateOnDemand.",
                {
                    "request": schema.string("The spec.rotateOnDemand that was carried out last."),
                    "pendingRequest": schema.string(
                        "The spec.rotateOnDemand that is being carried out; absent when it is done."
                    ),
                    "formerKeyMaterialId": schema.string(
                        "The current key material before that rotation: a crash doesn't rotate twice."
                    ),
                },
            ),
            "reEncryption": _re_encryption_status(),
            "observedGeneration": schema.observed_generation(),
            "conditions": schema.conditions(),
        },
    )


def _re_encryption_status() -> schema.Schema:
    def count(description: str) -> schema.Schema:
        return schema.integer(description, 0, 2**31 - 1)

    return schema.obj(
        "How far the re-encryption is; DataKeyRequests of all namespaces are counted.",
        {
            "phase": schema.string("Where it stands.", enum=list(ReEncryptionPhase)),
            "progress": schema.string("Done and total, like 412/500."),
            "done": count("DataKeyRequests whose data keys are all under the current key material."),
            "total": count("DataKeyRequests under this key."),
            "failed": count("DataKeyRequests whose last attempt has failed; they are tried again."),
            "keyMaterialId": schema.string("The key material that they are re-encrypted under."),
            "startedAt": schema.string("When it began for this key material.", format="date-time"),
            "finishedAt": schema.string("When the last one was done.", format="date-time"),
        },
    )
