"""Keep a record cache equal to the cluster: list, then watch; list again if the watch is too old.

Zone: sealed material only. A daemon thread of its own. While the API is away the cache serves what it knows.
Source: Kubernetes API concepts, "Efficient detection of changes".
"""

import logging
import random
import threading
from collections.abc import Callable
from typing import Any, Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.store.codec import LABEL_RECORD
from datakeys.keyservice.store.objects_api import ExpiredError, ObjectsApi
from datakeys.keyservice.store.record_cache import RecordCache

_LOG: Final = logging.getLogger("datakeys.keyservice.store")
MIN_DELAY_SECONDS: Final = 0.2
MAX_DELAY_SECONDS: Final = 15.0
_GONE: Final = 410


class Watcher:
    """Feeds a cache. `synced` is set after the first list."""

    def __init__(self, objects: ObjectsApi, cache: RecordCache, monotonic: Callable[[], float]) -> None:
        self.synced: Final = threading.Event()
        self._objects = objects
        self._cache = cache
        self._monotonic = monotonic
        self._contact_at = monotonic()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="record-watch", daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end; it ends with the process at the latest."""
        self._stopping.set()

    def age_seconds(self) -> float:
        """Return the seconds since the cluster was last heard from."""
        return self._monotonic() - self._contact_at

    def _run(self) -> None:
        version, delay = "", MIN_DELAY_SECONDS
        while not self._stopping.is_set():
            started = self._monotonic()
            try:
                version = self.follow(version or self.list_all())
                delay = MIN_DELAY_SECONDS
            except ExpiredError:
                version = ""
            except DependencyTimeoutError as error:
                _LOG.warning("watch interrupted", extra={"cause": error.message})
                version, delay = "", min(delay * 2, MAX_DELAY_SECONDS)
            except Exception as failure:  # noqa: BLE001 - the edge of the thread: it must not end
                _LOG.error("watch failed", extra={"error_type": type(failure).__name__})
                version, delay = "", min(delay * 2, MAX_DELAY_SECONDS)
            if self._monotonic() - started < 1.0 or delay > MIN_DELAY_SECONDS:
                self._stopping.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def list_all(self) -> str:
        """Make the cache equal to a fresh list; return the list's resource version.

        Raises:
            DependencyTimeoutError: The API can't be reached.
            ExpiredError: The list took too long.
        """
        secrets, version = self._objects.list_all(LABEL_RECORD)
        self._cache.replace_all(secrets, version)
        self._contact_at = self._monotonic()
        if not self.synced.is_set():
            _LOG.info(
                "records loaded",
                extra={"records": self._cache.record_count, "broken": self._cache.broken_count},
            )
            self.synced.set()
        return version

    def follow(self, version: str) -> str:
        """Apply events until the watch ends; return the last resource version.

        Raises:
            DependencyTimeoutError: The watch can't be started or broke.
            ExpiredError: The resource version is too old.
        """
        for event in self._objects.watch(LABEL_RECORD, version):
            version = self._apply(event, version)
            self._contact_at = self._monotonic()
            if self._stopping.is_set():
                break
        return version

    def _apply(self, event: dict[str, Any], version: str) -> str:
        kind, secret = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if secret.get("code") == _GONE:
                raise ExpiredError
            raise DependencyTimeoutError("the watch reports an error")
        metadata = secret["metadata"]
        if kind in ("ADDED", "MODIFIED"):
            self._cache.apply(secret)
        elif kind == "DELETED":
            self._cache.remove(str(metadata["name"]), str(metadata["uid"]), confirmed=True)
        return str(metadata.get("resourceVersion") or version)
