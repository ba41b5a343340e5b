"""What happens after a failed attempt at a DataKeyRequest. Zone: names and reasons only."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from datakeys.contract.conditions import REASON_CONFLICT, Condition
from datakeys.controller.decisions.backoff import backoff_seconds
from datakeys.controller.decisions.failure import FailedAttempt, decide_follow_up
from datakeys.controller.decisions.request_view import RequestView
from datakeys.controller.handlers.request_status import StatusWriter
from datakeys.controller.kube.errors import KubeError, MissingError
from datakeys.controller.kube.events import EventReason
from datakeys.controller.request_memory import RequestMemory, State

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailureReporter:
    """Counts failures in memory and reports those that are more than a blip."""

    requests: RequestMemory
    statuses: StatusWriter
    fraction: Callable[[], float] = random.random

    async def follow_up(self, request: RequestView, failed: FailedAttempt) -> float | None:
        """Return when to try again, in seconds; None: when something changes."""
        key, fraction = request.key, self.fraction()
        attempt = self.requests.count_failure(key)
        follow_up = decide_follow_up(
            failed,
            condition_type=request.outcome_condition,
            attempt=attempt,
            now=self.statuses.now(),
            fraction=fraction,
        )
        _LOG.info(
            "data key not issued",
            extra={"namespace": key.namespace, "object": key.name, "reason": failed.code, "attempt": attempt},
        )
        if follow_up.condition is None:
            return follow_up.delay_seconds
        retrying = follow_up.delay_seconds is not None
        self.requests.set_waiting(key, state=State.RETRYING if retrying else State.FAILED)
        current = self.requests.get(key)
        if current is None or current.uid != request.uid:
            return None
        if await self._report(current, follow_up.condition, failed):
            return follow_up.delay_seconds
        return backoff_seconds(attempt, fraction)

    async def _report(self, request: RequestView, condition: Condition, failed: FailedAttempt) -> bool:
        """Write a condition; return whether that is done with."""
        before = request.outcome
        try:
            await self.statuses.write_condition(request, condition)
        except MissingError:
            return True
        except KubeError as error:
            _LOG.warning(
                "condition not written",
                extra={"namespace": request.key.namespace, "object": request.key.name, "error": str(error)},
            )
            return False
        if before is None or before.reason != condition.reason:
            reason = EventReason.CONFLICT if failed.code == REASON_CONFLICT else EventReason.FAILED
            self.statuses.record(request, reason, condition.message)
        return True
