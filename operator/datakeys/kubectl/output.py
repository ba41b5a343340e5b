"""What people and machines read: tables, marks, colour, JSON. Zone: no secrets.

Colour only on a terminal, and not with NO_COLOR (https://no-color.org) or TERM=dumb; marks are plain letters
where the encoding has no others.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self, TextIO

from datakeys.contract.identity import GROUP
from datakeys.kubectl.answers import Json

OUTPUT_VERSION: Final = f"kubectl.{GROUP}/v1"
_GAP: Final = "   "
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))


class Colour(StrEnum):
    """ANSI codes (ECMA-48, SGR)."""

    GREEN = "32"
    RED = "31"
    YELLOW = "33"
    FAINT = "2"
    BOLD = "1"


@dataclass(frozen=True, slots=True)
class Console:
    """Where to write, and what the place can show."""

    out: TextIO
    colours: bool = False
    unicode: bool = True
    terminal: bool = False
    width: int = 80

    @classmethod
    def of(cls, out: TextIO, environment: Mapping[str, str]) -> Self:
        """Return the console of a stream."""
        terminal = out.isatty()
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        encoding = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "")
        width = shutil.get_terminal_size().columns
        return cls(out, terminal and not plain, encoding.startswith("utf"), terminal, width)

    def line(self, text: str = "") -> None:
        """Write one line."""
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        self.out.write(text.encode(encoding, "replace").decode(encoding) + "\n")

    def paint(self, text: str, colour: Colour) -> str:
        """Return the text in a colour, if there are any."""
        return f"\033[{colour}m{text}\033[0m" if self.colours and text else text

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table."""
        head, *lines = build_table(headers, rows)
        self.line(self.paint(head, Colour.BOLD))
        for line in lines:
            self.line(line)

    def document(self, kind: str, body: Json) -> None:
        """Write a JSON document for machines."""
        self.line(json.dumps({"apiVersion": OUTPUT_VERSION, "kind": kind, **body}, indent=2))

    def flush(self) -> None:
        """Write out what is buffered; a closed pipe is its reader's decision and no error."""
        try:
            self.out.flush()
        except BrokenPipeError:
            # Otherwise the interpreter tries once more at its end, and complains.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())


def build_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: columns as wide as their widest cell, an empty cell is a dash."""
    lines = [list(headers), *([clean(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def clean(text: str) -> str:
    """Return a text of the cluster without control characters: it must not steer the terminal."""
    return "".join(" " if character in "\t\r\n" else character for character in text if _is_shown(character))


def format_age(since: str, now: datetime) -> str:
    """Return how long ago an RFC 3339 time was, as kubectl says it: 45s, 7m, 3h, 12d."""
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return ""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in "\t\r\n"
