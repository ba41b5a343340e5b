"""Reconciles one KmsKey with the key service. Zone: no secrets: key material never comes here.

The spec is applied when the object changes, and only then: what is done by calls of the key service's API in
between stays, and shows in the status.
"""

import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import kopf

from datakeys.contract.conditions import CONDITION_SYNCED
from datakeys.contract.errors import KeyStateError, KmsError, NotFoundError
from datakeys.contract.key_types import KeyState
from datakeys.controller.decisions.failure import (
    FailedAttempt,
    FollowUp,
    choose_failure,
    decide_follow_up,
    describe_kms_error,
)
from datakeys.controller.decisions.key_calls import (
    ActualKey,
    KeyCall,
    KeyOperation,
    Spec,
    decide_key_calls,
    manages,
    state_after,
)
from datakeys.controller.decisions.key_status import APPLIED, ObservedKey, build_key_status, diff_status
from datakeys.controller.decisions.kms_key import (
    build_create_key_parameters,
    is_applied,
    is_revived,
    pending_window_days,
)
from datakeys.controller.decisions.on_demand_rotation import (
    RotationStep,
    build_announcement,
    build_record,
    decide_rotation_step,
)
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.observe_kms_key import fetch_observed, record_state_change
from datakeys.controller.handlers.outcomes import delay_deletion, end_with_error
from datakeys.controller.keyservice_answers import KeyMetadata
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.api import KEYS, KubeApi
from datakeys.controller.kube.errors import KubeError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject

