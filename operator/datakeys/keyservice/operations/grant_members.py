"""The members that requests for grants have in common. Zone: no key material.

Source: AWS KMS API; kms-semantics section 4.2.
"""

import re
from typing import Final

from datakeys.contract.errors import InvalidArnError, ValidationError
from datakeys.keyservice.authz.policy import reserved_pairs
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.operations.validation import Members, member_name

MAX_CONSTRAINT_PAIRS: Final = 8
MAX_CONSTRAINT_VALUE: Final = 384
MAX_PRINCIPAL: Final = 256
_PRINCIPAL: Final = re.compile(r"^[\w+=,.@:/-]+$", re.ASCII)

#: Source: AWS KMS API, shape GrantOperation.
GRANT_OPERATIONS: Final = (
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "GetPublicKey",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "VerifyMac",
    "DeriveSharedSecret",
    "Encapsulate",
    "Decapsulate",
)


def read_principal(members: Members, name: str, *, required: bool = False) -> str:
    """Return a member that names a principal, of 1..256 characters; empty if it is absent."""
    read = members.required_string if required else members.string
    return read(name, minimum=1, maximum=MAX_PRINCIPAL, pattern=_PRINCIPAL)


def refuse_service_principal(members: Members, name: str) -> None:
    """Collect that a member names a service: no service acts for anybody here."""
    members.string(name, minimum=1, maximum=128)
    if members.has(name):
        members.fail(
            f"Value at '{member_name(name)}' failed to satisfy constraint: Member must be null: "
            "there are no service principals here"
        )


def check_principals(realm: Realm, **named: str) -> None:
    """Check that members name principals of the realm; an empty one is absent.

    Raises:
        ValidationError: In a cluster: one isn't the user name of a ServiceAccount.
        InvalidArnError: In the local mode: one isn't the ARN of a principal.
    """
    for member, text in named.items():
        if not text or realm.is_principal(text):
            continue
        if realm.is_cluster:
            raise ValidationError(f"{member} must be system:serviceaccount:<namespace>:<name>.")
        raise InvalidArnError(f"{member}: ARN does not refer to a valid principal: {text}")


def read_operations(members: Members) -> frozenset[str]:
    """Return the operations of a grant, at least one; what is wrong with them is collected."""
    if not members.has("Operations"):
        members.fail_null("Operations")
        return frozenset()
    given = members.string_list("Operations", maximum_items=len(GRANT_OPERATIONS) * 2, maximum_length=64)
    unknown = sorted(set(given) - set(GRANT_OPERATIONS))
    if unknown or not given:
        members.fail(
            f"Value '{unknown}' at 'operations' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(GRANT_OPERATIONS)}]"
        )
    return frozenset(given)


def read_constraints(members: Members) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Return EncryptionContextEquals and EncryptionContextSubset; at least one of them is None."""
    raw = members.raw("Constraints", dict)
    if not raw:
        return None, None
    inner = Members(raw)
    found: list[dict[str, str] | None] = []
    for name in ("EncryptionContextEquals", "EncryptionContextSubset"):
        pairs = inner.string_map(name)
        if len(pairs) > MAX_CONSTRAINT_PAIRS or any(
            len(value) > MAX_CONSTRAINT_VALUE for value in pairs.values()
        ):
            members.fail(
                f"Value at 'constraints.{member_name(name)}' failed to satisfy constraint: Member must have "
                f"at most {MAX_CONSTRAINT_PAIRS} pairs, values up to {MAX_CONSTRAINT_VALUE} characters"
            )
        if reserved_pairs(pairs):
            members.fail(
                f"Value at 'constraints' failed to satisfy constraint: {name} must not hold reserved pairs"
            )
        found.append(pairs if inner.has(name) else None)
    if all(pairs is not None for pairs in found):
        members.fail(
            "Value at 'constraints' failed to satisfy constraint: Member must hold only one constraint"
        )
    inner.string("SourceArn")
    if inner.has("SourceArn"):
        members.fail("Value at 'constraints.sourceArn' failed to satisfy constraint: Member must be null")
    return found[0], found[1]
