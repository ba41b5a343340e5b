"""Delivery by file to one reader: the file loses its name at the first open, and its content after the read.

Zone: names and descriptors. The kernel holds the reader up until the name is gone, so nobody can come later;
those who asked for the file in the same moment, a millisecond or so, wait together and all read it.
"""

from datakeys.sidecar.delivery import Slot
from datakeys.sidecar.lease import is_broken, release_lease, take_lease
from datakeys.sidecar.primitives import SIGIO, on_signal

#: A reader that keeps the file open longer than this finds it empty.
READ_SECONDS = 10.0
#: Reading takes less than a millisecond; whoever takes longer is asked about at doubled distances.
_FIRST_LOOK_SECONDS = 0.005


class Reading:
    """A file without a name that somebody is reading."""

    __slots__ = ("due", "end", "pause", "slot")

    def __init__(self, slot: Slot, now: float) -> None:
        self.slot = slot
        self.pause = _FIRST_LOOK_SECONDS
        self.due = now + self.pause
        self.end = now + READ_SECONDS


class FirstRead:
    """Watches delivered files by their leases."""

    __slots__ = ("_readings", "_slots")

    def __init__(self, slots: list[Slot]) -> None:
        self._slots = slots
        self._readings: dict[str, Reading] = {}
        # The kernel tells of a waiting reader by this signal: all it must do is end the reactor's step.
        on_signal(SIGIO, _ignore)

    def advance(self, now: float) -> float | None:
        """Let waiting readers in and end what was read; return the next deadline (monotonic), if any."""
        for slot in self._slots:
            if slot.ready and slot.name not in self._readings and is_broken(slot.fd):
                slot.hide()
                release_lease(slot.fd)
                self._readings[slot.name] = Reading(slot, now)
        for reading in [one for one in self._readings.values() if one.due <= now]:
            self._look(reading, now)
        return min((one.due for one in self._readings.values()), default=None)

    def _look(self, reading: Reading, now: float) -> None:
        slot = reading.slot
        # The lease is granted only if nobody has the file open any more.
        if not slot.ready or reading.end <= now or take_lease(slot.fd):
            slot.end()
            del self._readings[slot.name]
        else:
            reading.pause *= 2
            reading.due = min(now + reading.pause, reading.end)


def _ignore(*_: object) -> None:
    return
