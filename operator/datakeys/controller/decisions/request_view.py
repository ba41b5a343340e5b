"""A DataKeyRequest and its Secret as the decisions see them. Zone: ciphertext only, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from datakeys.contract.conditions import CONDITION_DRY_RUN, CONDITION_READY, Condition, find_condition
from datakeys.contract.data_key_versions import FIRST_VERSION, build_version_secret_name
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.encryption_context import build_bound_context
from datakeys.contract.errors import KmsError
from datakeys.controller.decisions.data_key_versions import DataKeyVersion, parse_versions


class ObjectKey(NamedTuple):
    """Namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RequestView:
    """A DataKeyRequest: its spec, of which only the versions change, and what its status says.

    Attributes:
        version: The version that is asked for; those before it are asked for too.
        versions: What the status holds, in the order of their numbers; the last one is the current one.
        damaged: The status holds a ciphertext that can't be read, or lacks a part of it.
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
    version: int
    versions: tuple[DataKeyVersion, ...]
    damaged: bool
    secret_ref: str | None
    observed_generation: int
    conditions: tuple[Mapping[str, Any], ...]

    @property
    def issued(self) -> EncryptedDataKey | None:
        """Return the current encrypted data key that the status holds, or None."""
        return self.versions[-1].encrypted if self.versions else None

    @property
    def next_version(self) -> int | None:
        """Return the number of the version that is to be made next, or None if all are there."""
        issued = len(self.versions)
        return issued + 1 if issued < self.version else None

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the Secrets of all versions, made or not."""
        last = max(self.version, len(self.versions))
        return tuple(
            build_version_secret_name(self.secret_name, version) for version in range(FIRST_VERSION, last + 1)
        )

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
    secret_name = spec.get("secretName") or metadata["name"]
    versions, damaged = _parse_issued(body, secret_name)
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
        secret_name=secret_name,
        version=spec.get("version", FIRST_VERSION),
        versions=versions,
        damaged=damaged,
        secret_ref=(status.get("secretRef") or {}).get("name"),
        observed_generation=status.get("observedGeneration", 0),
        conditions=tuple(status.get("conditions") or ()),
    )


def _parse_issued(body: Mapping[str, Any], secret_name: str) -> tuple[tuple[DataKeyVersion, ...], bool]:
    """Return what the status holds, and whether it holds something that can't be read."""
    spec, metadata = body["spec"], body["metadata"]
    try:
        context = build_bound_context(
            spec.get("encryptionContext") or {},
            namespace=metadata["namespace"],
            request=metadata["name"],
            service_account=spec["serviceAccountName"],
        )
        return parse_versions(body.get("status") or {}, secret_name=secret_name, context=context), False
    except KmsError:
        return (), bool((body.get("status") or {}).get("ciphertextBlob"))
    except ValueError:
        return (), True
