"""Ends data keys when their time is over or they were read, and keeps them away after a restart.

Zone: names, times and descriptors. Loaded only if the workload has limited the lifetime of its data keys.
"""

from datakeys.sidecar.delivery import Slot, remove_leftovers
from datakeys.sidecar.events import EventLog
from datakeys.sidecar.lifetime import read_mark, write_mark
from datakeys.sidecar.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datakeys.sidecar.first_read import FirstRead


class Expiry:
    """Knows the end of every data key, in seconds since boot."""

    __slots__ = ("_ends", "_first_read", "_log", "_slots", "_ttl_seconds")

    def __init__(self, settings: Settings, slots: list[Slot], log: EventLog) -> None:
        self._ttl_seconds = settings.ttl_seconds
        self._log = log
        self._ends: dict[str, float] = {}
        #: Those whose end is still to be told.
        self._slots = list(slots)
        self._first_read = _build_first_read(settings, slots)
        for slot in slots:
            end = read_mark(slot.directory, slot.name)
            if end is not None:
                self._ends[slot.name] = end

    def begin(self, slot: Slot, boot_now: float) -> None:
        """Begin the lifetime of a data key that was delivered, unless it had begun before a restart."""
        if self._ttl_seconds and slot.name not in self._ends:
            self._ends[slot.name] = boot_now + self._ttl_seconds
            write_mark(slot.directory, slot.name, self._ends[slot.name])

    def advance(self, now: float, boot_now: float) -> float | None:
        """End what is over; return the next deadline, None for never.

        Args:
            now: Monotonic seconds, as the deadline is.
            boot_now: Seconds since boot, which a restart and a node's sleep don't touch.
        """
        next_look = self._first_read.advance(now) if self._first_read else None
        for slot in list(self._slots):
            if slot.gone:
                self._tell(slot, "it was read")
            elif self._ends.get(slot.name, boot_now + 1) <= boot_now:
                slot.end()
                # What a predecessor of this container may have left under this name.
                remove_leftovers(slot.directory, [slot.name])
                self._tell(slot, "its lifetime is over")
        ends = [self._ends[slot.name] - boot_now + now for slot in self._slots if slot.name in self._ends]
        return min(ends + ([] if next_look is None else [next_look]), default=None)

    def _tell(self, slot: Slot, cause: str) -> None:
        self._slots.remove(slot)
        self._log.write("expired", request=slot.name, cause=cause)


def _build_first_read(settings: Settings, slots: list[Slot]) -> "FirstRead | None":
    if not settings.reads or not any(slot.named for slot in slots):
        return None
    # Imported here: only this kind of delivery needs it.
    from datakeys.sidecar.first_read import FirstRead  # noqa: PLC0415

    return FirstRead(slots)
