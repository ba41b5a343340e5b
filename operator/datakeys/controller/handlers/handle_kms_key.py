"""Reconciles one KmsKey with the key service. Zone: no secrets: key material never comes here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf

from datakeys.contract.errors import KmsError
from datakeys.contract.key_types import KeyState
from datakeys.controller.decisions.kms_key import (
    KeyCall,
    build_create_key_parameters,
    build_key_status,
    decide_key_call,
    is_revived,
    pending_window_days,
    state_after,
)
from datakeys.controller.handlers.outcomes import delay_deletion, end_with_error
from datakeys.controller.keyservice_client import KeyMetadata, KeyServiceClient
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KmsKeyHandler:
    """Makes, switches and schedules the deletion of keys."""

    keyservice: KeyServiceClient
    recorder: EventRecorder

    async def apply(self, body: Mapping[str, Any], patch: kopf.Patch, retry: int) -> None:
        """Bring the key into the wanted state; the same object always gets the same key."""
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        account, name = metadata["namespace"], metadata["name"]
        try:
            key = await self.keyservice.create_key(account, name, build_create_key_parameters(spec))
            call = decide_key_call(key.state, enabled=bool(spec.get("enabled", True)))
            if call is KeyCall.ENABLE:
                await self.keyservice.enable_key(account, key.key_id)
            elif call is KeyCall.DISABLE:
                await self.keyservice.disable_key(account, key.key_id)
        except KmsError as error:
            if end_with_error(body, patch.status, error, retry=retry):
                self._record(body, EventReason.FAILED, error.message or error.code)
            return
        state = state_after(key.state, call)
        wanted = build_key_status(
            key,
            state,
            spec=spec,
            conditions=status.get("conditions") or [],
            generation=metadata.get("generation", 1),
            now=datetime.now(UTC),
        )
        patch.status.update({name: value for name, value in wanted.items() if status.get(name) != value})
        self._record_changes(body, key, state)

    async def schedule_deletion(self, body: Mapping[str, Any], retry: int) -> None:
        """Schedule the key's deletion and let the object go at once: the key service does the waiting."""
        account, days = body["metadata"]["namespace"], pending_window_days(body["spec"])
        key_id = (body.get("status") or {}).get("keyId")
        if not key_id:
            return
        try:
            await self.keyservice.schedule_key_deletion(account, key_id, days)
        except KmsError as error:
            delay_deletion(error, retry=retry)
            self._record(
                body,
                EventReason.DELETION_ABANDONED,
                f"The deletion of key {key_id} couldn't be scheduled: {error.code}",
            )
            return
        self._record(
            body,
            EventReason.DELETION_SCHEDULED,
            f"Key {key_id} will be destroyed in {days} days; apply the KmsKey again to cancel that",
        )

    def _record_changes(self, body: Mapping[str, Any], key: KeyMetadata, state: str) -> None:
        status = body.get("status") or {}
        created_at = datetime.fromisoformat(body["metadata"]["creationTimestamp"])
        if is_revived(status, created_at, key.creation_date):
            self._record(body, EventReason.DELETION_CANCELLED, f"Key {key.key_id} is back; nothing was lost")
        elif not status.get("keyId"):
            self._record(body, EventReason.CREATED, f"Key {key.arn} is made")
        old = status.get("keyState")
        if old != state and state == KeyState.DISABLED:
            self._record(body, EventReason.DISABLED, "The key can't be used")
        elif old is not None and old != state and state == KeyState.ENABLED:
            self._record(body, EventReason.ENABLED, "The key can be used")

    def _record(self, body: Mapping[str, Any], reason: EventReason, note: str) -> None:
        metadata = body["metadata"]
        subject = Subject("KmsKey", metadata["namespace"], metadata["name"], metadata["uid"])
        self.recorder.record(subject, reason, note)
        _LOG.info(
            "key changed",
            extra={"namespace": subject.namespace, "object": subject.name, "reason": reason.value},
        )
