"""Which requests are to be re-encrypted now. Zone: names only, no I/O. Used by one event loop.

A request is worked on by one worker at a time, whoever wants something of it: a campaign gives it a turn, and
whoever works on it next takes the turn and tells how it went.
"""

import asyncio
from dataclasses import dataclass

from datakeys.controller.decisions.failure import FailedAttempt
from datakeys.controller.decisions.request_view import ObjectKey

_BROKEN_OFF = FailedAttempt("InternalError", "the attempt was broken off", retryable=True)


@dataclass(frozen=True, slots=True)
class Turn:
    """One request's data keys under a KMS key are to be brought under its current material."""

    key_arn: str
    material_id: str
    outcome: asyncio.Future[FailedAttempt | None]

    def end(self, failed: FailedAttempt | None = _BROKEN_OFF) -> None:
        """Tell how it went; only the first word counts."""
        if not self.outcome.done():
            self.outcome.set_result(failed)


class Turns:
    """The turns that nobody has taken yet."""

    def __init__(self) -> None:
        self._open: dict[ObjectKey, list[Turn]] = {}

    def give(
        self, request: ObjectKey, key_arn: str, material_id: str
    ) -> asyncio.Future[FailedAttempt | None]:
        """Give a request a turn; the future tells how it failed, or None."""
        turn = Turn(key_arn, material_id, asyncio.get_running_loop().create_future())
        self._open.setdefault(request, []).append(turn)
        return turn.outcome

    def take(self, request: ObjectKey) -> list[Turn]:
        """Take a request's turns."""
        return self._open.pop(request, [])
