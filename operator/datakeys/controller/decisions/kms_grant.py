"""The members of CreateGrant for a KmsGrant. Zone: no secrets, no I/O."""

from collections.abc import Mapping
from typing import Any

from datakeys.contract.identity import service_account_principal


def build_create_grant_parameters(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], key_id: str
) -> dict[str, Any]:
    """Return the members of CreateGrant; the object's UID as name makes the call safe to repeat."""
    namespace = metadata["namespace"]
    parameters: dict[str, Any] = {
        "KeyId": key_id,
        "GranteePrincipal": _principal(spec["granteePrincipal"], namespace),
        "Operations": list(spec["operations"]),
        "Name": metadata["uid"],
    }
    if spec.get("retiringPrincipal"):
        parameters["RetiringPrincipal"] = _principal(spec["retiringPrincipal"], namespace)
    constraints = spec.get("constraints") or {}
    names = {
        "encryptionContextEquals": "EncryptionContextEquals",
        "encryptionContextSubset": "EncryptionContextSubset",
    }
    chosen = {there: dict(constraints[here]) for here, there in names.items() if constraints.get(here)}
    if chosen:
        parameters["Constraints"] = chosen
    return parameters


def _principal(reference: Mapping[str, Any], default_namespace: str) -> str:
    return service_account_principal(
        reference.get("namespace") or default_namespace, reference["serviceAccountName"]
    )
