"""Lists in pages: Limit, Marker, NextMarker, Truncated.

Zone: no secrets. A marker is the sort key after which the next page starts, in base64url.
Source: kms-semantics section 5.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from datakeys.contract.errors import InvalidMarkerError
from datakeys.keyservice.operations.validation import Members

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
MAX_MARKER: Final = 1024
#: Source: AWS KMS API, shape MarkerType.
_MARKER: Final = re.compile(r"[\u0020-\u00FF]*")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """What the caller asks for."""

    limit: int
    marker: str


def read_page(members: Members, *, default_limit: int = DEFAULT_LIMIT) -> Page:
    """Read Limit (1..1000) and Marker."""
    limit = members.integer("Limit", minimum=1, maximum=MAX_LIMIT)
    marker = members.string("Marker", minimum=1, maximum=MAX_MARKER, pattern=_MARKER)
    return Page(default_limit if limit is None else limit, marker)


def build_page(
    items: Sequence[T], page: Page, *, member: str, sort_key: Callable[[T], str], entry: Callable[[T], Any]
) -> dict[str, Any]:
    """Return one page of ``items``, which are sorted by ``sort_key``.

    Raises:
        InvalidMarkerError: The marker isn't one of this service.
    """
    if page.marker:
        start = _parse_marker(page.marker)
        items = [item for item in items if sort_key(item) > start]
    shown = items[: page.limit]
    answer: dict[str, Any] = {member: [entry(item) for item in shown], "Truncated": len(items) > page.limit}
    if answer["Truncated"]:
        answer["NextMarker"] = base64.urlsafe_b64encode(sort_key(shown[-1]).encode()).decode()
    return answer


def _parse_marker(marker: str) -> str:
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidMarkerError("The marker is not valid.") from None
