"""Names of the calls that a controller makes, and the points at which it is killed in them.

Zone: tests. A call is known by what it does and to what, not by its place among all calls: those of
different tasks of one process come in any order.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from datakeys.contract.identity import HEADER_ACCOUNT
from live_files import read_whole_lines

#: What a call is called that concerns no namespace, or one that isn't named.
CLUSTER: Final = "cluster"
ELSEWHERE: Final = "elsewhere"
_READS: Final = ("GET ", "LIST ", "WATCH ", "Describe", "Get", "List", "Watch")
_EVENTS: Final = "events"
#: Writes whose number depends on how long others take: what is told of a KmsKey, kopf's notes, and Events.
_TOLD: Final = ("kmskeys/main", "kmskeys/main/status", _EVENTS)


class Moment(StrEnum):
    """When in a call: nothing of it has left the process, or its answer has come and isn't known yet."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, order=True)
class Point:
    """One moment in a controller's life.

    Attributes:
        call: As ``name_call`` names it.
        number: 1 for the first call of this name in the life of the process.
    """

    call: str
    number: int
    moment: Moment

    def __str__(self) -> str:
        """Return a text for people."""
        return f"{self.moment} {self.call} #{self.number}"

    @property
    def is_read(self) -> bool:
        """Return whether the call changes nothing, so that the next controller makes it as well."""
        return self.call.startswith(_READS)

    @property
    def is_uncertain(self) -> bool:
        """Return whether it depends on the time that other calls take whether this one is made."""
        return self.number > 1 and (self.is_read or self.call.endswith(_TOLD))

    @property
    def is_repeated(self) -> bool:
        """Return whether the next controller comes to it as well: an Event that wasn't posted is lost."""
        return self.is_read or (self.moment is Moment.BEFORE and not self.call.endswith(_EVENTS))


def name_call(method: str, url: str, headers: Mapping[str, str], places: Mapping[str, str]) -> str:
    """Return the name of a call of the API server or of the key service.

    Args:
        method: The HTTP method.
        url: The URL, or its path and query.
        headers: The headers that go with it; the case of their names counts.
        places: Namespace -> what it is called.
    """
    target = headers.get("X-Amz-Target")
    if target is not None:
        account = headers.get(HEADER_ACCOUNT)
        place = CLUSTER if account is None else places.get(account, ELSEWHERE)
        return f"{target.rpartition('.')[2]} {place}"
    method, split = method.upper(), urlsplit(url)
    version, place, rest = _split_path(split.path, places)
    is_collection = method == "GET" and len(rest) == 1 and version
    if is_collection:
        method = "WATCH" if "watch=true" in split.query.lower() else "LIST"
    return f"{method} {place} {'/'.join(rest) or split.path}"


def _split_path(path: str, places: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """Return version, place, and the parts from the plural on."""
    root, *parts = path.strip("/").split("/")
    version = "/".join(parts[: 1 if root == "api" else 2])
    rest = parts[1 if root == "api" else 2 :]
    if len(rest) > 2 and rest[0] == "namespaces":
        return version, places.get(rest[1], ELSEWHERE), rest[2:]
    return version, CLUSTER, rest


class CallLog:
    """What a process writes down of its calls, one line each, so that nothing is lost when it is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: Counter[str] = Counter()

    def begin(self, call: str) -> int:
        """Return the number of a call that is about to be made."""
        self._numbers[call] += 1
        return self._numbers[call]

    def write(self, point: Point, *, died: bool = False) -> None:
        """Write down that a point was passed, or that the process dies there."""
        with self._path.open("a") as file:
            file.write(json.dumps({**asdict(point), "died": died}) + "\n")


@dataclass(frozen=True)
class Passed:
    """The points that a process has passed, in their order, and where it has died, if it has."""

    points: tuple[Point, ...]
    death: Point | None

    @classmethod
    def read(cls, path: Path) -> "Passed":
        """Read a log as far as it is written."""
        points, death = [], None
        for line in read_whole_lines(path):
            entry = json.loads(line)
            died = entry.pop("died")
            point = Point(entry["call"], entry["number"], Moment(entry["moment"]))
            points.append(point)
            death = point if died else death
        return cls(tuple(points), death)

    def is_under_way(self, *places: str) -> bool:
        """Return whether a call that concerns one of these places waits for its answer."""
        moments = Counter(point.moment for point in self.of(*places))
        return moments[Moment.BEFORE] > moments[Moment.AFTER]

    def of(self, *places: str) -> tuple[Point, ...]:
        """Return the points in calls that concern one of these places."""
        return tuple(point for point in self.points if point.call.split()[1] in places)

    def sent(self, call: str) -> int:
        """Return how many calls of a name have left the process."""
        return self._count(call, Moment.BEFORE) - int(self.death in self._first_half(call))

    def answered(self, call: str) -> int:
        """Return how many calls of a name have been answered, known to the process or not."""
        return self._count(call, Moment.AFTER)

    def _first_half(self, call: str) -> set[Point]:
        return {it for it in self.points if it.call == call and it.moment is Moment.BEFORE}

    def _count(self, call: str, moment: Moment) -> int:
        return sum(point.call == call and point.moment is moment for point in self.points)


def select_points(lives: Iterable[Iterable[Point]]) -> tuple[Point, ...]:
    """Return the points that all of several lives have passed, in the order of the first one."""
    first, *others = [dict.fromkeys(life) for life in lives]
    return tuple(point for point in first if all(point in other for other in others))


def plan_deaths(points: Iterable[Point]) -> tuple[tuple[Point, ...], ...]:
    """Return who dies where in one life each: at all first reads one after the other, else at one point."""
    everywhere = tuple(points)
    reads = tuple(point for point in everywhere if point.is_read and not point.is_uncertain)
    return (*((point,) for point in everywhere if point not in reads), *((reads,) if reads else ()))
