"""Fetches the KmsKey that a person names. Zone: reads only."""

import contextlib
from dataclasses import dataclass

from datakeys.contract.arn import Arn
from datakeys.kubectl import paths
from datakeys.kubectl.answers import REASON_NOT_FOUND, ClusterError, Gap, Json, list_items
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.key_names import find_key


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A KmsKey and the KmsAliases of its namespace."""

    key: Json
    aliases: list[Json]


def fetch_key(cluster: Cluster, text: str, namespace: str) -> FoundKey:
    """Return the KmsKey that a text names: by name, key id, ARN, alias or alias ARN.

    Raises:
        ClusterError: There is none, or it can't be seen.
    """
    with contextlib.suppress(ValueError):
        namespace = Arn.parse(text).account
    found = cluster.collections(namespace, paths.KEYS, paths.ALIASES)
    keys, aliases = found[paths.KEYS], list_items(found[paths.ALIASES])
    if isinstance(keys, Gap):
        raise ClusterError("Forbidden", keys.message)
    key = find_key(text, namespace, keys, aliases)
    if key is None:
        raise ClusterError(REASON_NOT_FOUND, f"no KmsKey in namespace {namespace} is named by {text!r}")
    return FoundKey(key, aliases)
