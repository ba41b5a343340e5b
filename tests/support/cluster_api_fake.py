"""The Kubernetes API in memory: objects with resource versions, label selectors, pages and watches.

Zone: tests. Source of its rules: Kubernetes API concepts, "Resource versions".
"""

import copy
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.cluster_api import Answer

_PATH = re.compile(r"/api/v1/namespaces/(?P<ns>[^/]+)/(?P<plural>[^/]+)(/(?P<name>[^/]+))?")


class FakeClusterApi:
    """Implements `ClusterApi` for Secrets and ConfigMaps."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.reachable = True
        #: Called before every request; a test changes the world here, or raises.
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        self.compacted_below = 0
        self._version = 100
        self._lock = threading.RLock()
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._watches: list[queue.Queue[dict[str, Any] | None]] = []

    def secret(self, name: str) -> dict[str, Any]:
        """Return a stored Secret itself, for a test to look at or to damage."""
        return self.objects["secrets", name]

    def names(self, plural: str = "secrets") -> list[str]:
        """Return the names of all objects of a kind."""
        return sorted(name for kind, name in self.objects if kind == plural)

    def fetch_time(self) -> float:
        """Return this machine's time."""
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")
        return time.time()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer one request."""
        self.calls.append((method, path))
        self.before(method, path)
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")
        match = _PATH.fullmatch(path)
        assert match is not None, path
        plural, name = match["plural"], match["name"]
        with self._lock:
            if method == "POST":
                return self._create(plural, copy.deepcopy(dict(body or {})))
            if name is None:
                return self._list(plural, query or {})
            key = (plural, name)
            if key not in self.objects:
                return Answer(404, {})
            if method == "GET":
                return Answer(200, copy.deepcopy(self.objects[key]))
            if method == "PUT":
                return self._replace(key, copy.deepcopy(dict(body or {})))
            assert method == "DELETE"
            return self._delete(key, dict((body or {}).get("preconditions") or {}))

    def touch(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a Secret as somebody else would: with a new resource version and an event."""
        with self._lock:
            secret = self.objects["secrets", name]
            change(secret)
            secret["metadata"]["resourceVersion"] = self._next()
            self._emit("MODIFIED", secret)

    def drop(self, name: str) -> None:
        """Delete a Secret as somebody else would."""
        with self._lock:
            self._delete(("secrets", name), {})

    def watch(self, _path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield events after a resource version until `end_watches`."""
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")
        since = int(query["resourceVersion"])
        if since < self.compacted_below:
            yield {"type": "ERROR", "object": {"code": 410}}
            return
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._lock:
            for version, past in self._events:
                if version > since:
                    events.put(past)
            self._watches.append(events)
        while (event := events.get()) is not None:
            if "error" in event:
                raise DependencyTimeoutError("the watch broke")
            if _matches(event["object"], query["labelSelector"]):
                yield copy.deepcopy(event)

    def end_watches(self, *, broken: bool = False) -> None:
        """End all watches, normally or by a lost connection."""
        with self._lock:
            for events in self._watches:
                events.put({"error": True} if broken else None)
            self._watches.clear()

    def send(self, event: dict[str, Any]) -> None:
        """Send an event of the test's own to all watches."""
        with self._lock:
            for events in self._watches:
                events.put(event)

    def _create(self, plural: str, body: dict[str, Any]) -> Answer:
        key = (plural, body["metadata"]["name"])
        if key in self.objects:
            return Answer(409, {})
        body["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": self._next()}
        self.objects[key] = body
        self._emit("ADDED", body)
        return Answer(201, copy.deepcopy(body))

    def _replace(self, key: tuple[str, str], body: dict[str, Any]) -> Answer:
        old, metadata = self.objects[key], body["metadata"]
        if any(metadata.get(name) != old["metadata"][name] for name in ("uid", "resourceVersion")):
            return Answer(409, {})
        metadata["resourceVersion"] = self._next()
        self.objects[key] = body
        self._emit("MODIFIED", body)
        return Answer(200, copy.deepcopy(body))

    def _delete(self, key: tuple[str, str], preconditions: dict[str, str]) -> Answer:
        old = self.objects[key]
        if any(old["metadata"][name] != value for name, value in preconditions.items()):
            return Answer(409, {})
        del self.objects[key]
        old["metadata"]["resourceVersion"] = self._next()
        self._emit("DELETED", old)
        return Answer(200, {})

    def _list(self, plural: str, query: Mapping[str, str]) -> Answer:
        found = [
            copy.deepcopy(item)
            for (kind, _), item in sorted(self.objects.items())
            if kind == plural and _matches(item, query.get("labelSelector", ""))
        ]
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "500"))
        metadata = {"resourceVersion": str(self._version)}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return Answer(200, {"items": found[start : start + limit], "metadata": metadata})

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _emit(self, kind: str, item: dict[str, Any]) -> None:
        event = {"type": kind, "object": copy.deepcopy(item)}
        self._events.append((self._version, event))
        for events in self._watches:
            events.put(event)


def _matches(item: Mapping[str, Any], selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
