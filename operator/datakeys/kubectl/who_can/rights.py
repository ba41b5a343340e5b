"""One right on a key: who has it, and which object gives it. Zone: no I/O."""

from dataclasses import dataclass
from enum import StrEnum

from datakeys.kubectl.answers import Json


class Source(StrEnum):
    """What gives or takes a right, in the order in which the key service looks at it (docs/adr/0009)."""

    KEY_POLICY = "key policy"
    REQUEST = "DataKeyRequest"
    GRANT = "KmsGrant"
    RBAC = "RBAC"


@dataclass(frozen=True, slots=True)
class Right:
    """A row of the answer.

    Attributes:
        kind: ``ServiceAccount``, ``User``, ``Group``, ``Namespace`` or ``Everybody``.
        namespace: Of a ServiceAccount; empty for all others.
        given_by: The object, ``namespace/name``, or the statement of the policy.
        note: What limits the right.
        effective: False if something else takes it away as a whole.
    """

    kind: str
    namespace: str
    name: str
    source: Source
    given_by: str
    note: str = ""
    denies: bool = False
    effective: bool = True

    @property
    def who(self) -> str:
        """Return the principal for people."""
        full = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {full}".strip()

    def to_json(self) -> Json:
        """Return what machines read."""
        return {
            "principal": {"kind": self.kind, "namespace": self.namespace or None, "name": self.name or None},
            "effect": "Deny" if self.denies else "Allow",
            "effective": self.effective,
            "by": self.source,
            "object": self.given_by,
            "note": self.note,
        }
