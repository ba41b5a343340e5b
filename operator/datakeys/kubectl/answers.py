"""What the API server answers to a question, where "no such object" and "you may not see it" are answers too.

Zone: no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Json = dict[str, Any]

#: Reasons of the API server's Status. Source: Kubernetes API conventions, "Response Status Kind".
REASON_NOT_FOUND: Final = "NotFound"
REASON_FORBIDDEN: Final = "Forbidden"
REASON_UNAUTHORIZED: Final = "Unauthorized"
#: A log that isn't there yet, of a container or a node that hasn't started.
REASON_BAD_REQUEST: Final = "BadRequest"
#: This module's own: no answer at all.
REASON_UNREACHABLE: Final = "Unreachable"


class ClusterError(Exception):
    """A call failed.

    Attributes:
        reason: The ``reason`` of the API server's Status, or ``Unreachable``.
        message: One line for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UserError(Exception):
    """The command can't be done as it was asked for; ``message`` says what to do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class GapKind(StrEnum):
    """Why there is no object to look at."""

    MISSING = "missing"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing to look at; ``message`` is the API server's."""

    kind: GapKind
    message: str = ""

    @property
    def is_missing(self) -> bool:
        """Return whether the API server says that there is no such object."""
        return self.kind is GapKind.MISSING


#: One object, or why there is none.
Answer = Json | Gap
#: The items of a list, or why they can't be seen.
Items = list[Json] | Gap


def build_gap(error: ClusterError) -> Gap:
    """Return the gap that an error leaves."""
    kind = GapKind.MISSING if error.reason == REASON_NOT_FOUND else GapKind.UNSEEN
    return Gap(kind, error.message)


def list_items(items: Items) -> list[Json]:
    """Return the items; none if they can't be seen."""
    return [] if isinstance(items, Gap) else items


def name_of(body: Mapping[str, Any]) -> str:
    """Return an object's name."""
    return str(body["metadata"]["name"])


def namespace_of(body: Mapping[str, Any]) -> str:
    """Return an object's namespace, empty if it has none."""
    return str(body["metadata"].get("namespace", ""))
