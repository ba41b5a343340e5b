"""Reads the tables of docs/rbac.md and RBAC objects into the same set of single permissions.

Zone: tests. One permission is one verb on one resource: two spellings of the same rights compare equal.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "rbac.md"
COLUMNS: Final = ["scope", "apiGroup", "resource", "resourceNames", "verbs", "why"]

CLUSTER: Final = "cluster"
SYSTEM_NAMESPACE: Final = "system namespace"
NAMESPACES_WITH_REQUESTS: Final = "namespaces with requests"
AGGREGATED: Final = "aggregated"
#: In place of an API group: the row is about URLs of the API server.
URLS: Final = "-"


class Permission(NamedTuple):
    """One verb on one resource. URLs of the API server are resources of the group URLS."""

    api_group: str
    resource: str
    resource_name: str
    verb: str


class Row(NamedTuple):
    """One line of a table."""

    subject: str
    scope: str
    permissions: frozenset[Permission]
    why: str


def read_table(document: Path = DOCUMENT) -> list[Row]:
    """Return all rows; ``subject`` is the heading they stand under.

    Raises:
        ValueError: A table has other columns, or a row another number of cells.
    """
    rows = []
    subject = ""
    for line in document.read_text().splitlines():
        if heading := re.fullmatch(r"##+ (.+)", line):
            subject = heading.group(1)
        elif line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) != len(COLUMNS):
                raise ValueError(f"not {len(COLUMNS)} cells under {subject}: {line}")
            if cells[0] == COLUMNS[0]:
                if cells != COLUMNS:
                    raise ValueError(f"unknown columns under {subject}: {line}")
                continue
            rows.append(_parse_row(subject, cells))
    return rows


def documented(rows: Iterable[Row], subject: str, *scopes: str) -> set[Permission]:
    """Return the permissions of one subject in these scopes; several scopes are joined."""
    found = [row.permissions for row in rows if row.subject == subject and row.scope in scopes]
    return set().union(*found)


def _parse_row(subject: str, cells: list[str]) -> Row:
    scope, group, resources, names, verbs, why = cells
    rule = {
        "apiGroups": ["" if group == "core" else group],
        "resources": _words(resources),
        "resourceNames": [] if names in {"*", URLS} else _words(names),
        "verbs": _words(verbs),
    }
    return Row(subject, scope, frozenset(flatten([rule])), why)


def _words(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(",")]


def flatten(rules: Iterable[Mapping[str, Any]]) -> set[Permission]:
    """Split RBAC rules, resource and non-resource ones, into single permissions."""
    permissions = set()
    for rule in rules:
        for verb in rule["verbs"]:
            for url in rule.get("nonResourceURLs") or []:
                permissions.add(Permission(URLS, url, "*", verb))
            for group in rule.get("apiGroups") or []:
                for resource in rule.get("resources") or []:
                    for name in rule.get("resourceNames") or ["*"]:
                        permissions.add(Permission(group, resource, name, verb))
    return permissions
