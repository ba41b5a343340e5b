"""What the controller puts into every namespace with requests, apart from Secrets.

Zone: no secrets, no I/O.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from datakeys.contract.identity import LABEL_MANAGED_BY, MANAGED_BY, TRUST_BUNDLE_CONFIG_MAP

ROLE_BINDING: Final = "datakeys-controller"
CLUSTER_ROLE: Final = "datakeys-controller-namespaced"
FOREIGN_ROLE_BINDING: Final = (
    f"RoleBinding {ROLE_BINDING} of this namespace isn't the one the controller makes: delete it"
)
_RBAC: Final = "rbac.authorization.k8s.io"


def build_role_binding(namespace: str, *, service_account: str, system_namespace: str) -> dict[str, Any]:
    """Return the RoleBinding by which the controller gets its rights in a namespace."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": ROLE_BINDING,
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        },
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": CLUSTER_ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": service_account, "namespace": system_namespace}],
    }


def binds_alike(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a RoleBinding gives the wanted role to the wanted subject."""
    roles = [{name: binding["roleRef"].get(name) for name in ("kind", "name")} for binding in (found, wanted)]
    subjects = found.get("subjects") or ()
    return roles[0] == roles[1] and all(_is_among(subject, subjects) for subject in wanted["subjects"])


def _is_among(subject: Mapping[str, Any], subjects: Sequence[Mapping[str, Any]]) -> bool:
    return any(all(other.get(name) == value for name, value in subject.items()) for other in subjects)


def build_trust_bundle(namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return a namespace's copy of the trust bundle."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": TRUST_BUNDLE_CONFIG_MAP,
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
        },
        "data": dict(data),
    }


def update_trust_bundle(current: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the copy brought up to date, with its resourceVersion; None if it is."""
    if (current.get("data") or {}) == dict(data):
        return None
    return {**current, "data": dict(data)}
