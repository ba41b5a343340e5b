"""Keeps the status of KmsKeys equal to the keys, whoever changes them. Zone: no secrets."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from datakeys.contract.errors import (
    KmsError,
    NotFoundError,
    UnknownOperationError,
    UnsupportedOperationError,
)
from datakeys.contract.key_types import KeyState
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.decisions.failure import describe_kms_error
from datakeys.controller.decisions.key_status import ObservedKey, build_refreshed_status
from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.keyservice_answers import KeyMetadata
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.api import KEYS, KubeApi
from datakeys.controller.kube.errors import ConflictError, KubeError, MissingError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject

_LOG = logging.getLogger(__name__)

#: A replica of the key service may know of a change some moments after the one that told about it.
LOOK_AGAIN_SECONDS: Final = 3.0
#: Looks per second when every key has to be looked at.
PACE: Final = 20.0
_CONFLICT_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 60.0


async def fetch_observed(keyservice: KeyServiceClient, account: str, metadata: KeyMetadata) -> ObservedKey:
    """Return a key with its rotation.

    Raises:
        KmsError: The key service refuses or can't be reached.
    """
    if not metadata.can_rotate:
        return ObservedKey(metadata)
    try:
        return ObservedKey(metadata, await keyservice.fetch_rotation(account, metadata.key_id))
    except (UnsupportedOperationError, UnknownOperationError):
        return ObservedKey(metadata)


_NEWS: Final = {
    KeyState.ENABLED: (EventReason.ENABLED, "The key can be used"),
    KeyState.DISABLED: (EventReason.DISABLED, "The key can't be used"),
    KeyState.PENDING_IMPORT: (EventReason.DISABLED, "The key has no key material: import it"),
    KeyState.PENDING_DELETION: (EventReason.DELETION_SCHEDULED, "The key's deletion is scheduled"),
    None: (EventReason.DELETED, "The key is destroyed"),
}


def record_state_change(recorder: EventRecorder, subject: Subject, old: str | None, new: str | None) -> None:
    """Tell that a key's state has changed; that a new key is enabled is no news."""
    if old == new or (old is None and new == KeyState.ENABLED):
        return
    for state, (reason, note) in _NEWS.items():
        if state == new:
            recorder.record(subject, reason, note)


@dataclass
class KmsKeyObserver:
    """Looks at keys when told to, and writes what has changed into the status of their KmsKeys.

    Attributes:
        keys: What is known about every KmsKey.
        enter: Gives a namespace the trust bundle: a pod can use keys without any DataKeyRequest.
    """

    api: KubeApi
    keyservice: KeyServiceClient
    recorder: EventRecorder
    keys: Mapping[ObjectKey, KeyFacts]
    enter: Callable[[str], Awaitable[None]]
    _look_again: set[ObjectKey] = field(default_factory=set)
    _attempts: dict[ObjectKey, int] = field(default_factory=dict)
    _next_slot: float = 0.0

    def note_change(self, key: ObjectKey) -> None:
        """Note that a key has changed just now, so that it is looked at twice."""
        self._look_again.add(key)

    def next_delay(self) -> float:
        """Return after how many seconds the next key may be looked at that nobody says has changed."""
        now = asyncio.get_running_loop().time()
        self._next_slot = max(now, self._next_slot + 1 / PACE)
        return self._next_slot - now

    async def look(self, key: ObjectKey) -> float | None:
        """Look at a key once; return when to look again, in seconds; None: when it changes."""
        await self._enter(key.namespace)
        try:
            await self._refresh(key)
        except ConflictError:
            return _CONFLICT_SECONDS
        except KmsError as error:
            return self._retry(key, error.code, retryable=describe_kms_error(error).retryable)
        except KubeError as error:
            return self._retry(key, str(error), retryable=True)
        self._attempts.pop(key, None)
        if key in self._look_again:
            self._look_again.discard(key)
            return LOOK_AGAIN_SECONDS
        return None

    async def _enter(self, namespace: str) -> None:
        try:
            await self.enter(namespace)
        except KubeError as error:
            # The key is right all the same; the next look tries again.
            _LOG.info("namespace not entered", extra={"namespace": namespace, "error": str(error)})

    async def _refresh(self, key: ObjectKey) -> None:
        facts = self.keys.get(key)
        if facts is None or not facts.is_known:
            return  # its handler is at work, or will be
        observed = await self._observe(facts)
        try:
            body = await self.api.get(KEYS, key.namespace, key.name)
        except MissingError:
            return
        metadata, status = body["metadata"], body.get("status") or {}
        if "deletionTimestamp" in metadata or status.get("keyId") != facts.key_id:
            return
        changes = build_refreshed_status(
            observed, status, generation=metadata.get("generation", 1), now=datetime.now(UTC)
        )
        if not changes:
            return
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "status": changes,
        }
        await self.api.patch_status(KEYS, key.namespace, key.name, patch)
        subject = Subject("KmsKey", key.namespace, key.name, metadata["uid"])
        state = None if observed is None else observed.metadata.state
        record_state_change(self.recorder, subject, status.get("keyState"), state)

    async def _observe(self, facts: KeyFacts) -> ObservedKey | None:
        account = facts.key.namespace
        try:
            metadata = await self.keyservice.describe_key(account, facts.arn)
            return await fetch_observed(self.keyservice, account, metadata)
        except NotFoundError:
            return None

    def _retry(self, key: ObjectKey, error: str, *, retryable: bool) -> float | None:
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        _LOG.info("key not looked at", extra={"namespace": key.namespace, "object": key.name, "error": error})
        if retryable:
            return min(_MAX_PAUSE_SECONDS, backoff_seconds(attempt, 1.0))
        self._attempts.pop(key, None)
        return None
