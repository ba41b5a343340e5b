"""The Lease that says which replica leads, in the form that the official leader election asks for.

Zone: no secrets. The official ``LeaseLock`` has no timeouts and lets connection errors through, either of
which could leave two leaders or none; this one answers "not now" instead. Source: Kubernetes "Leases".
"""

import json
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from datakeys.controller.kube.api import LEASES, Json, KubeApi
from datakeys.controller.kube.errors import KubeError, MissingError

_LOG = logging.getLogger(__name__)
LEASE_NAME: Final = "datakeys-controller"


class ApiLeaseLock(BaseLock):
    """A Lease behind the thin client."""

    def __init__(self, api: KubeApi, namespace: str, identity: str) -> None:
        super().__init__(LEASE_NAME, namespace, identity)
        self._api = api
        self._lease: Json | None = None

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, ApiException]:
        """Return the record, or the error in the form the election understands."""
        try:
            self._lease = await self._api.get(LEASES, namespace, name)
        except KubeError as error:
            exists = not isinstance(error, MissingError)
            answer = ApiException(status=error.status, reason=error.reason)
            answer.body = json.dumps({"code": 0 if exists else int(HTTPStatus.NOT_FOUND)})
            return False, answer
        return True, parse_lease(self._lease)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease; return whether it is ours."""
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace},
            "spec": build_lease_spec(election_record, 0),
        }
        try:
            self._lease = await self._api.create(LEASES, namespace, lease)
        except KubeError as error:
            _LOG.info("lease not created", extra={"error": str(error)})
            return False
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Replace the Lease as it was read; return whether it is ours."""
        if self._lease is None:
            return False
        old = self._lease.get("spec") or {}
        transitions = int(old.get("leaseTransitions") or 0)
        if old.get("holderIdentity") != updated_record.holder_identity:
            transitions += 1
        try:
            self._lease = await self._api.replace(
                LEASES,
                namespace,
                name,
                {**self._lease, "spec": build_lease_spec(updated_record, transitions)},
            )
        except KubeError as error:
            _LOG.info("lease not renewed", extra={"error": str(error)})
            return False
        return True

    async def release(self) -> None:
        """Give up an own Lease on a clean exit, so that the other replica needn't wait for it to expire."""
        if self._lease is None or (self._lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._api.replace(LEASES, self.namespace, self.name, {**self._lease, "spec": spec})
        except KubeError as error:
            _LOG.info("lease not released", extra={"error": str(error)})


def parse_lease(lease: Json) -> LeaderElectionRecord:
    """Return the election's record; a released Lease has no holder."""
    spec = lease.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    return LeaderElectionRecord(
        spec.get("holderIdentity") or None,
        str(duration) if duration else None,
        spec.get("acquireTime"),
        spec.get("renewTime"),
    )


def build_lease_spec(record: LeaderElectionRecord, transitions: int) -> Json:
    """Return the spec of a Lease; the record's times are local times without a zone or RFC 3339."""
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(float(record.lease_duration or 1)),
        "acquireTime": _micro_time(record.acquire_time),
        "renewTime": _micro_time(record.renew_time),
        "leaseTransitions": transitions,
    }


def _micro_time(text: str | None) -> str | None:
    return (
        None
        if text is None
        else datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    )
