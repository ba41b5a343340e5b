"""What the webhook needs to know of a DataKeyRequest. Zone: no secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The fields of one DataKeyRequest that decide about a pod.

    Attributes:
        secret_name: The Secret of the first version.
        version: The current version of the data key, from 1.
        oldest_version: The oldest one that new pods still get.
    """

    secret_name: str
    service_account_name: str
    dry_run: bool = False
    version: int = 1
    oldest_version: int = 1

    @classmethod
    def from_object(cls, request: Mapping[str, Any]) -> Self:
        """Take the facts from an object of the API; its schema has been checked by the API server."""
        spec = request.get("spec") or {}
        return cls(
            secret_name=spec.get("secretName") or request["metadata"]["name"],
            service_account_name=spec.get("serviceAccountName", ""),
            dry_run=bool(spec.get("dryRun")),
            version=spec.get("version", 1),
            oldest_version=spec.get("oldestVersion", 1),
        )
