"""Kubernetes Events about state changes. Zone: names and reasons; never contents.

Posted in the background and dropped when there are too many: an Event is a help, not a record (the key
service keeps the audit record). Source: Kubernetes API events.k8s.io/v1.
"""

import asyncio
import hashlib
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
#: So many of them may be told that all is well; the others are kept for warnings.
_NORMAL_BURST: Final = 75


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
    RE_ENCRYPTION_STARTED = "ReEncryptionStarted"
    RE_ENCRYPTION_COMPLETE = "ReEncryptionComplete"
    RE_ENCRYPTION_FAILED = "ReEncryptionFailed"
    CONFLICT = "Conflict"
    FAILED = "Failed"
    NOT_INJECTED = "NotInjected"
    NOT_STAMPED = "NotStamped"
    EVICTION_STOPPED = "EvictionStopped"
    REQUEST_CREATED = "RequestCreated"
    REQUEST_CONFLICT = "RequestConflict"
    REQUEST_DIFFERS = "RequestDiffers"
    REQUEST_LEAVING = "RequestLeaving"
    ANNOTATION_REFUSED = "AnnotationRefused"
    RETAINED = "Retained"


#: Reasons that ask for somebody's attention.
_WARNINGS: Final = frozenset(
    {
        EventReason.CONFLICT,
        EventReason.FAILED,
        EventReason.RE_ENCRYPTION_FAILED,
        EventReason.DELETION_ABANDONED,
        EventReason.NOT_INJECTED,
        EventReason.NOT_STAMPED,
        EventReason.EVICTION_STOPPED,
        EventReason.REQUEST_CONFLICT,
        EventReason.REQUEST_DIFFERS,
        EventReason.ANNOTATION_REFUSED,
    }
)


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str
    api_version: str = API_VERSION


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

    def record(self, subject: Subject, reason: EventReason, note: str, *, once: bool = False) -> None:
        """Tell about a state change; returns at once.

        Args:
            subject: What it is about.
            reason: What has happened.
            note: For people, with the next step.
            once: Not again about this object, whoever leads, as long as the API server keeps the Event.
        """
        if not self._take_token(reason) or self._queue.full():
            metrics.EVENTS_DROPPED.inc()
            return
        event = build_event(subject, reason, note, instance=self._instance, now=datetime.now(UTC), once=once)
        self._queue.put_nowait((subject.namespace, event))

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            namespace, event = await self._queue.get()
            try:
                await self._api.create(EVENTS, namespace, event)
            except KubeError as error:
                _LOG.debug("event not posted", extra={"namespace": namespace, "error": str(error)})

    def _take_token(self, reason: EventReason) -> bool:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        kept = 0 if reason in _WARNINGS else _BURST - _NORMAL_BURST
        if self._tokens < kept + 1:
            return False
        self._tokens -= 1
        return True


def build_event(
    subject: Subject, reason: EventReason, note: str, *, instance: str, now: datetime, once: bool = False
) -> Json:
    """Return an Event object; with ``once`` its name is the same whenever it is built."""
    if once:
        suffix = hashlib.sha256(f"{subject.uid}/{reason.value}".encode()).hexdigest()[:32]
    else:
        suffix = uuid.uuid4().hex
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        # An Event's name must be unique; the object's own name helps whoever lists them.
        "metadata": {"name": f"{subject.name[:200]}.{suffix}", "namespace": subject.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"datakeys.dev/{MANAGED_BY}",
        "reportingInstance": instance[:128],
        "action": reason.value,
        "reason": reason.value,
        "type": "Warning" if reason in _WARNINGS else "Normal",
        "note": note[:MAX_MESSAGE_CHARACTERS],
        "regarding": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
    }
