"""Starts and ends long-running programs, and ends one only while its pid still means the same process."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from testcluster.progress import TestclusterError


@dataclass(frozen=True)
class Daemon:
    """A started program: enough to find it again, to tell it from a recycled pid and to start it anew."""

    name: str
    pid: int
    start_ticks: int
    command: tuple[str, ...]
    log: str
    environment: Mapping[str, str]


def start(
    directory: Path, name: str, command: Iterable[str], environment: Mapping[str, str] | None = None
) -> Daemon:
    """Start a program in the background, its output appended to `logs/<name>.log`, and record it.

    A shell in between makes it a child of init, so that neither the caller's end nor its exit code
    matter, and the caller has no zombie to reap.
    """
    arguments = tuple(command)
    log = directory / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    extra = dict(environment or {})
    launched = subprocess.run(
        ["/bin/sh", "-c", '"$@" >>"$0" 2>&1 </dev/null & echo $!', str(log), *arguments],
        env={**os.environ, **extra},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    pid = int(launched.stdout)
    daemon = Daemon(name, pid, start_ticks(pid) or 0, arguments, str(log), extra)
    record = _record(directory, name)
    record.parent.mkdir(exist_ok=True)
    # In one step: somebody else may be reading the records.
    draft = record.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(daemon)))
    draft.rename(record)
    return daemon


def restart(directory: Path, name: str) -> Daemon:
    """Kill a recorded program with SIGKILL, wait for its end and start the same command again."""
    daemon = recorded(directory).get(name)
    if daemon is None:
        raise TestclusterError(
            f"{name} is not a program of this cluster; there are {sorted(recorded(directory))}"
        )
    end([daemon])
    return start(directory, name, daemon.command, daemon.environment)


def recorded(directory: Path) -> dict[str, Daemon]:
    """Programs started for a cluster, in the order of their start."""
    found = []
    for record in (directory / "pids").glob("*.json"):
        fields = json.loads(record.read_text())
        found.append(Daemon(**{**fields, "command": tuple(fields["command"])}))
    return {daemon.name: daemon for daemon in sorted(found, key=lambda daemon: daemon.start_ticks)}


def is_alive(daemon: Daemon) -> bool:
    """Whether the very process that was started still runs (not a zombie, not a recycled pid)."""
    return start_ticks(daemon.pid) == daemon.start_ticks != 0


def end(daemons: Iterable[Daemon]) -> None:
    """Send SIGKILL (an API server keeps its port for a minute after SIGTERM) and wait for the end."""
    alive = [daemon for daemon in daemons if is_alive(daemon)]
    for daemon in alive:
        _kill(daemon.pid)
    wait_gone((daemon.pid, daemon.start_ticks) for daemon in alive)


def end_tree(members: Iterable[tuple[int, int]]) -> None:
    """Kill the processes that `with_descendants` found, and wait for their end."""
    found = list(members)
    for pid, ticks in found:
        if start_ticks(pid) == ticks:
            _kill(pid)
    wait_gone(found)


def pids_with_argument(argument: str) -> list[int]:
    """Processes that have this exact word on their command line."""
    word = argument.encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if word in words:
            found.append(int(entry.parent.name))
    return found


def start_ticks(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot; None when it is gone or a zombie.

    A zombie whose other threads are still ending counts as alive: they hold its files, so its port is taken.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, threads = fields[0], int(fields[17])
    return None if state in "ZX" and threads <= 1 else int(fields[19])


def with_descendants(roots: Iterable[int]) -> list[tuple[int, int]]:
    """Return (pid, start ticks) of processes and of all that they have started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    members = set(roots)
    while grown := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= grown
    return [(pid, ticks) for pid in members if (ticks := start_ticks(pid)) is not None]


def wait_gone(processes: Iterable[tuple[int, int]], within_seconds: float = 120) -> None:
    """Wait until none of the (pid, start ticks) pairs lives.

    Raises:
        TestclusterError: One still lives after that time.
    """
    waiting = list(processes)
    deadline = time.monotonic() + within_seconds
    while waiting := [(pid, ticks) for pid, ticks in waiting if start_ticks(pid) == ticks]:
        if time.monotonic() > deadline:
            raise TestclusterError(
                f"still alive {within_seconds} s after SIGKILL: {[pid for pid, _ in waiting]}"
            )
        time.sleep(0.02)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may end by itself between the look and the signal
        os.kill(pid, signal.SIGKILL)


def _record(directory: Path, name: str) -> Path:
    return directory / "pids" / f"{name}.json"
