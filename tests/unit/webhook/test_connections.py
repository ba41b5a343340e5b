"""Who gets a place, and who has to go for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from datakeys.webhook.connections import Connections, Limits, Place, name_peer

LIMITS = Limits(connections=6, per_address=4, held_bytes=1000, turns=2)


class Door:
    """Lets callers in and remembers who had to go."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.ended: list[str] = []
        self.counted = 0
        self.table = Connections(limits, self._count)

    def _count(self) -> None:
        self.counted += 1

    def enter(self, address: str, name: str = "") -> Place:
        """Let one in that must have a place."""
        place = self.table.admit(address)
        assert place is not None
        place.end = self._build_end(name or address)
        return place

    def _build_end(self, name: str) -> Callable[[], None]:
        return lambda: self.ended.append(name)


def test_stranger_makes_room_for_itself_in_its_own_share() -> None:
    """Its oldest goes; others keep theirs."""
    door = Door()
    door.enter("10.0.0.1", "api")
    for number in range(6):
        door.enter("10.0.0.9", f"stranger {number}")
    assert door.ended == ["stranger 0", "stranger 1"]
    assert door.counted == 2


def test_newcomer_takes_a_place_of_who_has_most() -> None:
    """An API server with one connection neither goes nor is kept out."""
    door = Door()
    door.enter("10.0.0.1", "api")
    for number in range(5):
        door.enter(f"10.0.0.{8 + number % 2}", f"stranger {number}")
    door.enter("10.0.0.2", "other api")
    door.enter("10.0.0.2", "other api")
    assert door.ended == ["stranger 0", "stranger 2"]


def test_who_is_worked_on_stays() -> None:
    """Until it waits again, and then it is the youngest; with all at work a newcomer is refused."""
    door = Door()
    places = [door.enter("10.0.0.9", str(number)) for number in range(4)]
    for place in places:
        door.table.begin_work(place)
    assert door.table.admit("10.0.0.9") is None
    assert door.counted == 1
    assert door.table.admit("10.0.0.1") is not None
    door.table.end_work(places[2])
    door.table.end_work(places[0])
    door.enter("10.0.0.9")
    assert door.ended == ["2"]


def test_bytes_are_paid_by_who_holds_most_of_them() -> None:
    """The slowest body of the greediest address goes, not one that has just come from elsewhere."""
    door = Door()
    api, first, second = (
        door.enter("10.0.0.1", "api"),
        door.enter("10.0.0.9", "0"),
        door.enter("10.0.0.9", "1"),
    )
    door.table.hold(first, 400)
    door.table.hold(second, 400)
    door.table.hold(api, 500)
    assert door.ended == ["0"]
    door.table.end_work(second)
    door.table.hold(api, 450)
    assert door.ended == ["0"]


def test_bytes_of_answered_requests_and_of_who_has_left_are_free() -> None:
    """Nothing is counted twice, or for ever."""
    door = Door()
    for _ in range(20):
        place = door.enter("10.0.0.1")
        door.table.hold(place, 900)
        door.table.begin_work(place)
        door.table.end_work(place)
        door.table.hold(place, 900)
        door.table.leave(place)
        door.table.leave(place)
    assert door.ended == []
    assert (door.table._count, door.table._held_bytes, door.table._shares) == (0, 0, {})


def test_only_one_with_bytes_goes_for_its_own() -> None:
    """Even if it is the one that has just sent them."""
    door = Door(replace(LIMITS, held_bytes=10))
    door.enter("10.0.0.9", "silent")
    greedy = door.enter("10.0.0.9", "greedy")
    door.table.hold(greedy, 11)
    assert door.ended == ["greedy"]
    assert not greedy.is_taken


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fd00:1:2:3::1", "fd00:1:2:3::/64"),
        ("fd00:1:2:3:ffff::2", "fd00:1:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_neighbours_of_one_ipv6_network_share(peer: str, name: str) -> None:
    """A host there may take as many addresses as it likes."""
    assert name_peer(peer) == name
