"""The task that destroys keys whose waiting period is over."""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from datakeys.contract.errors import DependencyTimeoutError, NotFoundError
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.store.schedule import MAX_SLEEP_SECONDS, WITNESS_BEHIND_SECONDS, ScheduledTask
from keyservice_rig import Clock, Rig

WEEK = 7 * 86_400


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def task(rig: Rig, executor: ThreadPoolExecutor) -> ScheduledTask:
    made = ScheduledTask(rig.store, executor, rig.clock, build_chores(rig.service))
    rig.store.index.listeners.append(made.wake)
    return made


def schedule(rig: Rig) -> str:
    arn = rig.create_key()
    rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 7})
    return arn.rpartition("/")[2]


def test_only_what_is_due(rig: Rig, task: ScheduledTask) -> None:
    """At the date the key goes, not before; other keys stay."""
    kept, going = rig.create_key().rpartition("/")[2], schedule(rig)
    rig.clock.now += WEEK - 1
    assert task.perform_due() == 0
    assert rig.store.find_key(going)
    rig.clock.now += 1
    assert task.perform_due() == 0
    assert rig.store.find_key(going) is None
    assert rig.store.find_key(kept)


def test_cancelled_in_time(rig: Rig, task: ScheduledTask) -> None:
    """A key whose deletion was cancelled stays."""
    key_id = schedule(rig)
    rig.call("CancelKeyDeletion", {"KeyId": key_id})
    rig.clock.now += 2 * WEEK
    task.perform_due()
    assert rig.store.find_key(key_id)


class Witness:
    """Another machine's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.reachable = Clock(clock.now), True

    def __call__(self) -> float:
        """Return its time, if it can be asked."""
        if not self.reachable:
            raise DependencyTimeoutError("away")
        return self.clock.now


@pytest.fixture
def witness(rig: Rig) -> Witness:
    return Witness(rig.clock)


@pytest.fixture
def careful(rig: Rig, executor: ThreadPoolExecutor, witness: Witness) -> ScheduledTask:
    """Return a task that asks another machine's clock before it does anything."""
    return ScheduledTask(rig.store, executor, rig.clock, build_chores(rig.service), witness)


@pytest.mark.parametrize("jump", [3600, WEEK, 3650 * 86_400])
def test_a_clock_that_jumps_ahead_destroys_nothing(
    rig: Rig, careful: ScheduledTask, witness: Witness, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Not before the other clock says so too; it is told, and tried again."""
    key_id = schedule(rig)
    for clock in (rig.clock, witness.clock):
        clock.now += WEEK - 1800
    rig.clock.now += jump
    assert careful.perform_due() == 1
    assert rig.store.find_key(key_id)
    [told] = [record for record in caplog.records if "ahead of the cluster's" in record.getMessage()]
    assert told.__dict__["ahead_seconds"] == jump
    witness.clock.now += 1800
    assert careful.perform_due() == 0
    assert rig.store.find_key(key_id) is None


def test_a_deletion_can_be_cancelled_when_the_clock_is_right_again(rig: Rig, careful: ScheduledTask) -> None:
    """While it is wrong the key seems to be gone; nothing of it is."""
    key_id = schedule(rig)
    rig.clock.now += 2 * WEEK
    with pytest.raises(NotFoundError):
        rig.call("CancelKeyDeletion", {"KeyId": key_id})
    assert careful.perform_due() == 1
    rig.clock.now -= 2 * WEEK
    rig.call("CancelKeyDeletion", {"KeyId": key_id})
    rig.call("EnableKey", {"KeyId": key_id})
    assert rig.data_key(key_id)


def test_without_the_other_clock_nothing_is_destroyed(
    rig: Rig, careful: ScheduledTask, witness: Witness
) -> None:
    """It is asked only when something is due, and again later if it can't be reached."""
    witness.reachable = False
    schedule(rig)
    assert careful.perform_due() == 0
    for clock in (rig.clock, witness.clock):
        clock.now += WEEK
    assert careful.perform_due() == 1
    assert rig.store.list_scheduled()
    witness.reachable = True
    assert careful.perform_due() == 0
    assert not rig.store.list_scheduled()


def test_clocks_needn_t_be_the_same(rig: Rig, careful: ScheduledTask, witness: Witness) -> None:
    """A difference as in any healthy cluster delays nothing."""
    schedule(rig)
    rig.clock.now += WEEK
    witness.clock.now += WEEK - WITNESS_BEHIND_SECONDS
    assert careful.perform_due() == 0
    assert not rig.store.list_scheduled()


def test_material_is_forgotten(rig: Rig, task: ScheduledTask) -> None:
    """Nothing of a destroyed key stays opened in memory."""
    arn = rig.create_key()
    rig.data_key(arn)
    assert rig.keyring._opened
    rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 7})
    rig.clock.now += WEEK
    task.perform_due()
    assert not rig.keyring._opened


def test_sleep_is_bounded(rig: Rig, task: ScheduledTask) -> None:
    """It sleeps until the next date, at most five minutes, never less than nothing."""
    assert task._sleep_seconds() == MAX_SLEEP_SECONDS
    schedule(rig)
    assert task._sleep_seconds() == MAX_SLEEP_SECONDS
    rig.clock.now += WEEK - 5
    assert task._sleep_seconds() == 5
    rig.clock.now += 10
    assert task._sleep_seconds() == 0


def test_failure_is_counted_and_tried_again(
    rig: Rig, task: ScheduledTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable store leaves the key for the next round."""
    schedule(rig)
    rig.clock.now += WEEK

    def fail(*_: object) -> bool:
        raise DependencyTimeoutError("away")

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "destroy_key", fail)
        assert task.perform_due() == 1
    assert task.perform_due() == 0
    assert not rig.store.list_scheduled()


async def test_task_wakes_on_changes(rig: Rig, task: ScheduledTask) -> None:
    """A changed record wakes the task, which then finds what is due."""
    task.wake("before the start is fine")
    running = asyncio.ensure_future(task.run())
    await asyncio.sleep(0.02)
    key_id = schedule(rig)
    rig.clock.now += WEEK
    rig.create_key()
    async with asyncio.timeout(60):
        while rig.store.find_key(key_id):  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
