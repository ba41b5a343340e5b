"""The key service's answers as the controller sees them. Zone: no secrets, no I/O: answers in, types out.

Source: AWS KMS API, shapes of the answers. An answer that can't be read counts as a service that can't be
reached: it is tried again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from datakeys.contract.errors import KeyUnavailableError
from datakeys.contract.key_types import KeyOrigin, KeySpec

T = TypeVar("T")
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeyMetadata:
    """A KMS key as CreateKey and DescribeKey describe it; dates in seconds since the epoch."""

    key_id: str
    arn: str
    state: str
    creation_date: float
    deletion_date: float | None
    current_key_material_id: str | None
    description: str = ""
    valid_to: float | None = None
    key_spec: str = KeySpec.SYMMETRIC_DEFAULT
    origin: str = KeyOrigin.AWS_KMS

    @property
    def can_rotate(self) -> bool:
        """Return whether the key material can be rotated automatically."""
        return self.key_spec == KeySpec.SYMMETRIC_DEFAULT and self.origin == KeyOrigin.AWS_KMS

    @property
    def makes_data_keys(self) -> bool:
        """Return whether the key can make data keys at all."""
        return self.key_spec == KeySpec.SYMMETRIC_DEFAULT and self.origin in (
            KeyOrigin.AWS_KMS,
            KeyOrigin.EXTERNAL,
        )


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """Whether a key is rotated automatically; period in days, date in seconds since the epoch."""

    enabled: bool
    period_days: int | None = None
    next_date: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What CreateGrant returns."""

    grant_id: str
    grant_token: str


@dataclass(frozen=True, slots=True)
class ChangedKey:
    """A key that has changed; ``object_name`` is empty if it wasn't made for a KmsKey."""

    account: str
    object_name: str
    key_id: str


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """Keys that have changed; with ``resync``, any key may have."""

    keys: tuple[ChangedKey, ...]
    cursor: str
    resync: bool


def _readable(parse: Callable[[Answer], T]) -> Callable[[Answer], T]:
    @wraps(parse)
    def parse_or_raise(answer: Answer) -> T:
        try:
            return parse(answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise KeyUnavailableError("the key service's answer can't be read") from None

    return parse_or_raise


@_readable
def parse_metadata(answer: Answer) -> KeyMetadata:
    """Return the ``KeyMetadata`` of an answer.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    metadata = answer["KeyMetadata"]
    return KeyMetadata(
        key_id=metadata["KeyId"],
        arn=metadata["Arn"],
        state=metadata["KeyState"],
        creation_date=float(metadata["CreationDate"]),
        deletion_date=metadata.get("DeletionDate"),
        current_key_material_id=metadata.get("CurrentKeyMaterialId"),
        description=metadata.get("Description") or "",
        valid_to=metadata.get("ValidTo"),
        key_spec=metadata.get("KeySpec") or KeySpec.SYMMETRIC_DEFAULT,
        origin=metadata.get("Origin") or KeyOrigin.AWS_KMS,
    )


@_readable
def parse_rotation(answer: Answer) -> KeyRotation:
    """Return the answer of GetKeyRotationStatus.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    if not answer["KeyRotationEnabled"]:
        return KeyRotation(enabled=False)
    return KeyRotation(
        enabled=True, period_days=answer.get("RotationPeriodInDays"), next_date=answer.get("NextRotationDate")
    )


@_readable
def parse_tags(answer: Answer) -> dict[str, str]:
    """Return the answer of ListResourceTags.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    return {tag["TagKey"]: tag["TagValue"] for tag in answer.get("Tags") or ()}


@_readable
def parse_policy(answer: Answer) -> str:
    """Return the answer of GetKeyPolicy.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    return str(answer["Policy"])


@_readable
def parse_grant(answer: Answer) -> Grant:
    """Return the answer of CreateGrant.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    return Grant(answer["GrantId"], answer["GrantToken"])


@_readable
def parse_changes(answer: Answer) -> KeyChanges:
    """Return the answer of WatchKeys.

    Raises:
        KeyUnavailableError: It can't be read.
    """
    keys = tuple(ChangedKey(key["Account"], key["ObjectName"], key["KeyId"]) for key in answer["Keys"])
    return KeyChanges(keys, str(answer["Cursor"]), bool(answer["Resync"]))
