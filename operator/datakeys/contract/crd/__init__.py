"""The custom resource definitions, as pure builders; ``hack/generate_crds.py`` writes them as YAML."""

from typing import Any

from datakeys.contract.crd.datakeyrequest import build_datakeyrequest_crd
from datakeys.contract.crd.kmsalias import build_kmsalias_crd
from datakeys.contract.crd.kmsgrant import build_kmsgrant_crd
from datakeys.contract.crd.kmskey import build_kmskey_crd

__all__ = [
    "build_all_crds",
    "build_datakeyrequest_crd",
    "build_kmsalias_crd",
    "build_kmsgrant_crd",
    "build_kmskey_crd",
]


def build_all_crds() -> dict[str, dict[str, Any]]:
    """Return every CustomResourceDefinition by its name."""
    crds = (build_kmskey_crd(), build_datakeyrequest_crd(), build_kmsalias_crd(), build_kmsgrant_crd())
    return {crd["metadata"]["name"]: crd for crd in crds}
