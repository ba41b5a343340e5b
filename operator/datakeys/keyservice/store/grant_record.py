"""What the key service remembers of a grant. Pure, to and from JSON.

Zone: no key material. No I/O, no clock: times are arguments, in seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from datakeys.keyservice.store.format_version import (
    GRANT_MEMBERS,
    MEMBER_FORMAT_VERSION,
    RECORD_FORMAT_V1,
    add_unknown,
    check_format_version,
    keep_unknown,
)


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """One grant. A constraint is None or its pairs; at most one of the two is set.

    Attributes:
        grant_id: 64 lower-case hex characters.
        grantee: User name of a ServiceAccount, ``system:serviceaccount:<namespace>:<name>``.
        issuing_account: The namespace that issued it.
        unknown: Members of a later version, as JSON.
    """

    grant_id: str
    key_id: str
    issuing_account: str
    grantee: str
    operations: frozenset[str]
    created_at: float
    name: str = ""
    retiring_principal: str = ""
    context_equals: Mapping[str, str] | None = None
    context_subset: Mapping[str, str] | None = None
    unknown: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        known = {
            MEMBER_FORMAT_VERSION: RECORD_FORMAT_V1,
            "grantId": self.grant_id,
            "keyId": self.key_id,
            "issuingAccount": self.issuing_account,
            "grantee": self.grantee,
            "operations": sorted(self.operations),
            "createdAt": self.created_at,
            "name": self.name,
            "retiringPrincipal": self.retiring_principal,
            "contextEquals": None if self.context_equals is None else dict(self.context_equals),
            "contextSubset": None if self.context_subset is None else dict(self.context_subset),
        }
        return add_unknown(known, self.unknown)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Parse the JSON form.

        Raises:
            KeyError, TypeError, ValueError: It isn't one.
        """
        check_format_version(data)
        return cls(
            grant_id=str(data["grantId"]),
            key_id=str(data["keyId"]),
            issuing_account=str(data["issuingAccount"]),
            grantee=str(data["grantee"]),
            operations=frozenset(map(str, data["operations"])),
            created_at=float(data["createdAt"]),
            name=str(data["name"]),
            retiring_principal=str(data["retiringPrincipal"]),
            context_equals=_optional_pairs(data["contextEquals"]),
            context_subset=_optional_pairs(data["contextSubset"]),
            unknown=keep_unknown(data, GRANT_MEMBERS),
        )


def _optional_pairs(value: Any) -> dict[str, str] | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("a constraint's context must be an object")
    return {str(name): str(one) for name, one in value.items()}
