"""The KmsAlias resource: a second name for a KMS key, which can be pointed to another key.

Zone: no secrets, no I/O. Source: AWS KMS API, CreateAlias and UpdateAlias.
"""

from typing import Any

from datakeys.contract.arn import ALIAS_NAME_PATTERN, MAX_ALIAS_LENGTH, RESERVED_ALIAS_PREFIX
from datakeys.contract.crd import schema


def build_kmsalias_crd() -> dict[str, Any]:
    """Return the CRD ``kmsaliases.datakeys.dev``."""
    return schema.build_crd(
        kind="KmsAlias",
        plural="kmsaliases",
        short_names=["kmsa"],
        description="An alias of a KMS key. Deleting it leaves the key alone.",
        spec=_spec(),
        status=schema.obj(
            "What the alias is.",
            {
                "arn": schema.string("The alias ARN."),
                "targetKeyArn": schema.string("ARN of the key that the alias points to."),
                "observedGeneration": schema.observed_generation(),
                "conditions": schema.conditions(),
            },
        ),
        columns=[
            schema.column("Alias", ".spec.aliasName", "The alias name."),
            schema.column("Target", ".status.targetKeyArn", "The key it points to."),
            schema.READY_COLUMN,
            schema.REASON_COLUMN,
            schema.AGE_COLUMN,
        ],
    )


def _spec() -> schema.Schema:
    return schema.obj(
        "What the alias should be.",
        {
            "aliasName": schema.string(
                "The alias name with its prefix alias/; immutable. Default: alias/ and this object's name.",
                minLength=len("alias/") + 1,
                maxLength=MAX_ALIAS_LENGTH,
                pattern=f"^{ALIAS_NAME_PATTERN}$",
            ),
            "targetKeyRef": schema.key_reference("The key by the name of its KmsKey in this namespace."),
            "targetKeyId": schema.key_or_arn("The key by its key id or key ARN."),
        },
        rules=[
            schema.immutable("aliasName"),
            schema.rule(
                f"!has(self.aliasName) || !self.aliasName.startsWith('{RESERVED_ALIAS_PREFIX}')",
                f"the prefix {RESERVED_ALIAS_PREFIX} is reserved",
                ".aliasName",
            ),
            schema.rule(
                "has(self.targetKeyRef) != has(self.targetKeyId)",
                "give exactly one of targetKeyRef and targetKeyId",
                ".targetKeyRef",
            ),
        ],
    )
