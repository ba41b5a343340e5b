"""Makes the DataKeyRequests of one annotated workload, and keeps their ownerReferences. Zone: no secrets.

Nothing is written for a workload that has its requests. A request that isn't ours is never touched, and none
is ever deleted here.
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from datakeys.contract.identity import LABEL_WORKLOAD
from datakeys.controller.decisions.backoff import backoff_seconds, is_quiet
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.decisions.workload_request import (
    Leave,
    Problem,
    SetOwners,
    WantedRequests,
    decide_former_step,
    decide_request_step,
    decide_wanted_requests,
    workload_label,
)
from datakeys.controller.decisions.workload_view import WorkloadView
from datakeys.controller.kube.api import REQUESTS, Json, KubeApi
from datakeys.controller.kube.errors import ConflictError, ExistsError, KubeError, MissingError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject
from datakeys.controller.workload_memory import WorkloadMemory, WorkloadState

_LOG = logging.getLogger(__name__)
#: Looks at a request that changes under our hands, before the attempt counts as failed.
_LOOKS: Final = 4


@dataclass(frozen=True)
class WorkloadReconciler:
    """Carries out what ``decide_wanted_requests`` and ``decide_request_step`` decide."""

    api: KubeApi
    workloads: WorkloadMemory
    recorder: EventRecorder
    fraction: Callable[[], float] = random.random

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Look at a workload once; return when to look again, in seconds; None: when something changes."""
        view = self.workloads.get(key)
        if view is None:
            return None
        wanted = decide_wanted_requests(view)
        try:
            problems = await self._attempt(key, view, wanted)
        except KubeError as error:
            return self._follow_up(key, view, error)
        state = WorkloadState.PROBLEM if problems else WorkloadState.SETTLED
        self.workloads.settle(key, None if wanted is None else state)
        self._tell(key, view, {problem.message: EventReason(problem.reason.value) for problem in problems})
        return None

    async def _attempt(
        self, key: ObjectKey, view: WorkloadView, wanted: WantedRequests | Problem | None
    ) -> list[Problem]:
        """Make and repair what is wanted; return what can't be had.

        Raises:
            KubeError: The API server refuses, or doesn't answer.
        """
        if not isinstance(wanted, WantedRequests):
            self.workloads.ask_for(key, ())
            return [] if wanted is None else [wanted]
        self.workloads.ask_for(key, wanted.bodies)
        made = await self._fetch_made(view)
        # Those of ordinals that were scaled away are followed too.
        self.workloads.ask_for(key, {*wanted.bodies, *made})
        for found in made.values():
            self.workloads.observe_request(found)
        problems = [wanted.problem]
        for name, body in wanted.bodies.items():
            problems.append(await self._settle_wanted(view, wanted, body, made.pop(name, None)))
        for former in made.values():
            await self._settle_former(view, wanted, former)
        return [problem for problem in problems if problem is not None]

    async def _settle_wanted(
        self, view: WorkloadView, wanted: WantedRequests, body: Json, found: Json | None
    ) -> Problem | None:
        for _ in range(_LOOKS):
            step = decide_request_step(view, wanted, body, found)
            if isinstance(step, Leave):
                return step.problem
            try:
                found = await (
                    self._set_owners(found or body, step)
                    if isinstance(step, SetOwners)
                    else self._create(view, body)
                )
            except (ExistsError, ConflictError, MissingError):
                found = await self._fetch(view, body["metadata"]["name"])
        raise ConflictError(0, "Conflict", f"DataKeyRequest {body['metadata']['name']} keeps changing")

    async def _settle_former(self, view: WorkloadView, wanted: WantedRequests, found: Json) -> None:
        step = decide_former_step(view, wanted, found)
        if isinstance(step, SetOwners):
            await self._set_owners(found, step)

    async def _fetch_made(self, view: WorkloadView) -> dict[str, Json]:
        """Return the requests that carry the workload's label, by name."""
        selector = f"{LABEL_WORKLOAD}={workload_label(view)}"
        answer = await self.api.list(REQUESTS, view.namespace, labelSelector=selector)
        return {item["metadata"]["name"]: item for item in answer.get("items") or []}

    async def _fetch(self, view: WorkloadView, name: str) -> Json | None:
        try:
            return self._observe(await self.api.get(REQUESTS, view.namespace, name))
        except MissingError:
            return None

    async def _create(self, view: WorkloadView, body: Json) -> Json:
        made = self._observe(await self.api.create(REQUESTS, view.namespace, body))
        self._record(view, EventReason.REQUEST_CREATED, f"DataKeyRequest {made['metadata']['name']}")
        return made

    async def _set_owners(self, found: Json, step: SetOwners) -> Json:
        metadata = found["metadata"]
        # The resourceVersion makes this a write to exactly the state that was decided on.
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "ownerReferences": list(step.owners)}
        }
        return self._observe(await self.api.patch(REQUESTS, metadata["namespace"], metadata["name"], body))

    def _observe(self, request: Json) -> Json:
        self.workloads.observe_request(request)
        return request

    def _follow_up(self, key: ObjectKey, view: WorkloadView, error: KubeError) -> float | None:
        if error.is_terminating:
            return None  # the namespace is being removed, and the workload with it
        attempt = self.workloads.count_failure(key)
        _LOG.info(
            "requests of a workload not made",
            extra={
                "namespace": key.namespace,
                "object": key.name,
                "reason": error.reason,
                "attempt": attempt,
            },
        )
        if not is_quiet(attempt):
            text = f"The data key's request can't be made yet and is tried again: Kubernetes API: {error}"
            self._tell(key, view, {text: EventReason.FAILED})
        return backoff_seconds(attempt, self.fraction())

    def _tell(self, key: ObjectKey, view: WorkloadView, messages: Mapping[str, EventReason]) -> None:
        for message in sorted(self.workloads.find_untold(key, messages)):
            self._record(view, messages[message], message)

    def _record(self, view: WorkloadView, reason: EventReason, note: str) -> None:
        told = view.told
        subject = Subject(told.kind, view.namespace, told.name, told.uid, told.api_version)
        self.recorder.record(subject, reason, note)
