"""The DataKeyRequests of the cluster as they were last seen, and which of them wait for something.

Zone: ciphertext only, no I/O. One instance, used by one event loop.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from datakeys.controller import metrics
from datakeys.controller.decisions.request_view import ObjectKey, RequestView
from datakeys.controller.decisions.versions import is_newer

Name = TypeVar("Name", ObjectKey, str)


class State(StrEnum):
    """How a request stands, for the metrics."""

    READY = "ready"
    FAILED = "failed"
    RETRYING = "retrying"


@dataclass(slots=True)
class _Entry:
    view: RequestView
    attempts: int = 0
    waiting: bool = False
    state: State | None = None
    unsure: bool = False


class RequestMemory:
    """What is known about every request."""

    def __init__(self) -> None:
        self._entries: dict[ObjectKey, _Entry] = {}
        self._by_secret: dict[ObjectKey, set[ObjectKey]] = {}
        self._by_key_arn: dict[str, set[ObjectKey]] = {}
        self._per_namespace: dict[str, int] = {}
        self._pending: set[ObjectKey] = set()

    def get(self, key: ObjectKey) -> RequestView | None:
        """Return a request as last seen."""
        entry = self._entries.get(key)
        return entry.view if entry else None

    def uids(self) -> list[tuple[ObjectKey, str]]:
        """Return names and UIDs of all requests."""
        return [(key, entry.view.uid) for key, entry in self._entries.items()]

    def observe(self, view: RequestView) -> tuple[bool, RequestView | None]:
        """Take a state of a request; return whether it is news, and the state before."""
        entry = self._entries.get(view.key)
        if entry is None:
            self._entries[view.key] = _Entry(view)
            self._index(view)
            self._per_namespace[view.key.namespace] = self._per_namespace.get(view.key.namespace, 0) + 1
            return True, None
        old = entry.view
        if not is_newer(view.resource_version, old.resource_version):
            return False, old
        if old.uid != view.uid:
            self.forget(view.key)
            return self.observe(view)
        if _facets(old) != _facets(view):
            self._unindex(old)
            self._index(view)
        entry.view = view
        return True, old

    def forget(self, key: ObjectKey) -> RequestView | None:
        """Forget a request that exists no more; return what was known."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        _count(entry.state, -1)
        self._pending.discard(key)
        self._unindex(entry.view)
        self._per_namespace[key.namespace] -= 1
        if not self._per_namespace[key.namespace]:
            del self._per_namespace[key.namespace]
        return entry.view

    def has_namespace(self, namespace: str) -> bool:
        """Return whether a namespace has requests."""
        return namespace in self._per_namespace

    def with_secret(self, secret: ObjectKey) -> Iterable[ObjectKey]:
        """Return the requests that want a Secret of this name."""
        return tuple(self._by_secret.get(secret, ()))

    def under_key(self, key_arn: str) -> Iterable[RequestView]:
        """Return the requests with a data key under a KMS key."""
        return [self._entries[key].view for key in self._by_key_arn.get(key_arn, ())]

    def pending(self) -> Iterable[RequestView]:
        """Return the requests whose outcome is open: in work, waiting for a retry or for another object."""
        return [entry.view for key in self._pending if (entry := self._entries.get(key)) is not None]

    def is_pending(self, key: ObjectKey) -> bool:
        """Return whether a request's outcome is open."""
        return key in self._pending

    def set_busy(self, key: ObjectKey) -> None:
        """Note that a request is in work: what changes from now on may be news to it."""
        self._pending.add(key)

    def set_idle(self, key: ObjectKey) -> None:
        """Note that a request is in work no more."""
        entry = self._entries.get(key)
        if entry is None or not (entry.waiting or entry.attempts):
            self._pending.discard(key)

    def count_failure(self, key: ObjectKey) -> int:
        """Return how many attempts have failed in a row, this one included."""
        entry = self._entries.get(key)
        if entry is None:
            return 1
        entry.attempts += 1
        return entry.attempts

    def set_waiting(self, key: ObjectKey, *, state: State) -> None:
        """Note that a request has reported a failure and waits."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.waiting = True
            _set_state(entry, state)

    def start_over(self, key: ObjectKey) -> None:
        """Note that something has changed: earlier failures don't count."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.attempts = 0

    def set_unsure(self, key: ObjectKey, *, unsure: bool) -> None:
        """Note that a write may have changed a request without an answer, or that it was read since."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.unsure = unsure

    def is_unsure(self, key: ObjectKey) -> bool:
        """Return whether a request may be another than was last seen, by a write of our own."""
        entry = self._entries.get(key)
        return entry is not None and entry.unsure

    def set_done(self, key: ObjectKey) -> None:
        """Note that a request is as it should be."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.attempts, entry.waiting = 0, False
            _set_state(entry, State.READY)

    def _index(self, view: RequestView) -> None:
        for secret in _secrets_of(view):
            self._by_secret.setdefault(secret, set()).add(view.key)
        for key_arn in _key_arns_of(view):
            self._by_key_arn.setdefault(key_arn, set()).add(view.key)

    def _unindex(self, view: RequestView) -> None:
        for secret in _secrets_of(view):
            _discard(self._by_secret, secret, view.key)
        for key_arn in _key_arns_of(view):
            _discard(self._by_key_arn, key_arn, view.key)


def _secrets_of(view: RequestView) -> list[ObjectKey]:
    return [ObjectKey(view.key.namespace, name) for name in view.secret_names]


def _key_arns_of(view: RequestView) -> set[str]:
    return {version.encrypted.key_arn for version in view.versions}


def _facets(view: RequestView) -> tuple[object, ...]:
    return (_secrets_of(view), _key_arns_of(view))


def _discard(index: dict[Name, set[ObjectKey]], name: Name, key: ObjectKey) -> None:
    index[name].discard(key)
    if not index[name]:
        del index[name]


def _set_state(entry: _Entry, state: State) -> None:
    if entry.state is not state:
        _count(entry.state, -1)
        _count(state, 1)
        entry.state = state


def _count(state: State | None, step: int) -> None:
    if state is not None:
        metrics.REQUESTS.labels(state.value).inc(step)
