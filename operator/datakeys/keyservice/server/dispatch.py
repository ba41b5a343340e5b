"""From an HTTP request to its answer: parse, authenticate, run, audit, answer.

Zone: sees tokens and plaintexts pass, keeps and logs none. The fast path (cached token, no write) runs at
once on the event loop; everything that may block runs in the executor, where it is audited too, so that a
caller who hangs up can't leave an unrecorded change behind.
"""

import asyncio
import itertools
import logging
import os
import time
import traceback
from collections.abc import Awaitable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from datakeys.contract.errors import (
    AccessDeniedError,
    AuditError,
    InternalError,
    InvalidCiphertextError,
    KmsError,
    NotFoundError,
)
from datakeys.keyservice.audit.audit_log import AuditLog, AuditRecord
from datakeys.keyservice.authz.account import decide_account, decide_object_name
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.operations.call import AuditFacts, Call, Service, Wait, WouldBlockError
from datakeys.keyservice.operations.table import Verb
from datakeys.keyservice.server.callers import Callers
from datakeys.keyservice.server.errors import REQUEST_ID_HEADER, build_error_response
from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.server.quotas import RateQuotas
from datakeys.keyservice.server.wire import (
    parse_body,
    parse_verb,
    read_account,
    read_object_name,
)

_LOG: Final = logging.getLogger("datakeys.keyservice.dispatch")
_UNKNOWN: Final = "Unknown"


@dataclass(slots=True)
class _Exchange:
    """One request on its way."""

    request: HttpRequest
    request_id: str
    started: float
    verb: Verb | None = None
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    principal: Principal | None = None
    call: Call | None = None
    #: The rate quota counts a request once, however often it is run.
    charged: bool = False


