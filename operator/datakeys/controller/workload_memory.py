"""The annotated workloads of the cluster as they were last seen, and how they stand.

Zone: no secrets, no I/O. One instance, used by one event loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from datakeys.contract.identity import LABEL_MANAGED_BY
from datakeys.controller import metrics
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.workload_view import WorkloadView


class WorkloadState(StrEnum):
    """How a workload stands, for the metrics."""

    SETTLED = "settled"
    PROBLEM = "problem"
    RETRYING = "retrying"


@dataclass(slots=True)
class _Entry:
    view: WorkloadView
    attempts: int = 0
    state: WorkloadState | None = None
    told: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Request:
    """A request that somebody asks for: what is known of it, and who asks."""

    facts: tuple[Any, ...] | None = None
    askers: set[ObjectKey] = field(default_factory=set)


class WorkloadMemory:
    """What is known about every workload. Its keys are names of the queue: ``namespace``, ``Kind/name``."""

    def __init__(self) -> None:
        self._entries: dict[ObjectKey, _Entry] = {}
        self._requests: dict[ObjectKey, _Request] = {}

    def get(self, key: ObjectKey) -> WorkloadView | None:
        """Return a workload as last seen."""
        entry = self._entries.get(key)
        return entry.view if entry else None

    def observe(self, key: ObjectKey, view: WorkloadView) -> bool:
        """Take a state of a workload; return whether it asks for something else than before."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(view)
            return True
        changed = entry.view != view
        entry.view = view
        if changed:
            entry.attempts = 0
        return changed

    def forget(self, key: ObjectKey) -> list[tuple[str, str]]:
        """Forget a workload; return names and UIDs of its requests, as far as they are known to exist."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        _count(entry.state, -1)
        known = [
            (name, request.facts[0])
            for name in sorted(entry.requests)
            if (request := self._requests[ObjectKey(key.namespace, name)]).facts is not None
        ]
        self._release(key, entry.requests)
        return known

    def ask_for(self, key: ObjectKey, names: Iterable[str]) -> None:
        """Note which requests a workload asks for, so that it is told when one of them changes."""
        entry = self._entries.get(key)
        if entry is None:
            return
        wanted = frozenset(names)
        self._release(key, entry.requests - wanted)
        entry.requests = wanted
        for name in wanted:
            self._requests.setdefault(ObjectKey(key.namespace, name), _Request()).askers.add(key)

    def observe_request(self, body: Mapping[str, Any]) -> tuple[ObjectKey, ...]:
        """Take a state of a DataKeyRequest; return the workloads to which it is news."""
        metadata = body["metadata"]
        request = self._requests.get(ObjectKey(metadata["namespace"], metadata["name"]))
        if request is None:
            return ()
        before, request.facts = request.facts, _facts_of(metadata)
        return () if before == request.facts else tuple(request.askers)

    def forget_request(self, key: ObjectKey) -> tuple[ObjectKey, ...]:
        """Take it that a DataKeyRequest is gone; return the workloads to which it is news."""
        request = self._requests.get(key)
        if request is None:
            return ()
        request.facts = None
        return tuple(request.askers)

    def count_failure(self, key: ObjectKey) -> int:
        """Return how many attempts have failed in a row, this one included."""
        entry = self._entries.get(key)
        if entry is None:
            return 1
        entry.attempts += 1
        _set_state(entry, WorkloadState.RETRYING)
        return entry.attempts

    def settle(self, key: ObjectKey, state: WorkloadState | None) -> None:
        """Note that all that can be done for a workload is done; None: it asks for nothing."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.attempts = 0
            _set_state(entry, state)

    def find_untold(self, key: ObjectKey, messages: Iterable[str]) -> frozenset[str]:
        """Return which of a workload's present messages are new; what isn't among them counts as over."""
        entry, present = self._entries.get(key), frozenset(messages)
        if entry is None:
            return frozenset()
        untold, entry.told = present - entry.told, present
        return untold

    def _release(self, key: ObjectKey, names: Iterable[str]) -> None:
        for name in names:
            request = self._requests[ObjectKey(key.namespace, name)]
            request.askers.discard(key)
            if not request.askers:
                del self._requests[ObjectKey(key.namespace, name)]


def _facts_of(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a workload's next step depends on; the spec is immutable. The UID comes first."""
    label = (metadata.get("labels") or {}).get(LABEL_MANAGED_BY)
    return metadata["uid"], label, metadata.get("ownerReferences") or [], "deletionTimestamp" in metadata


def _set_state(entry: _Entry, state: WorkloadState | None) -> None:
    if entry.state is not state:
        _count(entry.state, -1)
        _count(state, 1)
        entry.state = state


def _count(state: WorkloadState | None, step: int) -> None:
    if state is not None:
        metrics.WORKLOADS.labels(state.value).inc(step)
