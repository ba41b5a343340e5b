"""Reconciles one KmsAlias with the key service. Zone: no secrets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import kopf

from datakeys.contract.arn import build_alias_arn, build_key_arn
from datakeys.contract.conditions import CONDITION_READY, Condition
from datakeys.contract.errors import AlreadyExistsError, KmsError, NotFoundError
from datakeys.controller.decisions.alias_claims import AliasClaim, find_holder
from datakeys.controller.decisions.failure import FailedAttempt
from datakeys.controller.decisions.keys import UnresolvedKey, resolve_key
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.triggers import alias_name_of
from datakeys.controller.handlers.outcomes import delay_deletion, end_with_error, end_with_failure, report
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject

#: How long a handler waits for a KmsKey that was applied together with the alias, in seconds.
KEY_WAIT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class KmsAliasHandler:
    """Creates, points and deletes aliases."""

    keyservice: KeyServiceClient
    recorder: EventRecorder
    keys: KeyMemory
    cluster_name: str

    async def apply(
        self, body: Mapping[str, Any], patch: kopf.Patch, retry: int, claims: Iterable[AliasClaim] = ()
    ) -> None:
        """Create the alias, or point it to the wanted key.

        Args:
            body: The KmsAlias.
            patch: What is to be written to it.
            retry: How many attempts have failed.
            claims: Those of all KmsAliases of the namespace with this alias name.
        """
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        account, alias = metadata["namespace"], alias_name_of(body)
        holder = find_holder(claims, AliasClaim.of(body))
        if holder != metadata["name"]:
            end_with_failure(body, patch.status, _taken(alias, holder), retry=retry)
            return
        ref = (spec.get("targetKeyRef") or {}).get("name")
        if ref is not None:
            await self.keys.wait_until_known(ObjectKey(account, ref), KEY_WAIT_SECONDS)
        key = resolve_key(account, spec.get("targetKeyId"), ref, self.keys)
        if isinstance(key, UnresolvedKey):
            failed = FailedAttempt(key.reason, key.message, retryable=False, healing=True)
            end_with_failure(body, patch.status, failed, retry=retry)
            return
        target = (
            key.key_id
            if key.key_id.startswith("arn:")
            else build_key_arn(self.cluster_name, account, key.key_id)
        )
        try:
            reason = await self._point(account, alias, target, known=bool(status.get("arn")))
        except KmsError as error:
            if end_with_error(body, patch.status, error, retry=retry):
                self._record(body, EventReason.FAILED, error.message or error.code)
            return
        arn = build_alias_arn(self.cluster_name, account, alias)
        if (status.get("arn"), status.get("targetKeyArn")) != (arn, target):
            patch.status.update({"arn": arn, "targetKeyArn": target})
            self._record(body, reason, f"{alias} points to {target}")
        report(body, patch.status, Condition(CONDITION_READY, "True", "Created", f"{alias} can be used"))

    async def delete(self, body: Mapping[str, Any], retry: int, claims: Iterable[AliasClaim] = ()) -> None:
        """Delete the alias, unless another KmsAlias has it; its key is left alone."""
        if not (body.get("status") or {}).get("arn"):
            return
        if find_holder(claims, AliasClaim.of(body)) != body["metadata"]["name"]:
            return
        try:
            await self.keyservice.delete_alias(body["metadata"]["namespace"], alias_name_of(body))
        except NotFoundError:
            return
        except KmsError as error:
            delay_deletion(error, retry=retry)
            return
        self._record(body, EventReason.DELETED, "The alias is gone; its key is left alone")

    async def _point(self, account: str, alias: str, target: str, *, known: bool) -> EventReason:
        if not known:
            try:
                await self.keyservice.create_alias(account, alias, target)
            except AlreadyExistsError:
                pass  # a crash came before the status was written, or a change by hand: take it over
            else:
                return EventReason.CREATED
        try:
            await self.keyservice.update_alias(account, alias, target)
        except NotFoundError:
            await self.keyservice.create_alias(account, alias, target)
            return EventReason.CREATED
        return EventReason.UPDATED

    def _record(self, body: Mapping[str, Any], reason: EventReason, note: str) -> None:
        metadata = body["metadata"]
        subject = Subject("KmsAlias", metadata["namespace"], metadata["name"], metadata["uid"])
        self.recorder.record(subject, reason, note)


def _taken(alias: str, holder: str) -> FailedAttempt:
    return FailedAttempt(
        AlreadyExistsError.code,
        f"KmsAlias {holder} has {alias}: delete that one, and this continues by itself, or give "
        "this one another aliasName (make it anew)",
        retryable=False,
        healing=True,
    )
