"""The Lease: who holds it, and that errors of the API never look like ownership."""

import asyncio
from typing import Any

import pytest
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

from controller_fakes import SYSTEM, FakeApi, FakeCluster
from datakeys.controller.kube.api import LEASES, Json
from datakeys.controller.kube.errors import UnavailableError
from datakeys.controller.kube.lease_lock import LEASE_NAME, ApiLeaseLock, build_lease_spec, parse_lease
from datakeys.controller.leadership import lead
from datakeys.controller.settings import Settings

LOCAL_TIME = "2026-01-02 03:04:05.678901"
ENVIRONMENT = {"DATAKEYS_SYSTEM_NAMESPACE": SYSTEM, "DATAKEYS_CLUSTER_NAME": "c"}


def record(holder: str) -> LeaderElectionRecord:
    """Return a record as the official election makes it."""
    return LeaderElectionRecord(holder, "15", LOCAL_TIME, LOCAL_TIME)


def lock(cluster: FakeCluster, identity: str = "one", api: FakeApi | None = None) -> ApiLeaseLock:
    """Return a replica's lock."""
    untyped: Any = api or FakeApi(cluster)
    return ApiLeaseLock(untyped, SYSTEM, identity)


def lease(cluster: FakeCluster) -> Json:
    """Return the Lease's spec."""
    return dict(cluster.objects[LEASES.plural, SYSTEM, LEASE_NAME]["spec"])


def settings(identity: str, *, renew_seconds: int = 300) -> Settings:
    """Return settings under which a Lease isn't lost because the machine is slow."""
    return Settings.from_environment(
        {
            **ENVIRONMENT,
            "DATAKEYS_IDENTITY": identity,
            "DATAKEYS_LEASE_SECONDS": str(renew_seconds + 1),
            "DATAKEYS_RENEW_DEADLINE_SECONDS": str(renew_seconds),
            "DATAKEYS_LEASE_RETRY_SECONDS": "1",
        }
    )


async def test_absent_lease_is_told_as_the_election_expects() -> None:
    """Only a clean 404 allows the Lease to be created; any other failure means: not now."""
    cluster = FakeCluster()
    found, answer = await lock(cluster).get(LEASE_NAME, SYSTEM)
    assert found is False
    assert '"code": 404' in str(getattr(answer, "body", ""))

    async def fail(_: str) -> None:
        raise UnavailableError(0, "Unavailable", "x")

    found, answer = await lock(cluster, api=FakeApi(cluster, before=fail)).get(LEASE_NAME, SYSTEM)
    assert found is False
    assert '"code": 0' in str(getattr(answer, "body", ""))


async def test_lease_is_created_once() -> None:
    """Of two replicas one creates the Lease."""
    cluster = FakeCluster()
    assert await lock(cluster).create(LEASE_NAME, SYSTEM, record("one")) is True
    assert await lock(cluster, "two").create(LEASE_NAME, SYSTEM, record("two")) is False
    assert lease(cluster)["holderIdentity"] == "one"
    assert lease(cluster)["renewTime"].endswith("Z")


async def test_update_needs_the_state_that_was_read() -> None:
    """A Lease that somebody has renewed since it was read isn't taken over."""
    cluster = FakeCluster()
    first, second = lock(cluster), lock(cluster, "two")
    assert await second.update(LEASE_NAME, SYSTEM, record("two")) is False
    await first.create(LEASE_NAME, SYSTEM, record("one"))
    await second.get(LEASE_NAME, SYSTEM)
    assert await first.update(LEASE_NAME, SYSTEM, record("one")) is True
    assert await second.update(LEASE_NAME, SYSTEM, record("two")) is False
    await second.get(LEASE_NAME, SYSTEM)
    assert await second.update(LEASE_NAME, SYSTEM, record("two")) is True
    assert (lease(cluster)["holderIdentity"], lease(cluster)["leaseTransitions"]) == ("two", 1)


async def test_only_the_holder_gives_the_lease_back() -> None:
    """A release empties the holder; of a foreign Lease, or one that has changed, it leaves everything."""
    cluster = FakeCluster()
    first, second = lock(cluster), lock(cluster, "two")
    await first.release()
    await first.create(LEASE_NAME, SYSTEM, record("one"))
    await second.get(LEASE_NAME, SYSTEM)
    await second.release()
    assert lease(cluster)["holderIdentity"] == "one"
    await first.release()
    assert lease(cluster)["holderIdentity"] == ""
    assert parse_lease({"spec": lease(cluster)}).holder_identity is None
    await second.get(LEASE_NAME, SYSTEM)
    await second.update(LEASE_NAME, SYSTEM, record("two"))
    await first.release()
    assert lease(cluster)["holderIdentity"] == "two"


def test_lease_and_record_are_each_others_form() -> None:
    """Times of the record, local or RFC 3339, become the Lease's UTC times."""
    spec = build_lease_spec(LeaderElectionRecord("one", "15", "2026-01-02T03:04:05Z", LOCAL_TIME), 3)
    assert spec["acquireTime"] == "2026-01-02T03:04:05.000000Z"
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (15, 3)
    assert build_lease_spec(LeaderElectionRecord("one", None, None, None), 0)["acquireTime"] is None
    back = parse_lease({"spec": spec})
    assert (back.holder_identity, back.lease_duration) == ("one", "15")
    assert parse_lease({}).lease_duration is None


async def test_leader_acts_and_gives_the_lease_back() -> None:
    """Work begins once the Lease is held; when it ends, the Lease is free."""
    cluster, acted = FakeCluster(), asyncio.Event()
    untyped: Any = FakeApi(cluster)

    async def act() -> None:
        assert lease(cluster)["holderIdentity"] == "one"
        acted.set()

    await lead(untyped, settings("one"), act, asyncio.Event())
    assert acted.is_set()
    assert lease(cluster)["holderIdentity"] == ""


async def test_failure_of_the_work_is_raised() -> None:
    """An error of the work ends the process with it, after the Lease is given back."""
    cluster = FakeCluster()
    untyped: Any = FakeApi(cluster)

    async def act() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await lead(untyped, settings("one"), act, asyncio.Event())
    assert lease(cluster)["holderIdentity"] == ""


async def test_standby_can_be_stopped() -> None:
    """A replica that waits ends when asked, and leaves the other's Lease alone."""
    cluster, stop = FakeCluster(), asyncio.Event()
    await lock(cluster, "other").create(LEASE_NAME, SYSTEM, record("other"))
    untyped: Any = FakeApi(cluster)

    async def act() -> None:
        pytest.fail("it doesn't lead")

    asyncio.get_running_loop().call_later(0.05, stop.set)
    await lead(untyped, settings("two"), act, stop)
    assert lease(cluster)["holderIdentity"] == "other"


async def test_lost_lease_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that can't renew its Lease within the deadline exits at once, whatever is under way."""
    cluster, ended = FakeCluster(), asyncio.Event()
    codes: list[int] = []

    def exit_process(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr("os._exit", exit_process)
    broken = False

    async def fail_when_broken(_: str) -> None:
        if broken:
            raise UnavailableError(0, "Unavailable", "x")

    async def act() -> None:
        nonlocal broken
        broken = True
        await ended.wait()

    untyped: Any = FakeApi(cluster, before=fail_when_broken)
    async with asyncio.timeout(60):
        # The shortest time that the official election takes.
        await lead(untyped, settings("one", renew_seconds=2), act, asyncio.Event())
    assert codes == [1]
