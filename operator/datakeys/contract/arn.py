"""ARNs and the four forms of a KeyId.

Zone: no secrets, no I/O. Account = namespace, Region = cluster name:
``arn:k8s:kms:<cluster>:<namespace>:key/<uuid>``. Source: AWS KMS API, parameter KeyId.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from datakeys.contract.errors import NotFoundError, ValidationError

PARTITION: Final = "k8s"
KEY_ID_PATTERN: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ALIAS_NAME_PATTERN: Final = r"alias/[a-zA-Z0-9/_-]+"
MAX_KEY_ID_LENGTH: Final = 2048
MAX_ALIAS_LENGTH: Final = 256
RESERVED_ALIAS_PREFIX: Final = "alias/aws/"

_KEY_ID = re.compile(KEY_ID_PATTERN)
_ALIAS = re.compile(ALIAS_NAME_PATTERN)


class ResourceKind(StrEnum):
    """What an ARN of this service names."""

    KEY = "key"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Arn:
    """A parsed ARN. ``name`` is the key id, or the alias name with its prefix ``alias/``."""

    partition: str
    region: str
    account: str
    kind: ResourceKind
    name: str

    def __str__(self) -> str:
        """Return the ARN's text."""
        resource = f"key/{self.name}" if self.kind is ResourceKind.KEY else self.name
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:{resource}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a key ARN or an alias ARN.

        Raises:
            ValueError: ``text`` is neither.
        """
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or parts[2] != "kms" or not all(parts[1:5]):  # noqa: PLR2004
            raise ValueError("not an ARN of this service")
        _, partition, _, region, account, resource = parts
        if resource.startswith("key/") and _KEY_ID.fullmatch(resource[4:]):
            return cls(partition, region, account, ResourceKind.KEY, resource[4:])
        if _ALIAS.fullmatch(resource):
            return cls(partition, region, account, ResourceKind.ALIAS, resource)
        raise ValueError("the ARN names neither a key nor an alias")


def build_key_arn(region: str, account: str, key_id: str, *, partition: str = PARTITION) -> str:
    """Return the ARN of a key."""
    return str(Arn(partition, region, account, ResourceKind.KEY, key_id))


def build_alias_arn(region: str, account: str, alias_name: str, *, partition: str = PARTITION) -> str:
    """Return the ARN of an alias; ``alias_name`` has its prefix ``alias/``."""
    return str(Arn(partition, region, account, ResourceKind.ALIAS, alias_name))


def parse_key_id(text: str, *, region: str, account: str, partition: str = PARTITION) -> Arn:
    """Resolve any of the four forms of a KeyId, relative to the caller's account.

    Args:
        text: Key id, key ARN, alias name or alias ARN, 1..2048 characters.
        region: The service's Region (cluster name).
        account: The caller's account (namespace).
        partition: The service's partition.

    Raises:
        ValidationError: The length is out of bounds.
        NotFoundError: The text has none of the four forms, or another Region or partition.
    """
    if not 1 <= len(text) <= MAX_KEY_ID_LENGTH:
        bound = "greater than or equal to 1" if not text else f"less than or equal to {MAX_KEY_ID_LENGTH}"
        raise ValidationError(
            f"1 validation error detected: Value '{text[:64]}' at 'keyId' failed to satisfy constraint: "
            f"Member must have length {bound}"
        )
    if _KEY_ID.fullmatch(text):
        return Arn(partition, region, account, ResourceKind.KEY, text)
    if _ALIAS.fullmatch(text):
        return Arn(partition, region, account, ResourceKind.ALIAS, text)
    try:
        arn = Arn.parse(text)
    except ValueError:
        raise NotFoundError(f"Invalid keyId {text}") from None
    if (arn.partition, arn.region) != (partition, region):
        raise NotFoundError(f"Invalid keyId {text}")
    return arn
