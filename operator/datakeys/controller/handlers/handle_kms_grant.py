"""Reconciles one KmsGrant with the key service. Zone: no secrets; grant tokens aren't secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kopf

from datakeys.contract.arn import build_key_arn
from datakeys.contract.conditions import CONDITION_READY, Condition
from datakeys.contract.errors import InvalidGrantIdError, KmsError, NotFoundError
from datakeys.controller.decisions.failure import FailedAttempt
from datakeys.controller.decisions.keys import UnresolvedKey, resolve_key
from datakeys.controller.decisions.kms_grant import build_create_grant_parameters
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers.handle_kms_alias import KEY_WAIT_SECONDS
from datakeys.controller.handlers.outcomes import delay_deletion, end_with_error, end_with_failure, report
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject


@dataclass(frozen=True)
class KmsGrantHandler:
    """Creates and revokes grants."""

    keyservice: KeyServiceClient
    recorder: EventRecorder
    keys: KeyMemory
    cluster_name: str

    async def apply(self, body: Mapping[str, Any], patch: kopf.Patch, retry: int) -> None:
        """Create the grant; the spec is immutable, so a grant that is there is right."""
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        if status.get("grantId"):
            return
        account, ref = metadata["namespace"], (spec.get("keyRef") or {}).get("name")
        if ref is not None:
            await self.keys.wait_until_known(ObjectKey(account, ref), KEY_WAIT_SECONDS)
        key = resolve_key(account, spec.get("keyId"), ref, self.keys)
        if isinstance(key, UnresolvedKey):
            failed = FailedAttempt(key.reason, key.message, retryable=False, healing=True)
            end_with_failure(body, patch.status, failed, retry=retry)
            return
        parameters = build_create_grant_parameters(metadata, spec, key.key_id)
        try:
            grant = await self.keyservice.create_grant(account, metadata["name"], parameters)
        except KmsError as error:
            if end_with_error(body, patch.status, error, retry=retry):
                self._record(body, EventReason.FAILED, error.message or error.code)
            return
        arn = (
            key.key_id
            if key.key_id.startswith("arn:")
            else build_key_arn(self.cluster_name, account, key.key_id)
        )
        patch.status.update({"grantId": grant.grant_id, "grantToken": grant.grant_token, "keyArn": arn})
        report(body, patch.status, Condition(CONDITION_READY, "True", "Created", "The grant is in force"))
        self._record(body, EventReason.CREATED, f"Grant on {arn}")

    async def revoke(self, body: Mapping[str, Any], retry: int) -> None:
        """Revoke the grant."""
        status = body.get("status") or {}
        if not status.get("grantId"):
            return
        try:
            await self.keyservice.revoke_grant(
                body["metadata"]["namespace"], status["keyArn"], status["grantId"]
            )
        except (NotFoundError, InvalidGrantIdError):
            return
        except KmsError as error:
            delay_deletion(error, retry=retry)
            return
        self._record(body, EventReason.DELETED, "The grant is revoked")

    def _record(self, body: Mapping[str, Any], reason: EventReason, note: str) -> None:
        metadata = body["metadata"]
        subject = Subject("KmsGrant", metadata["namespace"], metadata["name"], metadata["uid"])
        self.recorder.record(subject, reason, note)
