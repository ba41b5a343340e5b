"""The resident process: asks until every data key is delivered, then waits for its end and cleans up.

As an ordinary init container it ends as soon as all are delivered, and leaves them to the app.
Zone: names, codes and descriptors; no plaintext is ever in this process's memory (see ``hygiene``).
"""

import os
import sys
import time

from datakeys.sidecar.child import Child, Outcome
from datakeys.sidecar.delivery import Slot, check_directory, remove_leftovers
from datakeys.sidecar.events import ERROR, INFO, WARNING, EventLog
from datakeys.sidecar.hints import remove_hint, write_hint
from datakeys.sidecar.hygiene import forbid_core_dumps
from datakeys.sidecar.lifetime import read_boot_clock
from datakeys.sidecar.reactor import READABLE, Handler, Reactor
from datakeys.sidecar.retry import OK, RETRY, WAIT, decide_delay
from datakeys.sidecar.settings import DELIVERY_INIT, DELIVERY_SOCKET, Settings, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datakeys.sidecar.expiry import Expiry

#: What a shell reports of a process that SIGTERM has ended.
_STATUS_STOPPED = 143


class Pending:
    """A data key that isn't delivered yet."""

    __slots__ = ("attempt", "code", "due", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.due = 0.0
        self.attempt = 0
        self.code = ""


class Resident(Handler):
    """Runs one child at a time for all data keys that are due."""

    __slots__ = ("_child", "_expiry", "_log", "_pending", "_reactor", "_settings", "_started", "slots")

    def __init__(self, settings: Settings, reactor: Reactor, log: EventLog) -> None:
        self.slots = [_build_slot(settings, name) for name in settings.requests]
        self._settings = settings
        self._reactor = reactor
        self._log = log
        self._pending = [Pending(slot) for slot in self.slots]
        self._child: Child | None = None
        self._started = time.monotonic()
        self._expiry = _build_expiry(settings, self.slots, log)

    @property
    def is_done(self) -> bool:
        """Return whether every data key was delivered."""
        return not self._pending

    def advance(self, now: float) -> float | None:
        """Start or end the child and end data keys as time demands; return the next deadline (monotonic)."""
        next_end = self._expiry.advance(now, read_boot_clock()) if self._expiry else None
        deadlines = [next_end, self._advance_child(now)]
        return min((one for one in deadlines if one is not None), default=None)

    def _advance_child(self, now: float) -> float | None:
        self._pending = [pending for pending in self._pending if not pending.slot.gone]
        if self._child and self._child.deadline <= now:
            self._finish_child()
        if not self._child:
            self._start_child(now)
        if self._child:
            return self._child.deadline
        return min((pending.due for pending in self._pending), default=None)

    def handle(self) -> None:
        """Take what the child reports."""
        if self._child and self._child.read():
            self._finish_child()

    def close(self) -> None:
        """End the child; overwrite and remove every data key."""
        if self._child:
            self._reactor.remove(self._child.report_fd)
            self._child.finish()
            self._child = None
        for slot in self.slots:
            slot.close()
            remove_hint(slot.directory, slot.name)
        remove_leftovers(self._settings.keys_directory, self._settings.requests)

    def _start_child(self, now: float) -> None:
        due = []
        for pending in self._pending:
            if pending.due > now:
                continue
            missing = self._find_missing_input(pending.slot.name)
            if missing:
                self._postpone(pending, WAIT, "MissingInput", f"waits for {missing}")
            else:
                due.append(pending.slot)
        if due:
            self._child = Child(self._settings, due, now=now)
            self._reactor.add(self._child.report_fd, READABLE, self)

    def _find_missing_input(self, name: str) -> str:
        """Return the path that isn't there yet, or "": a child would only find out at a higher price."""
        settings = self._settings
        for path in (f"{settings.encrypted_directory}/{name}", settings.token_file, settings.ca_file):
            if not os.access(path, os.R_OK):
                return path
        return ""

    def _finish_child(self) -> None:
        child, self._child = self._child, None
        if child:
            self._reactor.remove(child.report_fd)
            for outcome in child.finish():
                self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        pending = next((one for one in self._pending if one.slot.name == outcome.name), None)
        if not pending:
            return  # its time was over while the child asked
        if outcome.kind == OK and pending.slot.publish():
            self._pending.remove(pending)
            remove_hint(pending.slot.directory, pending.slot.name)
            if self._expiry:
                self._expiry.begin(pending.slot, read_boot_clock())
            elapsed = int((time.monotonic() - self._started) * 1000)
            self._log.write("delivered", request=outcome.name, milliseconds=elapsed)
            return
        pending.slot.close()
        if outcome.kind == OK:
            # Of a data key that may be read once nobody may have the file open before it is delivered.
            next_step = "end the process that opens unfinished files in the volume"
            self._postpone(pending, RETRY, "FileInUse", next_step)
        else:
            self._postpone(pending, outcome.kind, outcome.code or "NoReport", outcome.next_step)

    def _postpone(self, pending: Pending, kind: str, code: str, next_step: str) -> None:
        if code != pending.code:
            pending.code, pending.attempt = code, 0
            write_hint(pending.slot.directory, pending.slot.name, code)
            self._log.write(
                "waiting" if kind == WAIT else "decrypt_failed",
                WARNING,
                request=pending.slot.name,
                code=code,
                retry=kind,
                next=next_step,
            )
        pending.attempt += 1
        delay = decide_delay(kind, pending.attempt, jitter=os.urandom(1)[0] / 255)
        pending.due = time.monotonic() + delay


def _build_slot(settings: Settings, name: str) -> Slot:
    return Slot(
        settings.keys_directory,
        name,
        named=settings.delivery != DELIVERY_SOCKET,
        file_mode=settings.file_mode,
        reads_once=bool(settings.reads),
    )


def _build_expiry(settings: Settings, slots: list[Slot], log: EventLog) -> "Expiry | None":
    if not settings.ttl_seconds and not settings.reads:
        return None
    # Imported here: most data keys live as long as their pod.
    from datakeys.sidecar.expiry import Expiry  # noqa: PLC0415

    return Expiry(settings, slots, log)


def serve(settings: Settings, reactor: Reactor, log: EventLog) -> bool:
    """Deliver all data keys and keep them until the reactor is told to stop.

    Returns:
        Whether it ended by itself: with delivery ``init``, every data key is there and stays.
    """
    resident = Resident(settings, reactor, log)
    server = endpoint = None
    ends_when_done = settings.delivery == DELIVERY_INIT
    try:
        if settings.endpoint_port:
            # Imported here: most pods do without it.
            from datakeys.sidecar.endpoint import Endpoint  # noqa: PLC0415

            endpoint = Endpoint(settings, reactor, log)
        if settings.requests and settings.delivery == DELIVERY_SOCKET:
            # Imported here: delivery by file does without it.
            from datakeys.sidecar.socket_server import SocketServer  # noqa: PLC0415

            server = SocketServer(settings.socket_path, resident.slots, reactor)
        while not reactor.stopping:
            now = time.monotonic()
            deadlines = [
                resident.advance(now),
                server.expire(now) if server else None,
                endpoint.advance(now) if endpoint else None,
            ]
            if ends_when_done and resident.is_done:
                return True
            reactor.step(min((one for one in deadlines if one is not None), default=None))
    finally:
        if endpoint:
            endpoint.close()
        if server:
            server.close()
        if not (ends_when_done and resident.is_done):
            resident.close()
    return False


def main() -> None:
    """Run until the work is done or SIGTERM comes; exit status 1 if the settings or the volume aren't fit."""
    forbid_core_dumps()
    try:
        settings = read_settings(dict(os.environ))
        risk = _check_volume(settings)
    except ValueError as error:
        EventLog(ERROR).write("refused", ERROR, reason=str(error))
        sys.exit(1)
    log = EventLog(settings.log_level)
    reactor = Reactor()
    reactor.catch_signals()
    advice = {"next": risk} if risk else {}
    level = WARNING if risk else INFO
    log.write("started", level, requests=len(settings.requests), delivery=settings.delivery, **advice)
    done = serve(settings, reactor, log)
    log.write("stopped")
    # An app must not start without its data keys because their container was stopped early.
    status = _STATUS_STOPPED if settings.delivery == DELIVERY_INIT and not done else 0
    # Skips the interpreter's clean-up: everything is removed already.
    os._exit(status)


def _check_volume(settings: Settings) -> str:
    risk = check_directory(settings.keys_directory) if settings.requests else ""
    if settings.reads and settings.delivery != DELIVERY_SOCKET:
        from datakeys.sidecar.lease import check_leases  # noqa: PLC0415 - only this delivery needs it

        check_leases(settings.keys_directory)
    return risk
