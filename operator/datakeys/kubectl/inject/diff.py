"""A unified diff between a manifest and what becomes of it. Zone: no I/O."""

import difflib
from typing import Final

import yaml

from datakeys.kubectl.answers import Json
from datakeys.kubectl.output import Colour, Console, clean

_COLOURS: Final = {"+": Colour.GREEN, "-": Colour.RED, "@": Colour.FAINT}


def build_diff(before: Json, after: Json, title: str) -> list[str]:
    """Return the lines; both sides are written by the same writer, so that only meaning differs."""
    return list(
        difflib.unified_diff(
            _dump(before),
            _dump(after),
            fromfile=f"{title} (as given)",
            tofile=f"{title} (injected)",
            lineterm="",
        )
    )


def show_diff(lines: list[str], console: Console) -> None:
    """Write the lines of a diff."""
    for line in lines:
        headed = line.startswith(("+++", "---"))
        colour = Colour.BOLD if headed else _COLOURS.get(line[:1])
        text = clean(line)
        console.line(console.paint(text, colour) if colour else text)


def _dump(body: Json) -> list[str]:
    text: str = yaml.safe_dump(body, sort_keys=False, width=120, allow_unicode=True)
    return text.splitlines()
