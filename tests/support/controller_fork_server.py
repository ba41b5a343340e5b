"""A program that starts controllers, each a process of its own that may be told at which call to die.

Zone: tests. The controller is the real one, from its settings on; only its HTTP clients are wrapped. It is
forked from this process, which has loaded the code already. Reads one JSON object per line and answers so:

    {"start": {"calls": PATH, "log": PATH, "places": {NAMESPACE: PLACE}, "death": POINT or null}}
        -> {"pid": N}
    {"wait": N, "seconds": S} -> {"status": exit status, minus the signal, or null if it still runs}
    {"kill": "all"} -> {}
"""

import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from crash_points import CallLog, Moment, Point, name_call
from datakeys.controller import main as controller
from datakeys.controller.http_client import Answer, HttpClient

_POLL_SECONDS = 0.005
_Answer = TypeVar("_Answer")


def wrap_http_clients(log: CallLog, places: dict[str, str], death: Point | None) -> None:
    """Write down every call of this process, and let it die at one of them as by ``kill -9``.

    There are two clients: the controller's own, and the one of its watches and of kopf.
    """
    call_own, request = HttpClient.call, aiohttp.ClientSession._request

    async def call_or_die(
        client: HttpClient, method: str, path: str, headers: Mapping[str, str], *rest: Any
    ) -> Answer:
        return await die_around(
            name_call(method, path, headers, places), call_own(client, method, path, headers, *rest)
        )

    async def request_or_die(
        session: aiohttp.ClientSession, method: str, url: str | URL, **options: Any
    ) -> aiohttp.ClientResponse:
        full = str(URL(url).update_query(options.get("params") or {}))
        call = name_call(method, full, dict(options.get("headers") or {}), places)
        return await die_around(call, request(session, method, url, **options))

    async def die_around(call: str, sending: Coroutine[Any, Any, _Answer]) -> _Answer:
        number = log.begin(call)
        pass_point(Point(call, number, Moment.BEFORE))
        answer = await sending
        pass_point(Point(call, number, Moment.AFTER))
        return answer

    def pass_point(point: Point) -> None:
        log.write(point, died=point == death)
        if point == death:
            os.kill(os.getpid(), signal.SIGKILL)

    HttpClient.call = call_or_die  # type: ignore[method-assign, assignment]
    aiohttp.ClientSession._request = request_or_die  # type: ignore[method-assign, assignment]


def start(calls: str, log: str, places: dict[str, str], death: dict[str, Any] | None) -> int:
    """Start a controller; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    point = death and Point(death["call"], death["number"], Moment(death["moment"]))
    wrap_http_clients(CallLog(Path(calls)), places, point or None)
    status = 1
    try:
        controller.main()
        status = 0
    finally:
        os._exit(status)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit status of a controller, or None if it still runs after a time."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def serve() -> None:
    """Do what the lines of the standard input say; at its end, end all controllers."""
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            pid = start(**order["start"])
            running.add(pid)
            answer: dict[str, Any] = {"pid": pid}
        elif "kill" in order:
            kill(running)
            answer = {}
        else:
            answer = {"status": wait(order["wait"], order["seconds"])}
            if answer["status"] is not None:
                running.discard(order["wait"])
        print(json.dumps(answer), flush=True)  # noqa: T201
    kill(running)


def kill(running: set[int]) -> None:
    """Kill these controllers, and forget them."""
    while running:
        pid = running.pop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    serve()
