"""Writes the status of DataKeyRequests and tells about it. Zone: ciphertext only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from datakeys.contract.conditions import Condition
from datakeys.controller.decisions.data_key_versions import DataKeyVersion, build_version_fields
from datakeys.controller.decisions.request_view import RequestView, parse_request
from datakeys.controller.decisions.status import build_condition_status, build_ready_status, is_reported
from datakeys.controller.kube.api import REQUESTS, KubeApi
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject
from datakeys.controller.request_memory import RequestMemory


@dataclass(frozen=True)
class StatusWriter:
    """The one place from which requests are written to."""

    api: KubeApi
    requests: RequestMemory
    recorder: EventRecorder
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def write_ready(self, request: RequestView, versions: Sequence[DataKeyVersion]) -> None:
        """Write the status of a request with these versions of its data key.

        Raises:
            ConflictError: The request has changed since it was seen.
            KubeError: The status can't be written.
        """
        await self._write(request, build_ready_status(request, versions, self.now()))

    async def write_re_encrypted(self, request: RequestView, versions: Sequence[DataKeyVersion]) -> None:
        """Write the versions of a data key, some of them re-encrypted, and nothing else.

        Raises:
            ConflictError: The request has changed since it was seen.
            KubeError: The status can't be written.
        """
        await self._write(request, build_version_fields(versions))

    async def write_condition(self, request: RequestView, condition: Condition) -> None:
        """Write a condition, unless the status already says so.

        Raises:
            ConflictError: The request has changed since it was seen.
            KubeError: The status can't be written.
        """
        if not is_reported(request, condition):
            await self._write(request, build_condition_status(request, condition, self.now()))

    async def refresh(self, request: RequestView) -> RequestView:
        """Read a request again.

        Raises:
            KubeError: It can't be read.
        """
        fresh = parse_request(await self.api.get(REQUESTS, request.key.namespace, request.key.name))
        self.requests.observe(fresh)
        return fresh

    def record(self, request: RequestView, reason: EventReason, note: str) -> None:
        """Tell about a change as an Event."""
        subject = Subject("DataKeyRequest", request.key.namespace, request.key.name, request.uid)
        self.recorder.record(subject, reason, note)

    async def _write(self, request: RequestView, status: dict[str, Any]) -> None:
        # The resourceVersion makes this a write to exactly the state that was decided on: another
        # controller's ciphertext is never overwritten, it is met as a conflict.
        body = {"metadata": {"resourceVersion": request.resource_version}, "status": status}
        answer = await self.api.patch_status(REQUESTS, request.key.namespace, request.key.name, body)
        self.requests.observe(parse_request(answer))
