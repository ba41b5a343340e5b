"""What grants allow: to whom, which operations, under which contexts, and which further grants.

Zone: pure. Source: kms-semantics section 4.2; AWS KMS Developer Guide, "Grants in AWS KMS".
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """What a grant says. At most one of the two constraints is set."""

    grant_id: str
    grantee: str
    operations: frozenset[str]
    context_equals: Mapping[str, str] | None = None
    context_subset: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class GrantWish:
    """What a CreateGrant is to grant. At most one of the two constraints is set."""

    grantee: str
    operations: frozenset[str]
    context_equals: Mapping[str, str] | None = None
    context_subset: Mapping[str, str] | None = None

    @property
    def constraint_type(self) -> str:
        """Return the constraint's name, or an empty text."""
        if self.context_equals is not None:
            return "EncryptionContextEquals"
        return "" if self.context_subset is None else "EncryptionContextSubset"

    @property
    def context(self) -> Mapping[str, str]:
        """Return the constraint's pairs."""
        return self.context_equals or self.context_subset or {}


def meets_constraints(grant: GrantFacts, context: Mapping[str, str]) -> bool:
    """Return whether a context is one that a grant's constraint lets through."""
    if grant.context_equals is not None:
        return dict(context) == dict(grant.context_equals)
    if grant.context_subset is not None:
        return grant.context_subset.items() <= context.items()
    return True


def is_within(wish: GrantWish, parent: GrantFacts) -> bool:
    """Return whether a grant made by right of another gives nothing that the other doesn't give.

    Equals stays the same Equals; Subset may become Equals, and pairs may be added.
    """
    if not wish.operations <= parent.operations:
        return False
    if parent.context_equals is not None:
        return wish.context_equals is not None and dict(wish.context_equals) == dict(parent.context_equals)
    if parent.context_subset is not None:
        pairs = wish.context_equals if wish.context_equals is not None else wish.context_subset
        return pairs is not None and parent.context_subset.items() <= pairs.items()
    return True
