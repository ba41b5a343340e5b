"""Fetches what the lists show, and shows it."""

import argparse
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial

from datakeys.kubectl import paths
from datakeys.kubectl.answers import ClusterError, Gap, GapKind, Items, Json
from datakeys.kubectl.cluster import Cluster, SecretRow, fetch_all
from datakeys.kubectl.listing import keys, requests
from datakeys.kubectl.output import Console


def run_keys(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """List the KmsKeys.

    Raises:
        ClusterError: They can't be seen.
    """
    scope = arguments.scope
    found = cluster.collections(scope, paths.KEYS, paths.ALIASES, paths.REQUESTS)
    items = keys.build_key_items(_require(found[paths.KEYS]), found[paths.ALIASES], found[paths.REQUESTS])
    now = datetime.now(UTC)
    rows = [keys.build_key_row(item, now) for item in items]
    _show(arguments, console, "KeyList", items, keys.HEADERS, rows)
    return 0


def run_requests(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """List the DataKeyRequests.

    Raises:
        ClusterError: They can't be seen.
    """
    scope = arguments.scope
    found = cluster.collections(scope, paths.KEYS, paths.ALIASES, paths.REQUESTS)
    listed = _require(found[paths.REQUESTS])
    around = requests.Surroundings(
        keys=found[paths.KEYS],
        aliases=found[paths.ALIASES],
        secrets=_group(cluster.secrets(scope), scope),
        workloads=fetch_all(
            {
                kind: partial(cluster.items, paths.workload_path(kind, scope))
                for kind in requests.list_workload_kinds(listed)
                if kind in paths.WORKLOADS
            }
        ),
    )
    items = requests.build_request_items(listed, around)
    now = datetime.now(UTC)
    rows = [requests.build_request_row(item, now) for item in items]
    _show(arguments, console, "RequestList", items, requests.HEADERS, rows)
    return 0


def _require(items: Items) -> list[Json]:
    if isinstance(items, Gap):
        raise ClusterError("NotFound" if items.kind is GapKind.MISSING else "Forbidden", items.message)
    return items


def _group(rows: list[SecretRow] | Gap, scope: str | None) -> dict[str, frozenset[str]] | None:
    """Return the names of Secrets by namespace."""
    if isinstance(rows, Gap):
        return None
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        namespace, _, name = row.name.rpartition("/")
        names[namespace or scope or ""].add(name)
    return {namespace: frozenset(found) for namespace, found in names.items()}


def _show(
    arguments: argparse.Namespace,
    console: Console,
    kind: str,
    items: list[Json],
    headers: tuple[str, ...],
    rows: list[list[str]],
) -> None:
    if arguments.output == "json":
        console.document(kind, {"items": items})
    elif not items:
        where = "any namespace" if arguments.scope is None else f"namespace {arguments.scope}"
        console.line(f"None found in {where}.")
    elif arguments.scope is None:
        pairs = zip(items, rows, strict=True)
        console.table(("NAMESPACE", *headers), [[item["namespace"], *row] for item, row in pairs])
    else:
        console.table(headers, rows)
