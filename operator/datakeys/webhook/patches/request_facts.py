"""What the webhook needs to know of a DataKeyRequest. Zone: no secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The fields of one DataKeyRequest that decide about a pod."""

    secret_name: str
    service_account_name: str
    dry_run: bool = False

    @classmethod
    def from_object(cls, request: Mapping[str, Any]) -> Self:
        """Take the facts from an object of the API; its schema has been checked by the API server."""
        spec = request.get("spec") or {}
        return cls(
            secret_name=spec.get("secretName") or request["metadata"]["name"],
            service_account_name=spec.get("serviceAccountName", ""),
            dry_run=bool(spec.get("dryRun")),
        )
