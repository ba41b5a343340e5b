"""Turns changes of objects into work for requests. Zone: ciphertext only, no I/O.

This is what makes polling needless: whatever can change the outcome of a request leads to it from here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import ObjectKey, RequestView
from datakeys.controller.decisions.triggers import (
    KeyNames,
    alias_name_of,
    changes_outcome,
    find_alias,
    is_relevant_change,
    waits_for_key,
)
from datakeys.controller.kube.namespace_access import NamespaceAccess
from datakeys.controller.kube.secret_memory import SecretMemory
from datakeys.controller.request_memory import RequestMemory
from datakeys.controller.work_queue import WorkQueue


@dataclass(frozen=True)
class Wakeups:
    """The one place that adds requests to the queue."""

    requests: RequestMemory
    queue: WorkQueue
    secrets: SecretMemory
    access: NamespaceAccess
    _seen: dict[str, str] = field(default_factory=dict)

    def on_request(self, view: RequestView) -> None:
        """Take a state of a request."""
        is_news, old = self.requests.observe(view)
        if is_news and is_relevant_change(old, view, pending=self.requests.is_pending(view.key)):
            self._wake(view.key)

    def on_request_gone(self, key: ObjectKey, uid: str) -> None:
        """Forget a request, and its namespace with the last one."""
        known = self.requests.get(key)
        if known is None or known.uid != uid:
            return
        self.requests.forget(key)
        self.queue.forget(key)
        for name in known.secret_names:
            self.secrets.stop_awaiting(ObjectKey(key.namespace, name), key)
        if not self.requests.has_namespace(key.namespace):
            self.secrets.forget(key.namespace)
            self.access.forget(key.namespace)

    def on_key(self, old: KeyFacts | None, new: KeyFacts) -> None:
        """Take a change of a KmsKey."""
        if changes_outcome(old, new):
            self.on_changed_keys([new])

    def on_changed_keys(self, changed: Iterable[KeyFacts]) -> None:
        """Take changes of keys that the key service tells about: of their state, their policy, anything.

        A key may have no KmsKey, or a request may name it from another namespace.
        """
        names = KeyNames.of(changed)
        self._wake_pending(lambda request: waits_for_key(request, names))

    def on_alias(self, body: Mapping[str, Any]) -> None:
        """Take a state of a KmsAlias."""
        namespace, alias_name = body["metadata"]["namespace"], alias_name_of(body)
        if self._is_news(body, (body.get("status") or {}).get("targetKeyArn", "")):
            self._wake_pending(lambda request: find_alias(request) == (namespace, alias_name))

    def on_grant(self, body: Mapping[str, Any]) -> None:
        """Take a state of a KmsGrant; which requests it can help is the key service's business."""
        namespace = body["metadata"]["namespace"]
        if self._is_news(body, (body.get("status") or {}).get("grantId", "")):
            self._wake_pending(lambda request: request.key.namespace == namespace)

    def forget(self, body: Mapping[str, Any]) -> None:
        """Forget a KmsAlias or a KmsGrant that exists no more."""
        self._seen.pop(body["metadata"]["uid"], None)

    def on_secret(self, secret: ObjectKey) -> None:
        """Take a change of a Secret."""
        for key in self.requests.with_secret(secret):
            self._wake(key)

    def _wake_pending(self, concerns: Callable[[RequestView], bool]) -> None:
        for request in self.requests.pending():
            if concerns(request):
                self._wake(request.key)

    def _wake(self, key: ObjectKey) -> None:
        self.requests.start_over(key)
        self.queue.add(key)

    def _is_news(self, body: Mapping[str, Any], fact: str) -> bool:
        uid = body["metadata"]["uid"]
        old, self._seen[uid] = self._seen.get(uid, ""), fact
        return bool(fact) and old != fact
