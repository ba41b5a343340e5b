"""A bar on a terminal, lines elsewhere. Zone: no secrets."""

from dataclasses import dataclass, field
from typing import Final

from datakeys.kubectl.output import Console, clean
from datakeys.kubectl.rotate.stages import Stage, Step

_MAX_BAR: Final = 40
#: Columns that the text beside the bar may take.
_TEXT: Final = 38
#: Where lines are written: at most one per so many percent.
_LINE_PERCENT: Final = 10
#: Words for stages of which nothing has been counted.
_BARE: Final = {Step.RE_ENCRYPTING: "re-encrypting the data keys", Step.DONE: "done"}


def describe(stage: Stage) -> str:
    """Return a stage in words."""
    if stage.step is Step.FAILED:
        return f"failed: {stage.message}"
    if stage.step is Step.ROTATING:
        return "rotating the key material"
    if not stage.total and stage.step in _BARE:
        return _BARE[stage.step]
    failures = f", {stage.failures} failed (tried again)" if stage.failures else ""
    words = {
        Step.RE_ENCRYPTING: "",
        Step.PAUSED: ", paused",
        Step.WAITING: ", waiting",
        Step.DONE: ", done",
    }
    return f"{stage.done}/{stage.total} re-encrypted{failures}{words[stage.step]}"


def build_bar(stage: Stage, width: int, *, unicode: bool) -> str:
    """Return the bar of a stage with its words, in at most ``width`` columns where that is possible."""
    full, empty = ("█", "░") if unicode else ("#", ".")
    cells = max(min(width - _TEXT, _MAX_BAR), 0)
    filled = cells * stage.done // stage.total if stage.total else 0
    return f"{full * filled}{empty * (cells - filled)} {describe(stage)}".strip()


def is_worth_a_line(stage: Stage, shown: Stage | None) -> bool:
    """Return whether a stage differs enough from the one that was written last."""
    if shown is None or stage.step is not shown.step or stage.failures != shown.failures:
        return True
    return _percent(stage) // _LINE_PERCENT != _percent(shown) // _LINE_PERCENT


def _percent(stage: Stage) -> int:
    return 100 * stage.done // stage.total if stage.total else 0


@dataclass(slots=True)
class Progress:
    """Writes stages as they come."""

    console: Console
    shown: Stage | None = None
    _open_line: bool = field(default=False, init=False)

    def show(self, stage: Stage) -> None:
        """Write a stage."""
        if self.console.terminal and stage.step is not Step.FAILED:
            bar = build_bar(stage, self.console.width, unicode=self.console.unicode)
            # Erases what is left of a longer line (ECMA-48, EL).
            self.console.out.write(f"\r\033[K{clean(bar)}")
            self._open_line = True
        elif is_worth_a_line(stage, self.shown):
            self.close()
            self.console.line(clean(describe(stage)))
        else:
            return
        self.shown = stage
        self.console.flush()

    def close(self) -> None:
        """End the line of the bar."""
        if self._open_line:
            self.console.line()
            self._open_line = False
