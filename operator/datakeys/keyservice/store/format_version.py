"""What a record's JSON says about its format: which version, and what this version doesn't know.

Zone: sealed material only. Pure. A later version of this service may add members to a record, and must give
it a higher format version if an earlier one may not go on without them. So a member that isn't known is kept
as it is, also when the record is written again, and a version that isn't known is an error. See
docs/reliability.md, "Upgrades".
"""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from datakeys.contract.errors import IntegrityError

RECORD_FORMAT_V1: Final = 1
MEMBER_FORMAT_VERSION: Final = "formatVersion"
#: The members that this version knows.
MATERIAL_MEMBERS: Final = frozenset(
    {
        *("materialId", "sealed", "createdAt", "rotatedAt", "rotationType", "pending", "imported", "validTo"),
        *("description", "fingerprint"),
    }
)
KEY_MEMBERS: Final = frozenset(
    {
        *(MEMBER_FORMAT_VERSION, "keyId", "account", "keySpec", "keyUsage", "origin", "state", "createdAt"),
        *("description", "objectName", "deletionAt", "currentMaterialId", "materials", "customKeyStoreId"),
        *("tags", "policy", "rotationPeriodDays", "nextRotationAt"),
    }
)
ALIAS_MEMBERS: Final = frozenset(
    {MEMBER_FORMAT_VERSION, "account", "name", "keyId", "createdAt", "updatedAt"}
)
GRANT_MEMBERS: Final = frozenset(
    {
        *(MEMBER_FORMAT_VERSION, "grantId", "keyId", "issuingAccount", "grantee", "operations", "createdAt"),
        *("name", "retiringPrincipal", "contextEquals", "contextSubset"),
    }
)


class NewerFormatError(IntegrityError):
    """An authentic record has a format version that only a later version of this service reads."""


def check_format_version(data: Mapping[str, Any]) -> None:
    """Check that this version of the service reads a record.

    Raises:
        NewerFormatError: It doesn't; the text names both versions and the next step.
    """
    version = data[MEMBER_FORMAT_VERSION]
    if version != RECORD_FORMAT_V1:
        raise NewerFormatError(
            f"the stored record has format version {json.dumps(version)[:20]}, this key service reads "
            f"version {RECORD_FORMAT_V1} only: run the version that wrote it"
        )


def keep_unknown(data: Mapping[str, Any], known: AbstractSet[str]) -> str:
    """Return the members that aren't known, as JSON; empty if there are none."""
    if data.keys() <= known:
        return ""
    return json.dumps({name: value for name, value in data.items() if name not in known}, sort_keys=True)


def add_unknown(data: Mapping[str, Any], unknown: str) -> dict[str, Any]:
    """Return a record's members with those that aren't known."""
    return {**json.loads(unknown), **data} if unknown else dict(data)
