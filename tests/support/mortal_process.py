"""Real controller processes that die at a call of theirs. Zone: tests."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from controller_rig import Rig
from crash_points import Passed, Point
from waiting import eventually

_PROGRAM: Final = Path(__file__).with_name("controller_fork_server.py")
#: The Lease isn't renewed while a test lasts, so that the calls are the same each time.
_LEASE: Final = {
    "DATAKEYS_LEASE_SECONDS": "600",
    "DATAKEYS_RENEW_DEADLINE_SECONDS": "500",
    "DATAKEYS_LEASE_RETRY_SECONDS": "300",
}
_KILLED: Final = -signal.SIGKILL


@dataclass
class MortalController:
    """A controller that runs, or has died."""

    server: "ForkServer"
    pid: int
    calls: Path
    log: Path
    status: int | None = None

    @property
    def passed(self) -> Passed:
        """Return the points it has passed."""
        return Passed.read(self.calls)

    def is_dead(self) -> bool:
        """Return whether it was killed; one that ended in another way is an error."""
        return self.wait_for_death(0)

    def wait_for_death(self, seconds: float) -> bool:
        """Return whether it is killed within a time."""
        if self.status is None:
            self.status = self.server.order(wait=self.pid, seconds=seconds)["status"]
        assert self.status in (None, _KILLED), (self.status, self.log.read_text()[-2000:])
        return self.status is not None

    def kill(self) -> None:
        """Kill it wherever it is."""
        if not self.is_dead():
            os.kill(self.pid, signal.SIGKILL)
            assert self.wait_for_death(60)


@dataclass
class ForkServer:
    """The program that starts controllers (``controller_fork_server``)."""

    process: "subprocess.Popen[str]"
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, places: Mapping[str, str], death: Point | None = None) -> MortalController:
        """Start a controller.

        Args:
            places: Namespace -> what it is called in the names of calls.
            death: Where it dies; None: nowhere.
        """
        number = next(self._numbers)
        calls, log = self.folder / f"calls-{number}.jsonl", self.folder / f"controller-{number}.log"
        told = {
            "calls": str(calls),
            "log": str(log),
            "places": dict(places),
            "death": death and asdict(death),
        }
        return MortalController(self, self.order(start=told)["pid"], calls, log)

    def order(self, **order: Any) -> dict[str, Any]:
        """Return the program's answer to a line."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        answer = stdout.readline()
        assert answer, "the fork server has ended"
        return dict(json.loads(answer))

    def kill_all(self) -> None:
        """Kill every controller that still runs."""
        self.order(kill="all")


@contextmanager
def running_fork_server(rig: Rig) -> Iterator[ForkServer]:
    """Yield a server whose controllers all have one identity, as those of one pod; ends them all."""
    folder = rig.folder / "mortal"
    folder.mkdir()
    settings = rig.build_controller_settings("mortal", **_LEASE)
    process = subprocess.Popen(
        [sys.executable, str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Port 0: any; nobody asks for the health of these.
        env=rig.build_environment("controller", 0, settings),
    )
    server = ForkServer(process, folder)
    try:
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def wait_until_in_place(controller: MortalController, places: tuple[str, ...]) -> None:
    """Wait until a controller hears of every change, or is dead."""
    wanted = {f"WATCH {place}" for place in places}

    def in_place() -> bool:
        if controller.is_dead():
            return True
        return wanted <= {point.call for point in controller.passed.points}

    assert eventually(in_place), controller.log.read_text()[-2000:]
