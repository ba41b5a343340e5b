"""Rights by Kubernetes RBAC: ``create`` on the virtual subresources of kmskeys.

Zone: no I/O. Source: docs/authorization.md; Kubernetes "Using RBAC Authorization".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.contract.identity import GROUP
from datakeys.kubectl.answers import Items, Json, list_items, name_of, namespace_of
from datakeys.kubectl.key_names import list_alias_names, status_of
from datakeys.kubectl.paths import KEYS
from datakeys.kubectl.who_can.operations import DECRYPT
from datakeys.kubectl.who_can.rights import Right, Source

_ALL: Final = "*"
_VERB: Final = "create"
#: The one operation that the API server asks about too, with the name that the DataKeyRequest writes.
_ADMITTED: Final = GrantOperation.GENERATE_DATA_KEY_WITHOUT_PLAINTEXT


@dataclass(frozen=True, slots=True)
class RbacObjects:
    """The roles and bindings that decide in the key's namespace."""

    roles: Items
    cluster_roles: Items
    role_bindings: Items
    cluster_role_bindings: Items


def list_rbac_rights(
    key: Json,
    aliases: Sequence[Json],
    objects: RbacObjects,
    operations: Sequence[GrantOperation],
    *,
    opened: bool,
) -> Iterator[Right]:
    """Give the subjects of all bindings to a role that allows one of the operations on the key.

    ``opened`` tells whether the key policy lets the key's namespace decide at all.
    """
    namespace = namespace_of(key)
    names = {name_of(key)}
    if _ADMITTED in operations:
        names |= {str(status_of(key).get("keyId")), *list_alias_names(key, aliases)}
    allowing = {
        (kind, name_of(role))
        for kind, roles in (("Role", objects.roles), ("ClusterRole", objects.cluster_roles))
        for role in list_items(roles)
        if any(allows(rule, operations, names) for rule in role.get("rules") or ())
    }
    for binding in [*list_items(objects.role_bindings), *list_items(objects.cluster_role_bindings)]:
        role = binding["roleRef"]
        if (role["kind"], role["name"]) not in allowing:
            continue
        for subject in binding.get("subjects") or ():
            yield _build_right(subject, binding, namespace, operations, opened=opened)


def allows(rule: Mapping[str, Sequence[str]], operations: Sequence[str], names: set[str]) -> bool:
    """Return whether an RBAC rule allows one of the operations on a key of one of these names."""
    resources = {form for one in operations for form in (f"{KEYS}/{one.lower()}", f"*/{one.lower()}")} | {
        _ALL
    }
    listed = rule.get("resourceNames") or ()
    return (
        bool({GROUP, _ALL} & set(rule.get("apiGroups") or ()))
        and bool({_VERB, _ALL} & set(rule.get("verbs") or ()))
        and bool(resources & set(rule.get("resources") or ()))
        and (not listed or bool(names & set(listed)))
    )


def _build_right(
    subject: Json, binding: Json, namespace: str, operations: Sequence[GrantOperation], *, opened: bool
) -> Right:
    kind, role = subject["kind"], binding["roleRef"]
    home = subject.get("namespace", "") if kind == "ServiceAccount" else ""
    abroad = bool(home) and home != namespace
    where = f"{binding['metadata'].get('namespace')}/" if binding["metadata"].get("namespace") else ""
    return Right(
        kind=kind,
        namespace=home,
        name=subject["name"],
        source=Source.RBAC,
        given_by=f"{where}{name_of(binding)} → {role['kind']} {role['name']}",
        note=_tell_limits(kind, namespace, operations, abroad=abroad, opened=opened),
        effective=opened and not abroad,
    )


def _tell_limits(
    kind: str, namespace: str, operations: Sequence[GrantOperation], *, abroad: bool, opened: bool
) -> str:
    if not opened:
        return f"without effect: the key policy doesn't leave it to RBAC of namespace {namespace}"
    if abroad:
        return "without effect: a ServiceAccount needs the right in its own namespace"
    if DECRYPT in operations:
        return "never a data key of a DataKeyRequest"
    if kind == "ServiceAccount" or operations == (_ADMITTED,):
        return ""
    return "may hand it on and create DataKeyRequests; only ServiceAccounts call the key service"
