"""KMS keys as other objects refer to them. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datakeys.contract.errors import NotFoundError
from datakeys.contract.key_types import KeyState
from datakeys.controller.decisions.re_encryption import NO_WISH, ReEncryptionWish, parse_wish
from datakeys.controller.decisions.request_view import ObjectKey


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a KmsKey says, as far as others depend on it.

    Attributes:
        material_id: The key's current material, or empty.
        told: ``status.reEncryption``, by which two states of a KmsKey don't differ.
    """

    key: ObjectKey
    uid: str
    key_id: str
    arn: str
    state: str
    material_id: str = ""
    wish: ReEncryptionWish = NO_WISH
    told: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def is_known(self) -> bool:
        """Return whether the key service has made the key."""
        return bool(self.arn)

    @property
    def is_enabled(self) -> bool:
        """Return whether the key can be used."""
        return self.state == KeyState.ENABLED


@dataclass(frozen=True, slots=True)
class ResolvedKey:
    """A KeyId for the key service, in any of its four forms."""

    key_id: str


@dataclass(frozen=True, slots=True)
class UnresolvedKey:
    """A reference that leads to no key for now."""

    reason: str
    message: str


KeyResolution = ResolvedKey | UnresolvedKey


def parse_key_facts(body: Mapping[str, Any]) -> KeyFacts:
    """Return the facts of a KmsKey."""
    metadata, status = body["metadata"], body.get("status") or {}
    return KeyFacts(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        key_id=status.get("keyId", ""),
        arn=status.get("arn", ""),
        state=status.get("keyState", ""),
        material_id=status.get("currentKeyMaterialId", ""),
        wish=parse_wish(body.get("spec") or {}),
        told=status.get("reEncryption") or {},
    )


def resolve_key(
    namespace: str, key_id: str | None, key_ref: str | None, keys: Mapping[ObjectKey, KeyFacts]
) -> KeyResolution:
    """Return the key that exactly one of a KeyId and a reference names.

    Args:
        namespace: Where the reference stands.
        key_id: A KeyId in any form, passed on as it is.
        key_ref: Name of a KmsKey in the namespace.
        keys: All KmsKeys.
    """
    if key_id is not None:
        return ResolvedKey(key_id)
    facts = keys.get(ObjectKey(namespace, key_ref or ""))
    if facts is None:
        return UnresolvedKey(
            NotFoundError.code,
            f"KmsKey {key_ref} doesn't exist in namespace {namespace}: create it; this continues by itself",
        )
    if not facts.is_known:
        return UnresolvedKey(
            NotFoundError.code,
            f"KmsKey {key_ref} isn't ready: see its conditions; this continues by itself once it is",
        )
    return ResolvedKey(facts.arn)
