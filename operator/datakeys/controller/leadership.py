"""Only one replica acts. Zone: no secrets.

Two leaders at once would still give one ciphertext per request (the Secret's create is atomic), so the Lease
saves work and noise, not correctness; all the same, a replica that can't renew its Lease ends at once.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import NoReturn

from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection

from datakeys.controller import metrics
from datakeys.controller.kube.api import KubeApi
from datakeys.controller.kube.lease_lock import ApiLeaseLock
from datakeys.controller.settings import Settings

_LOG = logging.getLogger(__name__)


async def lead(
    api: KubeApi, settings: Settings, act: Callable[[], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Wait for the Lease, act as long as ``act`` runs, give the Lease back.

    Returns when ``act`` has ended or ``stop`` is set. Loss of the Lease ends the process: nothing that is
    under way may go on.
    """
    lock = ApiLeaseLock(api, settings.system_namespace, settings.identity)
    leading, finished = asyncio.Event(), asyncio.Event()
    failures: list[Exception] = []

    async def started() -> None:
        _LOG.info("leading", extra={"identity": settings.identity})
        metrics.LEADER.set(1)
        leading.set()
        try:
            await act()
        except Exception as error:  # noqa: BLE001 - carried to the end of the process, which raises it
            failures.append(error)
        finally:
            finished.set()

    config = Config(
        lock,
        lease_duration=settings.lease_seconds,
        renew_deadline=settings.renew_deadline_seconds,
        retry_period=settings.lease_retry_seconds,
        onstarted_leading=started,
        onstopped_leading=_exit_at_once,
    )
    election = asyncio.create_task(LeaderElection(config).run(), name="leader election")
    waits = {asyncio.create_task(finished.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait({election, *waits}, return_when=asyncio.FIRST_COMPLETED)
    if election.done():
        election.result()  # raises: an election without end has ended
    if leading.is_set():
        await finished.wait()  # after a stop, the operator ends in order
    for task in (election, *waits):
        task.cancel()
    await asyncio.gather(election, *waits, return_exceptions=True)
    await lock.release()
    if failures:
        raise failures[0]


async def _exit_at_once() -> NoReturn:
    _LOG.critical("lease lost")
    logging.shutdown()
    os._exit(1)