_LOG = logging.getLogger(__name__)
_ANNOUNCE_AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True)
class KmsKeyHandler:
    """Makes keys, changes them and schedules their deletion.

    Attributes:
        look_soon: Asks for a look at a key whose spec needs nothing.
    """

    keyservice: KeyServiceClient
    recorder: EventRecorder
    look_soon: Callable[[ObjectKey], None]
    api: KubeApi

    async def apply(
        self, body: Mapping[str, Any], patch: kopf.Patch, retry: int, former: Spec | None = None
    ) -> None:
        """Bring the key into the wanted state; the same object always gets the same key.

        Args:
            body: The KmsKey.
            patch: Where the status goes.
            retry: How many attempts kopf has counted before this one.
            former: The spec that was applied before, if any.

        Raises:
            kopf.TemporaryError: It is to be tried again.
        """
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        account, name = metadata["namespace"], metadata["name"]
        if is_applied(body):
            self.look_soon(ObjectKey(account, name))
            return
        try:
            key = await self._find_or_create(account, name, spec, status.get("keyId"))
        except KmsError as error:
            if end_with_error(body, patch.status, error, retry=retry):
                self._record(body, EventReason.FAILED, error.message or error.code)
            return
        rotation = await self._announce_rotation(body, key)
        observed, failures, done = await self._apply_settings(
            account, key, spec, former or {}, rotation_due=rotation is RotationStep.ROTATE
        )
        ending = _decide_ending(failures, retry)
        wanted = build_key_status(
            observed,
            conditions=status.get("conditions") or [],
            synced=ending.condition,
            generation=metadata.get("generation", 1),
            now=datetime.now(UTC),
        )
        patch.status.update(diff_status(status, wanted))
        if KeyOperation.ROTATE_KEY_ON_DEMAND in done or rotation is RotationStep.RECORD:
            patch.status["onDemandRotation"] = build_record(spec)
        if KeyOperation.ROTATE_KEY_ON_DEMAND in done:
            self._record(body, EventReason.UPDATED, f"Rotated on demand: {spec['rotateOnDemand']}")
        self._record_changes(body, observed.metadata)
        if ending.delay_seconds is not None:
            raise kopf.TemporaryError(choose_failure(failures).code, delay=ending.delay_seconds)
        if failures:
            self._record(body, EventReason.FAILED, failures[0].message)

    async def schedule_deletion(self, body: Mapping[str, Any], retry: int) -> None:
        """Schedule the key's deletion and let the object go at once: the key service does the waiting."""
        account, days = body["metadata"]["namespace"], pending_window_days(body["spec"])
        key_id = (body.get("status") or {}).get("keyId")
        if not key_id:
            return
        try:
            await self.keyservice.schedule_key_deletion(account, key_id, days)
        except KeyStateError as error:
            self._record(body, EventReason.DELETION_SCHEDULED, f"{error.message} Its date stays as it is")
            return
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

    async def _find_or_create(self, account: str, name: str, spec: Spec, key_id: str | None) -> KeyMetadata:
        """Return the object's key: made, revived, or found. A setting that is wrong fails only the first."""
        if key_id:
            try:
                key = await self.keyservice.describe_key(account, key_id)
            except NotFoundError:
                pass
            else:
                if key.state != KeyState.PENDING_DELETION:
                    return key
        return await self.keyservice.create_key(account, name, build_create_key_parameters(spec))

    async def _announce_rotation(self, body: Mapping[str, Any], key: KeyMetadata) -> RotationStep:
        """Return what a rotation on demand needs, once it is safe to do that.

        Raises:
            kopf.TemporaryError: The status can't be written.
        """
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        step = decide_rotation_step(spec, status, key.current_key_material_id)
        if step is not RotationStep.ANNOUNCE:
            return step
        # In exactly the version that was seen: an announcement of somebody else's is never overwritten.
        announcement = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "status": {"onDemandRotation": build_announcement(spec, key.current_key_material_id)},
        }
        try:
            await self.api.patch_status(KEYS, metadata["namespace"], metadata["name"], announcement)
        except KubeError as error:
            raise kopf.TemporaryError(str(error), delay=_ANNOUNCE_AGAIN_SECONDS) from None
        return RotationStep.ROTATE

    async def _apply_settings(
        self, account: str, key: KeyMetadata, spec: Spec, former: Spec, *, rotation_due: bool
    ) -> tuple[ObservedKey, list[FailedAttempt], set[KeyOperation]]:
        """Make the calls that are needed; one that fails doesn't hold up the others."""
        failures: list[FailedAttempt] = []
        actual, observed = await self._look(account, key, spec, former, failures)
        actual = replace(actual, rotation_due=rotation_due)
        done: list[KeyCall] = []
        for call in decide_key_calls(account, spec, former, actual):
            try:
                await self.keyservice.change_key(account, key.key_id, call)
            except KmsError as error:
                failures.append(_describe(call.operation, error))
            else:
                done.append(call)
        metadata = replace(key, state=state_after(key.state, done))
        if done and observed.rotation is not None:
            # If that fails, what was there before is shown until the key service tells about the change.
            with suppress(KmsError):
                observed = await fetch_observed(self.keyservice, account, metadata)
        return replace(observed, metadata=metadata), failures, {call.operation for call in done}

    async def _look(
        self, account: str, key: KeyMetadata, spec: Spec, former: Spec, failures: list[FailedAttempt]
    ) -> tuple[ActualKey, ObservedKey]:
        """Return the key as it is; what can't be read is left out, and so isn't changed."""
        actual, observed = ActualKey(key.state, key.description), ObservedKey(key)
        try:
            observed = await fetch_observed(self.keyservice, account, key)
            if observed.rotation is not None:
                rotation = observed.rotation
                actual = replace(actual, rotation_days=(rotation.period_days or 0) if rotation.enabled else 0)
            if manages(spec, former, "tags"):
                actual = replace(actual, tags=await self.keyservice.fetch_tags(account, key.key_id))
            if manages(spec, former, "policy"):
                actual = replace(actual, policy=await self.keyservice.fetch_policy(account, key.key_id))
        except KmsError as error:
            failures.append(_describe("The key can't be compared with the spec", error))
        return actual, observed

    def _record_changes(self, body: Mapping[str, Any], key: KeyMetadata) -> None:
        status, metadata = body.get("status") or {}, body["metadata"]
        created_at = datetime.fromisoformat(metadata["creationTimestamp"])
        if is_revived(status, created_at, key.creation_date):
            self._record(body, EventReason.DELETION_CANCELLED, f"Key {key.key_id} is back; nothing was lost")
        elif not status.get("keyId"):
            self._record(body, EventReason.CREATED, f"Key {key.arn} is made")
        if status.get("keyState") or key.state == KeyState.DISABLED:
            record_state_change(self.recorder, _subject(body), status.get("keyState"), key.state)

    def _record(self, body: Mapping[str, Any], reason: EventReason, note: str) -> None:
        subject = _subject(body)
        self.recorder.record(subject, reason, note)
        _LOG.info(
            "key changed",
            extra={"namespace": subject.namespace, "object": subject.name, "reason": reason.value},
        )


def _subject(body: Mapping[str, Any]) -> Subject:
    metadata = body["metadata"]
    return Subject("KmsKey", metadata["namespace"], metadata["name"], metadata["uid"])


def _describe(operation: str, error: KmsError) -> FailedAttempt:
    # Not by itself: a later attempt could undo what was done by calls meanwhile.
    failed = describe_kms_error(error, heals=False)
    return replace(failed, message=f"{operation}: {failed.message}")


def _decide_ending(failures: list[FailedAttempt], retry: int) -> FollowUp:
    if not failures:
        return FollowUp(APPLIED, None)
    return decide_follow_up(
        choose_failure(failures),
        condition_type=CONDITION_SYNCED,
        attempt=retry + 1,
        now=datetime.now(UTC),
        fraction=random.random(),  # noqa: S311 - jitter
    )
