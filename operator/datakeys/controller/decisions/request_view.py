"""A DataKeyRequest and its Secret as the decisions see them. Zone: ciphertext only, no I/O."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from datakeys.contract.conditions import CONDITION_DRY_RUN, CONDITION_READY, Condition, find_condition
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.encryption_context import build_bound_context
from datakeys.contract.errors import KmsError


class ObjectKey(NamedTuple):
    """Namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RequestView:
    """A DataKeyRequest: its immutable spec and what its status says.

    Attributes:
        issued: The encrypted data key that the status holds, or None.
        damaged: The status has a ciphertextBlob, but it or its companions can't be read.
    """

    key: ObjectKey
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    key_id: str | None
    key_ref: str | None
    key_spec: str | None
    number_of_bytes: int | None
    user_context: Mapping[str, str]
    grant_tokens: tuple[str, ...]
    dry_run: bool
    service_account: str
    secret_name: str
    issued: EncryptedDataKey | None
    damaged: bool
    secret_ref: str | None
    observed_generation: int
    conditions: tuple[Mapping[str, Any], ...]

    @property
    def bound_context(self) -> dict[str, str]:
        """Return the full encryption context: the user's pairs and the reserved ones.

        Raises:
            ValidationError: A user pair has the reserved prefix.
        """
        return build_bound_context(
            self.user_context,
            namespace=self.key.namespace,
            request=self.key.name,
            service_account=self.service_account,
        )

    @property
    def outcome_condition(self) -> str:
        """Return the condition type that tells how the request ended."""
        return CONDITION_DRY_RUN if self.dry_run else CONDITION_READY

    @property
    def outcome(self) -> Condition | None:
        """Return the condition that tells how the request ended, or None."""
        return find_condition(self.conditions, self.outcome_condition)


def parse_request(body: Mapping[str, Any]) -> RequestView:
    """Return the view of a DataKeyRequest that the CRD's schema has accepted."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
    issued, damaged = _parse_issued(body)
    return RequestView(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        resource_version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        key_id=spec.get("keyId"),
        key_ref=(spec.get("keyRef") or {}).get("name"),
        key_spec=spec.get("keySpec"),
        number_of_bytes=spec.get("numberOfBytes"),
        user_context=spec.get("encryptionContext") or {},
        grant_tokens=tuple(spec.get("grantTokens") or ()),
        dry_run=bool(spec.get("dryRun")),
        service_account=spec["serviceAccountName"],
        secret_name=spec.get("secretName") or metadata["name"],
        issued=issued,
        damaged=damaged,
        secret_ref=(status.get("secretRef") or {}).get("name"),
        observed_generation=status.get("observedGeneration", 0),
        conditions=tuple(status.get("conditions") or ()),
    )


def _parse_issued(body: Mapping[str, Any]) -> tuple[EncryptedDataKey | None, bool]:
    """Return what the status holds, and whether it holds something that can't be read."""
    status = body.get("status") or {}
    text = status.get("ciphertextBlob")
    if not text:
        return None, False
    spec, metadata = body["spec"], body["metadata"]
    try:
        context = build_bound_context(
            spec.get("encryptionContext") or {},
            namespace=metadata["namespace"],
            request=metadata["name"],
            service_account=spec["serviceAccountName"],
        )
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, KmsError):
        return None, True
    if not blob or not status.get("keyId") or not status.get("keyMaterialId"):
        return None, True
    return EncryptedDataKey(blob, status["keyId"], status["keyMaterialId"], context), False
