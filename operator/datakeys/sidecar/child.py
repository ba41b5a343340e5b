"""The short-lived child that asks the key service: start it, read its report, end it.

Zone: the child's report holds names, codes and advice; plaintext goes into the inherited files only.
"""

import os

from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.interpreter import build_command
from datakeys.sidecar.primitives import SIGKILL
from datakeys.sidecar.retry import FINAL, OK, RETRY
from datakeys.sidecar.settings import Settings

_MAX_REPORT_BYTES = 65536
#: Connecting, the handshake and one call per key take milliseconds; a child that hangs is ended.
TIMEOUT_SECONDS = 30.0


class Outcome:
    """What became of one attempt."""

    __slots__ = ("code", "kind", "name", "next_step")

    def __init__(self, name: str, kind: str, code: str, next_step: str) -> None:
        self.name = name
        self.kind = kind
        self.code = code
        self.next_step = next_step


class Child:
    """A running child and its report so far."""

    __slots__ = ("deadline", "names", "pid", "report", "report_fd")

    def __init__(self, settings: Settings, slots: list[Slot], *, now: float) -> None:
        self.names = [slot.name for slot in slots]
        self.deadline = now + TIMEOUT_SECONDS
        self.report = b""
        self.report_fd, write_fd = os.pipe()
        targets = [f"{slot.name}={slot.open()}" for slot in slots]
        command = build_command(
            "decrypt",
            settings.keyservice_url,
            settings.ca_file,
            settings.token_file,
            settings.encrypted_directory,
            *targets,
        )
        try:
            self.pid = os.posix_spawn(
                command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write_fd, 1)]
            )
        finally:
            os.close(write_fd)

    def read(self) -> bool:
        """Read what is there of the report; return True at its end."""
        chunk = os.read(self.report_fd, _MAX_REPORT_BYTES)
        self.report = (self.report + chunk)[:_MAX_REPORT_BYTES]
        return not chunk

    def finish(self) -> list[Outcome]:
        """End the child if it still runs and return one outcome per name."""
        os.close(self.report_fd)
        # It is this process's child and not yet waited for, so the id can't be another's.
        os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)
        return parse_report(self.report, self.names)


def parse_report(report: bytes, names: list[str]) -> list[Outcome]:
    """Return one outcome per name; a name the child didn't report on, or not in this form, is retried."""
    found: dict[str, Outcome] = {}
    for line in report.decode("ascii", "replace").split("\n"):
        fields = line.split("\t")
        if len(fields) == 4 and fields[0] in names and fields[1] in (OK, RETRY, FINAL):  # noqa: PLR2004
            found[fields[0]] = Outcome(*fields)
    lost = "the child process ended early: look at this container's memory limit"
    return [found.get(name) or Outcome(name, RETRY, "NoReport", lost) for name in names]
