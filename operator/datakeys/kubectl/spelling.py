"""Annotations of this project that don't exist: misspelt ones ask for nothing, in silence. Zone: no I/O."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from datakeys.contract.identity import ANNOTATION_INJECTED, ANNOTATION_WORKLOAD, GROUP, USER_ANNOTATIONS

_PREFIX: Final = f"{GROUP}/"
_KNOWN: Final = frozenset({*USER_ANNOTATIONS, ANNOTATION_WORKLOAD, ANNOTATION_INJECTED})


def find_misspelt(annotations: Iterable[str]) -> list[tuple[str, str]]:
    """Return what is wrong with each unknown annotation of the project's prefix, and the next step."""
    unknown = sorted(one for one in set(annotations) if one.startswith(_PREFIX) and one not in _KNOWN)
    return [(f"annotation {one} is unknown and has no effect", _advise(one)) for one in unknown]


def _advise(name: str) -> str:
    names = [one.removeprefix(_PREFIX) for one in USER_ANNOTATIONS]
    near = get_close_matches(name.removeprefix(_PREFIX).lower(), names, n=1, cutoff=0.7)
    return (
        f"write {_PREFIX}{near[0]}" if near else "take it out: see docs/workloads.md for those that there are"
    )
