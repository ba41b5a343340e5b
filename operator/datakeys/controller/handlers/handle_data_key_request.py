"""Reconciles one DataKeyRequest: at most one Secret create and one status patch. Zone: ciphertext only."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.conditions import REASON_CONFLICT, Condition
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import DryRunOperationError, InternalError, KmsError
from datakeys.controller import metrics
from datakeys.controller.decisions.failure import FailedAttempt, describe_kms_error
from datakeys.controller.decisions.keys import KeyFacts, resolve_key
from datakeys.controller.decisions.request_action import (
    Action,
    CheckDryRun,
    DoNothing,
    Generate,
    Refuse,
    RestoreSecret,
    WriteReady,
    decide_request_action,
    is_ready,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView
from datakeys.controller.decisions.secret import SecretView, build_secret
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
from datakeys.controller.request_memory import RequestMemory

#: Looks at objects that change under our hands, before the attempt counts as failed.
_LOOKS: Final = 3
_KUBERNETES: Final = "KubernetesAPI"


class _RefusedError(Exception):
    """A decision said that nothing can be done now."""

    def __init__(self, failed: FailedAttempt) -> None:
        super().__init__(failed.code)
        self.failed = failed


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

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Look at a request once; return when to look again, in seconds; None: when something changes."""
        request = self.requests.get(key)
        if request is None or request.deleting:
            return None
        started = time.monotonic()
        self.requests.set_busy(key)
        try:
            failed = await self._try(request)
            delay = None if failed is None else await self.failures.follow_up(request, failed)
        finally:
            self.requests.set_idle(key)
        metrics.RECONCILE_SECONDS.labels(failed.code if failed else "ok").observe(time.monotonic() - started)
        return delay

    async def _try(self, request: RequestView) -> FailedAttempt | None:
        """Make one attempt; return how it failed, or None."""
        try:
            await self._attempt(request)
        except _RefusedError as error:
            if error.failed.code == REASON_CONFLICT:
                self.secrets.await_removal(_secret_key(request), request.key)
            return error.failed
        except KmsError as error:
            return describe_kms_error(error)
        except KubeError as error:
            return self._describe_kube_error(request, error)
        except TimeoutError:
            return FailedAttempt(_KUBERNETES, "Kubernetes API: Secrets can't be listed", retryable=True)
        self.requests.set_done(request.key)
        self.secrets.stop_awaiting(_secret_key(request), request.key)
        return None

    async def _attempt(self, request: RequestView) -> None:
        secret = None if request.dry_run else await self._find_secret(request)
        for _ in range(_LOOKS):
            key = resolve_key(request.key.namespace, request.key_id, request.key_ref, self.keys)
            action = decide_request_action(request, secret, key)
            try:
                await self._carry_out(request, action)
            except ExistsError:
                secret = await self._fetch_secret(request)
            except ConflictError:
                request = await self.statuses.refresh(request)
                secret = None if request.dry_run else await self._fetch_secret(request)
            else:
                return
        raise _RefusedError(
            FailedAttempt(_KUBERNETES, "the request or its Secret keeps changing", retryable=True)
        )

    async def _carry_out(self, request: RequestView, action: Action) -> None:
        match action:
            case DoNothing():
                return
            case CheckDryRun(key_id):
                await self._check_dry_run(request, key_id)
            case Generate(key_id):
                encrypted = await self._generate(request, key_id)
                await self.secrets.create(_secret_key(request), build_secret(request, encrypted))
                await self._write_issued(request, encrypted)
            case WriteReady(encrypted, adopted=True):
                await self._write_issued(request, encrypted)
            case WriteReady(encrypted):
                await self.statuses.write_ready(request, encrypted)
            case RestoreSecret(encrypted):
                await self.secrets.create(_secret_key(request), build_secret(request, encrypted))
                self.statuses.record(request, EventReason.RESTORED, "The Secret is restored from the status")
                if not is_ready(request):
                    await self.statuses.write_ready(request, encrypted)
            case Refuse(reason, message, settling):
                raise _RefusedError(FailedAttempt(reason, message, retryable=False, settling=settling))

    async def _write_issued(self, request: RequestView, encrypted: EncryptedDataKey) -> None:
        await self.statuses.write_ready(request, encrypted)
        note = f"Encrypted data key under {encrypted.key_arn} in Secret {request.secret_name}"
        self.statuses.record(request, EventReason.ISSUED, note)

    async def _find_secret(self, request: RequestView) -> SecretView | None:
        """Return the Secret of the request's name: from memory, or with its content where that matters."""
        await self.access.ensure(request.key.namespace)
        labelled = await self.secrets.follow(request.key.namespace)
        view = labelled.find(request.secret_name)
        unlabelled = view is None and self.secrets.is_awaited(_secret_key(request))
        if unlabelled or (view is not None and request.issued is None):
            return await self._fetch_secret(request)
        return view

    async def _fetch_secret(self, request: RequestView) -> SecretView | None:
        try:
            return await self.secrets.fetch(_secret_key(request))
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


def _secret_key(request: RequestView) -> ObjectKey:
    return ObjectKey(request.key.namespace, request.secret_name)
