"""What a check found. Zone: no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from datakeys.kubectl.answers import Gap, Json
from datakeys.kubectl.spelling import find_misspelt


class Verdict(StrEnum):
    """What came out of a check."""

    PASS = "pass"  # noqa: S105 - a word
    FAIL = "fail"
    #: The user may not see what the check needs.
    UNSEEN = "unseen"
    #: Not decided yet: something is under way, or depends on a failure before it.
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of an explanation.

    Attributes:
        name: A short name that stays the same, for machines.
        next_step: What a person can do; empty if there is nothing to do.
    """

    name: str
    verdict: Verdict
    detail: str
    next_step: str = ""

    def to_json(self) -> Json:
        """Return what machines read."""
        return {"check": self.name, "verdict": self.verdict, "detail": self.detail, "next": self.next_step}


def passed(name: str, detail: str) -> Check:
    """Return a check that found things as they should be."""
    return Check(name, Verdict.PASS, detail)


def failed(name: str, detail: str, next_step: str) -> Check:
    """Return a check that found what keeps the pod from its data key."""
    return Check(name, Verdict.FAIL, detail, next_step)


def unseen(name: str, what: str, gap: Gap) -> Check:
    """Return a check that couldn't be made; the API server's text names the right that is lacking."""
    return Check(name, Verdict.UNSEEN, f"can't see {what}: {gap.message}")


def waits(name: str, detail: str, next_step: str = "") -> Check:
    """Return a check of something that is under way."""
    return Check(name, Verdict.WAIT, detail, next_step)


def check_spelling(annotations: Iterable[str]) -> list[Check]:
    """Return a failure for each annotation that is none of the project's and looks like one."""
    return [failed("annotations", fault, step) for fault, step in find_misspelt(annotations)]


def find_failure(checks: Sequence[Check]) -> Check | None:
    """Return the first failure: what comes after it may follow from it."""
    return next((check for check in checks if check.verdict is Verdict.FAIL), None)
