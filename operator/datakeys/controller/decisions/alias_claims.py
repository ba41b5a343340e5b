"""Which of several KmsAliases with one alias name has the alias. Zone: no secrets, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, order=True)
class AliasClaim:
    """A KmsAlias that asks for an alias name; the least of all has it.

    Attributes:
        is_new: It has never had the alias. Who has it keeps it, also against one that is restored later.
        created: RFC 3339.
    """

    is_new: bool
    created: str
    name: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Return the claim of a KmsAlias."""
        metadata = body["metadata"]
        return cls(
            not (body.get("status") or {}).get("arn"),
            str(metadata.get("creationTimestamp") or ""),
            str(metadata["name"]),
        )


def find_holder(claims: Iterable[AliasClaim], own: AliasClaim) -> str:
    """Return the name of the KmsAlias that has the alias.

    Args:
        claims: All that ask for its name in the namespace, as far as they are seen.
        own: The one in question, as it is now.
    """
    return min([own, *(claim for claim in claims if claim.name != own.name)]).name
