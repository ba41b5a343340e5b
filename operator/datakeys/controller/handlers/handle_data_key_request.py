"""Reconciles one DataKeyRequest: a new version is one Secret create and one patch. Zone: ciphertext only."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.conditions import Condition
from datakeys.contract.data_key_versions import build_version_secret_name
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import DryRunOperationError, InternalError, KmsError
from datakeys.controller import metrics
from datakeys.controller.decisions.data_key_versions import DataKeyVersion
from datakeys.controller.decisions.failure import FailedAttempt, describe_kms_error
from datakeys.controller.decisions.keys import KeyFacts, resolve_key
from datakeys.controller.decisions.request_action import (
    Action,
    Adopt,
    CheckDryRun,
    DoNothing,
    Generate,
    Refuse,
    ReplaceSecret,
    RestoreSecret,
    WriteReady,
    decide_request_action,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView
from datakeys.controller.decisions.secret import SecretView, build_secret
from datakeys.controller.handlers.re_encrypt_data_keys import DataKeyReEncrypter
from datakeys.controller.handlers.request_failures import FailureReporter
from datakeys.controller.handlers.request_status import StatusWriter
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.errors import (
    ConflictError,
    ExistsError,
    ForbiddenError,
    KubeError,
    MissingError,
)
from datakeys.controller.kube.events import EventReason
from datakeys.controller.kube.namespace_access import NamespaceAccess
from datakeys.controller.kube.secret_memory import SecretMemory
from datakeys.controller.re_encryption_turns import Turn, Turns
from datakeys.controller.request_memory import RequestMemory

#: Looks at objects that change under our hands, before the attempt counts as failed.
_LOOKS: Final = 3
#: A version's Secret is made once or replaced once, and the status is written; some to spare.
_STEPS_PER_VERSION: Final = 4
_KUBERNETES: Final = "KubernetesAPI"


class _RefusedError(Exception):
    """A decision said that nothing can be done now."""

    def __init__(self, failed: FailedAttempt, secret_name: str = "") -> None:
        super().__init__(failed.code)
        self.failed = failed
        self.secret_name = secret_name


@dataclass(frozen=True)
class RequestReconciler:
    """Carries out what ``decide_request_action`` decides."""

    requests: RequestMemory
    keys: Mapping[ObjectKey, KeyFacts]
    secrets: SecretMemory
    access: NamespaceAccess
    keyservice: KeyServiceClient
    statuses: StatusWriter
    failures: FailureReporter
    re_encrypter: DataKeyReEncrypter
    turns: Turns

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Look at a request once; return when to look again, in seconds; None: when something changes."""
        turns = self.turns.take(key)
        try:
            return await self._reconcile(key, turns)
        finally:
            for turn in turns:
                turn.end()

    async def _reconcile(self, key: ObjectKey, turns: Sequence[Turn]) -> float | None:
        request = self.requests.get(key)
        if request is None or request.deleting:
            return None
        started = time.monotonic()
        self.requests.set_busy(key)
        try:
            failed = await self._try(request)
            for turn in turns:
                failed = failed or await self._take_turn(key, turn)
            delay = None if failed is None else await self.failures.follow_up(request, failed)
        finally:
            self.requests.set_idle(key)
        metrics.RECONCILE_SECONDS.labels(failed.code if failed else "ok").observe(time.monotonic() - started)
        return delay

    async def _take_turn(self, key: ObjectKey, turn: Turn) -> FailedAttempt | None:
        """Re-encrypt the data keys and let the Secrets follow; return what is wrong with the request then."""
        request = self.requests.get(key)
        if request is None:
            return None
        not_encrypted = await self.re_encrypter.re_encrypt(request, turn)
        request = self.requests.get(key)
        failed = None if not_encrypted or request is None else await self._try(request)
        turn.end(not_encrypted or failed)
        return failed

    async def _try(self, request: RequestView) -> FailedAttempt | None:
        """Make one attempt; return how it failed, or None."""
        try:
            await self._attempt(request)
        except _RefusedError as error:
            if error.secret_name:
                self.secrets.await_removal(ObjectKey(request.key.namespace, error.secret_name), request.key)
            return error.failed
        except KmsError as error:
            return describe_kms_error(error)
        except KubeError as error:
            self.requests.set_unsure(request.key, unsure=True)
            return self._describe_kube_error(request, error)
        except TimeoutError:
            return FailedAttempt(_KUBERNETES, "Kubernetes API: Secrets can't be listed", retryable=True)
        self.requests.set_done(request.key)
        for name in request.secret_names:
            self.secrets.stop_awaiting(ObjectKey(request.key.namespace, name), request.key)
        return None

    async def _attempt(self, request: RequestView) -> None:
        """Take the steps that the request needs, until it needs none."""
        secrets = {} if request.dry_run else await self._find_secrets(request)
        steps, looks = _STEPS_PER_VERSION * request.version, _LOOKS
        while steps and looks:
            key = resolve_key(request.key.namespace, request.key_id, request.key_ref, self.keys)
            action = decide_request_action(request, secrets, key)
            if isinstance(action, Generate) and self.requests.is_unsure(request.key):
                # A write whose answer was lost may have issued it, and its Secret may be gone since.
                request = await self.statuses.refresh(request)
                self.requests.set_unsure(request.key, unsure=False)
                continue
            try:
                made = await self._carry_out(request, action)
            except (ExistsError, ConflictError) as error:
                looks -= 1
                if isinstance(error, ConflictError):
                    request = await self.statuses.refresh(request)
                secrets = {} if request.dry_run else await self._fetch_secrets(request)
                continue
            if isinstance(action, DoNothing | CheckDryRun):
                return
            steps -= 1
            secrets |= {view.name: view for view in (made,) if view is not None}
            request = self.requests.get(request.key) or request
        raise _RefusedError(
            FailedAttempt(_KUBERNETES, "the request or its Secret keeps changing", retryable=True)
        )

    async def _carry_out(self, request: RequestView, action: Action) -> SecretView | None:
        """Take one step; return the Secret that was made, if any."""
        match action:
            case DoNothing():
                return None
            case CheckDryRun(key_id):
                await self._check_dry_run(request, key_id)
            case Generate(key_id, number):
                name = build_version_secret_name(request.secret_name, number)
                version = DataKeyVersion(number, name, await self._generate(request, key_id))
                made = await self._create_secret(request, version)
                await self._write_issued(request, version)
                return made
            case Adopt(version):
                await self._write_issued(request, version)
            case WriteReady():
                await self.statuses.write_ready(request, request.versions)
            case RestoreSecret(version):
                made = await self._create_secret(request, version)
                note = f"Secret {version.secret_name} is restored from the status"
                self.statuses.record(request, EventReason.RESTORED, note)
                return made
            case ReplaceSecret(version, old):
                await self.secrets.delete(ObjectKey(request.key.namespace, old.name), old)
                return await self._create_secret(request, version)
            case Refuse(reason, message, settling, secret_name):
                failed = FailedAttempt(reason, message, retryable=False, settling=settling)
                raise _RefusedError(failed, secret_name)
        return None

    async def _create_secret(self, request: RequestView, version: DataKeyVersion) -> SecretView:
        key = ObjectKey(request.key.namespace, version.secret_name)
        return await self.secrets.create(key, build_secret(request, version))

    async def _write_issued(self, request: RequestView, version: DataKeyVersion) -> None:
        await self.statuses.write_ready(request, (*request.versions, version))
        note = f"Encrypted data key under {version.encrypted.key_arn} in Secret {version.secret_name}"
        self.statuses.record(request, EventReason.ISSUED, note)

    async def _find_secrets(self, request: RequestView) -> dict[str, SecretView]:
        """Return the Secrets of the request's names: from memory, or with content where that matters."""
        await self.access.ensure(request.key.namespace)
        labelled = await self.secrets.follow(request.key.namespace)
        issued = {version.secret_name for version in request.versions}
        found: dict[str, SecretView] = {}
        for name in request.secret_names:
            view = labelled.find(name)
            key = ObjectKey(request.key.namespace, name)
            unlabelled = view is None and self.secrets.is_awaited(key)
            if unlabelled or (view is not None and name not in issued):
                view = await self._fetch_secret(key)
            if view is not None:
                found[name] = view
        return found

    async def _fetch_secrets(self, request: RequestView) -> dict[str, SecretView]:
        views = [
            await self._fetch_secret(ObjectKey(request.key.namespace, name)) for name in request.secret_names
        ]
        return {view.name: view for view in views if view is not None}

    async def _fetch_secret(self, key: ObjectKey) -> SecretView | None:
        try:
            return await self.secrets.fetch(key)
        except MissingError:
            return None

    async def _generate(self, request: RequestView, key_id: str) -> EncryptedDataKey:
        return await self.keyservice.generate_data_key_without_plaintext(
            request.key.namespace, build_parameters(request, key_id), request.bound_context
        )

    async def _check_dry_run(self, request: RequestView, key_id: str) -> None:
        try:
            await self._generate(request, key_id)
        except DryRunOperationError as answer:
            message = "The request would succeed; nothing was made"
            condition = Condition(request.outcome_condition, "True", answer.code, message)
            await self.statuses.write_condition(request, condition)
        else:
            raise InternalError("the key service doesn't honour DryRun")

    def _describe_kube_error(self, request: RequestView, error: KubeError) -> FailedAttempt | None:
        namespace = request.key.namespace
        if isinstance(error, MissingError) or error.is_terminating:
            # The request or its namespace is going away, which will be told.
            self.access.doubt(namespace)
            return None
        if isinstance(error, ForbiddenError):
            # The namespace may have been made anew without the RoleBinding.
            self.access.doubt(namespace)
        return FailedAttempt(_KUBERNETES, f"Kubernetes API: {error}", retryable=True)


def build_parameters(request: RequestView, key_id: str) -> dict[str, Any]:
    """Return the members of GenerateDataKeyWithoutPlaintext, apart from the encryption context."""
    parameters: dict[str, Any] = {"KeyId": key_id}
    if request.key_spec is not None:
        parameters["KeySpec"] = request.key_spec
    if request.number_of_bytes is not None:
        parameters["NumberOfBytes"] = request.number_of_bytes
    if request.grant_tokens:
        parameters["GrantTokens"] = list(request.grant_tokens)
    if request.dry_run:
        parameters["DryRun"] = True
    return parameters
