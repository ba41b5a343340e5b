"""Fetches who may use a key, and shows it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.contract.key_types import KeyState
from datakeys.kubectl import paths
from datakeys.kubectl.answers import Gap, Items, Json, list_items, name_of, namespace_of
from datakeys.kubectl.cluster import Cluster, fetch_all
from datakeys.kubectl.key_lookup import fetch_key
from datakeys.kubectl.key_names import status_of
from datakeys.kubectl.output import Colour, Console, clean
from datakeys.kubectl.who_can.key_policy import (
    Statement,
    find_denial,
    is_opened,
    list_policy_rights,
    parse_policy,
)
from datakeys.kubectl.who_can.objects import list_grant_rights, list_request_rights
from datakeys.kubectl.who_can.operations import parse_operation
from datakeys.kubectl.who_can.rbac import RbacObjects, list_rbac_rights
from datakeys.kubectl.who_can.rights import Right, Source

HEADERS: Final = ("WHO", "BY", "OBJECT", "NOTE")
_RBAC: Final = {
    "roles": "Roles",
    "clusterroles": "ClusterRoles",
    "rolebindings": "RoleBindings",
    "clusterrolebindings": "ClusterRoleBindings",
}


def run_who_can(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """Tell who may use a key; the status is 1 if nobody is found.

    Raises:
        UserError: There is no such operation.
        ClusterError: There is no such key, or no answer.
    """
    operations = parse_operation(arguments.operation)
    found = fetch_key(cluster, arguments.key, arguments.namespace)
    objects = _fetch_objects(cluster, namespace_of(found.key))
    rights = build_rights(found.key, found.aliases, objects, operations)
    hidden = [
        f"can't see {what}: {answer.message}" for what, answer in objects.items() if isinstance(answer, Gap)
    ]
    if arguments.output == "json":
        console.document(
            "WhoCan",
            {
                "key": {"namespace": namespace_of(found.key), "name": name_of(found.key)},
                "keyState": status_of(found.key).get("keyState"),
                "operations": list(operations),
                "items": [right.to_json() for right in rights],
                "unseen": hidden,
            },
        )
    else:
        _show(found.key, operations, rights, hidden, console)
    return 0 if any(right.effective and not right.denies for right in rights) else 1


def build_rights(
    key: Json, aliases: Sequence[Json], objects: dict[str, Items], operations: tuple[GrantOperation, ...]
) -> list[Right]:
    """Return all rights on a key, in the order in which the key service looks at them.

    Raises:
        UserError: The key's policy isn't a policy.
    """
    statements = parse_policy(key, operations)
    rbac = RbacObjects(
        roles=objects["Roles"],
        cluster_roles=objects["ClusterRoles"],
        role_bindings=objects["RoleBindings"],
        cluster_role_bindings=objects["ClusterRoleBindings"],
    )
    rights = [
        *list_policy_rights(statements, key),
        *list_request_rights(key, aliases, list_items(objects["DataKeyRequests"]), operations),
        *list_grant_rights(key, list_items(objects["KmsGrants"]), operations),
        *list_rbac_rights(key, aliases, rbac, operations, opened=is_opened(statements, namespace_of(key))),
    ]
    rights = [_deny(right, statements) for right in rights]
    order = list(Source)
    return sorted(rights, key=lambda one: (not one.denies, order.index(one.source), one.who, one.given_by))


def _deny(right: Right, statements: Sequence[Statement] | None) -> Right:
    """Return a right as the denials of the key policy leave it: they come before everything else."""
    denial = None if right.denies else find_denial(statements, right.kind, right.namespace, right.name)
    if denial is None:
        return right
    if denial.conditional:
        note = f"unless the conditions of statement {denial.label} deny it"
        return replace(right, note="; ".join(filter(None, (right.note, note))))
    note = f"without effect: denied by statement {denial.label} of the key policy"
    return replace(right, note=note, effective=False)


def _fetch_objects(cluster: Cluster, namespace: str) -> dict[str, Items]:
    """Fetch everything that gives rights, by what people call it."""
    calls: dict[str, Any] = {
        "DataKeyRequests": partial(_fetch_widely, cluster, paths.REQUESTS, namespace),
        "KmsGrants": partial(_fetch_widely, cluster, paths.GRANTS, namespace),
    }
    for plural, what in _RBAC.items():
        where = None if plural.startswith("cluster") else namespace
        calls[what] = partial(cluster.items, paths.build_path(paths.RBAC, plural, where))
    return fetch_all(calls)


def _fetch_widely(cluster: Cluster, plural: str, namespace: str) -> Items:
    """Return the objects of all namespaces, or of this one if only it may be seen."""
    everywhere = cluster.items(paths.build_path(paths.DATAKEYS, plural))
    if isinstance(everywhere, list):
        return everywhere
    return cluster.items(paths.build_path(paths.DATAKEYS, plural, namespace))


def _show(
    key: Json,
    operations: Sequence[GrantOperation],
    rights: Sequence[Right],
    hidden: Sequence[str],
    console: Console,
) -> None:
    state = status_of(key).get("keyState")
    console.line(f"{', '.join(operations)} with KmsKey {name_of(key)} in namespace {namespace_of(key)}:")
    if state != KeyState.ENABLED:
        text = f"The key is {state or 'not made yet'}: until it is Enabled nobody can use it."
        console.line(console.paint(text, Colour.YELLOW))
    rows = [
        (f"{'DENIED: ' if one.denies else ''}{one.who}", one.source, one.given_by, one.note) for one in rights
    ]
    if rows:
        console.table(HEADERS, rows)
    else:
        console.line("Nobody that you may see.")
    for line in hidden:
        console.line(console.paint(f"? {clean(line)}", Colour.YELLOW))
