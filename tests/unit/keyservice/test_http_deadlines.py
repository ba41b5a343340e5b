"""The order of deadlines, with a clock of our own."""

from datakeys.keyservice.server.http_deadlines import Deadlines, Phase


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def build() -> tuple[Deadlines[str], Clock]:
    """Return deadlines of 10 s (idle) and 2 s (header)."""
    clock = Clock()
    return Deadlines({Phase.IDLE: 10.0, Phase.HEADER: 2.0}, clock), clock


def test_only_overdue_members_are_popped_and_only_once() -> None:
    """A sweep yields who is due, in order, and takes it out."""
    deadlines, clock = build()
    deadlines.enter("a", Phase.HEADER)
    clock.now = 1.0
    deadlines.enter("b", Phase.HEADER)
    deadlines.enter("c", Phase.IDLE)
    clock.now = 2.5
    assert list(deadlines.pop_due()) == [("a", Phase.HEADER)]
    assert list(deadlines.pop_due()) == []
    clock.now = 20.0
    assert list(deadlines.pop_due()) == [("c", Phase.IDLE), ("b", Phase.HEADER)]


def test_entering_again_starts_anew_behind_the_others() -> None:
    """A member that moved on has its full time, and doesn't hide those behind it."""
    deadlines, clock = build()
    deadlines.enter("a", Phase.HEADER)
    deadlines.enter("b", Phase.HEADER)
    clock.now = 1.0
    deadlines.enter("a", Phase.HEADER)
    clock.now = 2.0
    assert list(deadlines.pop_due()) == [("b", Phase.HEADER)]


def test_leaving_stops_the_time() -> None:
    """Who left is never popped, and leaving twice is harmless."""
    deadlines, clock = build()
    deadlines.enter("a", Phase.IDLE)
    deadlines.leave("a", Phase.IDLE)
    deadlines.leave("a", Phase.IDLE)
    clock.now = 99.0
    assert list(deadlines.pop_due()) == []


def test_phase_without_duration_never_ends() -> None:
    """A handler at work isn't timed here."""
    deadlines, clock = build()
    deadlines.enter("a", Phase.WORK)
    deadlines.leave("a", Phase.WORK)
    clock.now = 99.0
    assert list(deadlines.pop_due()) == []
    assert len(deadlines) == 0


def test_member_entered_while_sweeping_is_kept() -> None:
    """A timeout may move its member to another phase."""
    deadlines, clock = build()
    deadlines.enter("a", Phase.HEADER)
    clock.now = 2.0
    for member, _ in deadlines.pop_due():
        deadlines.enter(member, Phase.IDLE)
    assert len(deadlines) == 1


def test_oldest_is_who_entered_first_whatever_the_phases_last() -> None:
    """A short phase ends sooner, but that makes nobody older."""
    deadlines, clock = build()
    assert deadlines.find_oldest(Phase) is None
    deadlines.enter("idle", Phase.IDLE)
    clock.now = 1.0
    deadlines.enter("header", Phase.HEADER)
    assert deadlines.find_oldest((Phase.HEADER, Phase.IDLE)) == "idle"
    assert deadlines.find_oldest((Phase.HEADER,)) == "header"
    deadlines.enter("idle", Phase.IDLE)
    clock.now = 1.5
    deadlines.enter("idle", Phase.IDLE)
    assert deadlines.find_oldest((Phase.IDLE, Phase.HEADER)) == "header"
