"""Kubernetes Events about state changes. Zone: names and reasons; never contents.

Posted in the background and dropped when there are too many: an Event is a help, not a record (the key
service keeps the audit record). Source: Kubernetes API events.k8s.io/v1.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from datakeys.contract.conditions import MAX_MESSAGE_CHARACTERS
from datakeys.contract.identity import API_VERSION, MANAGED_BY
from datakeys.controller import metrics
from datakeys.controller.kube.api import EVENTS, Json, KubeApi
from datakeys.controller.kube.errors import KubeError

_LOG = logging.getLogger(__name__)
_BURST: Final = 100


class EventReason(StrEnum):
    """Everything that is told as an Event."""

    CREATED = "Created"
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    DELETION_SCHEDULED = "DeletionScheduled"
    DELETION_CANCELLED = "DeletionCancelled"
    DELETION_ABANDONED = "DeletionAbandoned"
    UPDATED = "Updated"
    DELETED = "Deleted"
    ISSUED = "Issued"
    RESTORED = "Restored"
    CONFLICT = "Conflict"
    FAILED = "Failed"


#: Reasons that ask for somebody's attention.
_WARNINGS: Final = frozenset({EventReason.CONFLICT, EventReason.FAILED, EventReason.DELETION_ABANDONED})


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


class EventRecorder:
    """Posts Events at a bounded rate (token bucket)."""

    def __init__(
        self,
        api: KubeApi,
        *,
        instance: str,
        events_per_second: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._instance = instance
        self._rate = events_per_second
        self._clock = clock
        self._tokens = float(_BURST)
        self._filled_at = clock()
        self._queue: asyncio.Queue[tuple[str, Json]] = asyncio.Queue(_BURST)

    def record(self, subject: Subject, reason: EventReason, note: str) -> None:
        """Tell about a state change; returns at once."""
        if not self._take_token() or self._queue.full():
            metrics.EVENTS_DROPPED.inc()
            return
        event = build_event(subject, reason, note, instance=self._instance, now=datetime.now(UTC))
        self._queue.put_nowait((subject.namespace, event))

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            namespace, event = await self._queue.get()
            try:
                await self._api.create(EVENTS, namespace, event)
            except KubeError as error:
                _LOG.debug("event not posted", extra={"namespace": namespace, "error": str(error)})

    def _take_token(self) -> bool:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def build_event(subject: Subject, reason: EventReason, note: str, *, instance: str, now: datetime) -> Json:
    """Return an Event object."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        # An Event's name must be unique; the object's own name helps whoever lists them.
        "metadata": {"name": f"{subject.name[:200]}.{uuid.uuid4().hex}", "namespace": subject.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"datakeys.dev/{MANAGED_BY}",
        "reportingInstance": instance[:128],
        "action": reason.value,
        "reason": reason.value,
        "type": "Warning" if reason in _WARNINGS else "Normal",
        "note": note[:MAX_MESSAGE_CHARACTERS],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
    }
