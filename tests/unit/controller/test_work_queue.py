"""The queue: one worker per name, nothing lost, nothing polled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller_fakes import NAMESPACE
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.work_queue import WorkQueue

A, B = ObjectKey(NAMESPACE, "a"), ObjectKey(NAMESPACE, "b")


async def run_while(queue: WorkQueue, check: Callable[[], bool]) -> None:
    """Run a queue until something is so."""
    task = asyncio.create_task(queue.run())
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - whatever the event loop does next may make it so
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def recording(
    done: list[ObjectKey], delays: dict[ObjectKey, float] | None = None
) -> Callable[[ObjectKey], Awaitable[float | None]]:
    """Return work that remembers what it has worked on."""

    async def work(key: ObjectKey) -> float | None:
        done.append(key)
        return (delays or {}).pop(key, None)

    return work


async def test_name_that_waits_is_worked_on_once() -> None:
    """Adding a waiting name again changes nothing; the order is kept."""
    done: list[ObjectKey] = []
    queue = WorkQueue(recording(done), workers=2)
    for key in (A, B, A, A):
        queue.add(key)
    assert queue.waiting_keys() == (A, B)
    await run_while(queue, lambda: len(done) == 2)
    assert done == [A, B]


async def test_name_is_never_worked_on_twice_at_once() -> None:
    """A name that is added while it is worked on comes again afterwards, once."""
    running = most = 0
    done: list[ObjectKey] = []

    async def work(key: ObjectKey) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if len(done) == 0:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.01)
        running -= 1
        done.append(key)

    queue = WorkQueue(work, workers=8)
    queue.add(A)
    await run_while(queue, lambda: len(done) == 2)
    await asyncio.sleep(0.03)
    assert (most, done) == (1, [A, A])


async def test_workers_bound_the_parallel_work() -> None:
    """No more names are worked on at once than there are workers."""
    running = most = done = 0

    async def work(_: ObjectKey) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done += 1

    queue = WorkQueue(work, workers=3)
    for number in range(50):
        queue.add(ObjectKey(NAMESPACE, str(number)))
    await run_while(queue, lambda: done == 50)
    assert most == 3


async def test_delay_is_an_appointment() -> None:
    """Work that asks for a delay is done again after it."""
    done: list[ObjectKey] = []
    queue = WorkQueue(recording(done, {A: 0.01}), workers=1)
    queue.add(A)
    await run_while(queue, lambda: done == [A, A])


async def test_add_comes_before_the_appointment() -> None:
    """A change doesn't wait for the appointment, and the appointment isn't kept besides."""
    done: list[ObjectKey] = []
    queue = WorkQueue(recording(done), workers=1)
    queue.add_later(A, 0.02)
    queue.add(A)
    await run_while(queue, lambda: done == [A])
    await asyncio.sleep(0.04)
    assert queue.waiting_keys() == ()


async def test_change_during_work_beats_the_delay() -> None:
    """If a name was added while it was worked on, it comes at once, whatever delay the work asks for."""
    done: list[ObjectKey] = []

    async def work(key: ObjectKey) -> float | None:
        done.append(key)
        if len(done) == 1:
            queue.add(key)
            return 3600.0
        return None

    queue = WorkQueue(work, workers=1)
    queue.add(A)
    await run_while(queue, lambda: done == [A, A])


async def test_forgotten_name_has_no_appointment() -> None:
    """A deleted object isn't looked at again."""
    done: list[ObjectKey] = []
    queue = WorkQueue(recording(done), workers=1)
    queue.add_later(A, 0.01)
    queue.forget(A)
    await asyncio.sleep(0.03)
    assert queue.waiting_keys() == ()


async def test_defect_of_one_object_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is logged, and the worker goes on with the next name."""
    done: list[ObjectKey] = []

    async def work(key: ObjectKey) -> None:
        if key == A:
            raise ZeroDivisionError
        done.append(key)

    queue = WorkQueue(work, workers=1)
    queue.add(A)
    queue.add(B)
    await run_while(queue, lambda: done == [B])
    assert [record.message for record in caplog.records] == ["defect"]
    queue.forget(A)
