"""Who must have moved on by when: all timeouts of a server behind one periodic sweep.

Zone: key service, network edge. Pure: the clock is an argument. Each phase has one fixed duration, so
its members, kept in the order of entry, are also in the order of their deadlines: entering costs two
dictionary writes, and a sweep looks only at those that are due and one more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Phase(IntEnum):
    """What a connection waits for."""

    #: The handler, which has its own limits.
    WORK = 0
    #: The next request.
    IDLE = 1
    #: The rest of a request's headers.
    HEADER = 2
    #: The rest of a request's body.
    BODY = 3
    #: The client, who must read its answers.
    WRITE = 4
    #: The client, who must close its side.
    CLOSE = 5


class Deadlines(Generic[Member]):
    """The members of each phase, in the order of their deadlines."""

    __slots__ = ("_clock", "_due", "_durations")

    def __init__(self, durations: Mapping[Phase, float], clock: Callable[[], float]) -> None:
        """Give each phase its duration in seconds; a phase without one never ends.

        Args:
            durations: seconds by phase.
            clock: monotonic, in seconds.
        """
        self._durations = dict(durations)
        self._clock = clock
        self._due: dict[Phase, dict[Member, float]] = {phase: {} for phase in durations}

    def enter(self, member: Member, phase: Phase) -> None:
        """Start the phase's time for a member, or start it again."""
        due = self._due.get(phase)
        if due is None:
            return
        due.pop(member, None)  # a plain write would keep the old place in the order
        due[member] = self._clock() + self._durations[phase]

    def leave(self, member: Member, phase: Phase) -> None:
        """Stop the phase's time; without effect if the member isn't in it."""
        due = self._due.get(phase)
        if due is not None:
            due.pop(member, None)

    def pop_due(self) -> Iterator[tuple[Member, Phase]]:
        """Take out and yield each member whose time is over."""
        now = self._clock()
        for phase, due in self._due.items():
            while due:
                member = next(iter(due))
                if due[member] > now:
                    break
                del due[member]
                yield member, phase

    def find_oldest(self, phases: Iterable[Phase]) -> Member | None:
        """Return who has been in its phase for longest, of all that are in one of these, or None."""
        entered: dict[Member, float] = {}
        for phase in phases:
            due = self._due.get(phase)
            if due:
                member, ends_at = next(iter(due.items()))
                entered[member] = ends_at - self._durations[phase]
        return min(entered, key=entered.__getitem__, default=None)

    def __len__(self) -> int:
        return sum(len(due) for due in self._due.values())