class Dispatcher:
    """The handler of the HTTP server."""

    def __init__(
        self,
        service: Service,
        callers: Callers,
        audit: AuditLog,
        metrics: RequestMetrics,
        executor: Executor,
        quotas: RateQuotas | None = None,
    ) -> None:
        self._service = service
        self._callers = callers
        self._audit = audit
        self._metrics = metrics
        self._executor = executor
        self._quotas = quotas

    def handle(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer a request: at once if nothing can block, else by an awaitable."""
        exchange = _Exchange(request, _new_request_id(), time.perf_counter())
        try:
            exchange.verb = parse_verb(request)
            exchange.body = parse_body(request.body)
            exchange.principal = self._callers.identify(request)
        except KmsError as error:
            return self._finish(exchange, None, error)
        if exchange.principal is None:
            return self._authenticate(exchange)
        if exchange.verb.leaves_loop(exchange.body):
            return self._run_in_executor(exchange)
        return self._run(exchange)

    async def _authenticate(self, exchange: _Exchange) -> HttpResponse:
        try:
            exchange.principal = await self._callers.authenticate(exchange.request)
        except KmsError as error:
            return self._finish(exchange, None, error)
        except Exception as failure:  # noqa: BLE001 - the process edge
            return self._finish(exchange, None, _log_failure("authenticate", exchange.request_id, failure))
        if exchange.verb is not None and exchange.verb.leaves_loop(exchange.body):
            return await self._run_in_executor(exchange)
        answer = self._run(exchange)
        return answer if isinstance(answer, HttpResponse) else await answer

    async def _run_in_executor(self, exchange: _Exchange) -> HttpResponse:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run_blocking, exchange)

    def _run(self, exchange: _Exchange) -> HttpResponse | Awaitable[HttpResponse]:
        if exchange.verb is not None and exchange.verb.wait is not None:
            return self._run_after(exchange, exchange.verb.wait)
        try:
            result, error = self._execute(exchange, may_block=False)
        except WouldBlockError:
            return self._run_in_executor(exchange)
        if _may_be_new(exchange, error):
            return self._run_in_executor(exchange)
        return self._finish(exchange, result, error)

    async def _run_after(self, exchange: _Exchange, wait: Wait) -> HttpResponse:
        """Wait on the event loop, then run; a refusal comes before the waiting."""
        if exchange.principal is None:
            raise RuntimeError("an operation needs a principal")
        try:
            await wait(self._service, Call(exchange.principal, "", exchange.body))
        except KmsError as error:
            return self._finish(exchange, None, error)
        return self._finish(exchange, *self._execute(exchange))

    def _run_blocking(self, exchange: _Exchange) -> HttpResponse:
        result, error = self._execute(exchange)
        if _may_be_new(exchange, error) and exchange.call is not None:
            try:
                if self._service.store.refresh_key(exchange.call.missing_key_id) is not None:
                    result, error = self._execute(exchange)
            except KmsError as failure:
                error = failure
        return self._finish(exchange, result, error)

    def _execute(
        self, exchange: _Exchange, *, may_block: bool = True
    ) -> tuple[dict[str, Any] | None, KmsError | None]:
        """Run the operation. This is the process edge: whatever goes wrong becomes a KMS error.

        Raises:
            WouldBlockError: It may not block, but must: run it again in the executor.
        """
        verb, principal = exchange.verb, exchange.principal
        if verb is None or principal is None:
            raise RuntimeError("an operation needs a verb and a principal")
        exchange.call = call = Call(principal, "", exchange.body, may_block=may_block)
        try:
            headers = exchange.request.headers
            if verb.wait is None:
                call.account = decide_account(principal, read_account(headers))
            call.object_name = decide_object_name(principal, read_object_name(headers))
            if self._quotas is not None and not exchange.charged:
                self._quotas.take(call.account, verb.name, _name_caller(principal))
                exchange.charged = True
            return verb.run(self._service, call), None
        except KmsError as error:
            return None, error
        except WouldBlockError:
            raise
        except Exception as failure:  # noqa: BLE001 - the process edge
            return None, _log_failure(verb.name, exchange.request_id, failure)

    def _finish(
        self, exchange: _Exchange, result: dict[str, Any] | None, error: KmsError | None
    ) -> HttpResponse:
        """Write the audit record, then build the answer; no record, no answer.

        Not recorded is what the controller is told about changes: it touches no key, each change has a record
        of its own, and it would bury the others. Whoever else asks for it is on record.
        """
        if exchange.verb is not None and (error is not None or exchange.verb.wait is None):
            try:
                self._audit.write(_build_record(exchange, error))
            except AuditError as failure:
                _LOG.error("audit record lost", extra={"request_id": exchange.request_id})
                result, error = None, failure
        name = exchange.verb.name if exchange.verb is not None else _UNKNOWN
        self._metrics.count(
            name, "OK" if error is None else error.code, time.perf_counter() - exchange.started
        )
        if error is not None:
            return build_error_response(error, exchange.request_id)
        return HttpResponse(
            status=200,
            body=orjson.dumps(result),
            headers=((REQUEST_ID_HEADER, exchange.request_id.encode()),),
        )


def _name_caller(principal: Principal) -> str:
    """Return whom the rate quota knows apart; nobody if the controller calls for an account."""
    if principal.kind is PrincipalKind.CONTROLLER:
        return ""
    return principal.pod_uid or principal.service_account_uid


def _may_be_new(exchange: _Exchange, error: KmsError | None) -> bool:
    """Return whether a key was named that another replica may have made or rotated a moment ago."""
    return (
        isinstance(error, (NotFoundError, AccessDeniedError, InvalidCiphertextError))
        and exchange.call is not None
        and bool(exchange.call.missing_key_id)
    )


def _build_record(exchange: _Exchange, error: KmsError | None) -> AuditRecord:
    call = exchange.call
    facts = call.audit if call is not None else AuditFacts()
    return AuditRecord(
        request_id=exchange.request_id,
        operation=exchange.verb.name if exchange.verb is not None else _UNKNOWN,
        source=exchange.request.peer,
        principal=exchange.principal,
        account=call.account if call is not None else "",
        key_id=facts.key_arn,
        context=facts.context,
        blob=facts.ciphertext_blob,
        dry_run=facts.dry_run,
        source_key_id=facts.source_key_arn,
        source_context=facts.source_context,
        error_code="" if error is None else error.code,
        reason=facts.reason,
    )


#: The first four groups of every request's id are this process's, the last one counts its requests. An id
#: must be unique; it needn't be hard to guess.
_PROCESS_ID: Final = "-".join(os.urandom(size).hex() for size in (4, 2, 2, 2))
_REQUEST_NUMBERS: Final = itertools.count(1)


def _new_request_id() -> str:
    return f"{_PROCESS_ID}-{next(_REQUEST_NUMBERS):012x}"


def _log_failure(operation: str, request_id: str, failure: Exception) -> InternalError:
    """Log where it failed and the exception's type; never its text, which could quote a value."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(failure.__traceback__)]
    _LOG.error(
        "operation failed",
        extra={
            "operation": operation,
            "request_id": request_id,
            "error_type": type(failure).__name__,
            "frames": frames,
        },
    )
    return InternalError("The request failed because of an internal error.")
