"""Files that one process writes while another reads them. Zone: tests."""

import os
import tempfile
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Give a file another content at once: whoever reads it finds all of the former one, or of this."""
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(number, "w") as file:
        file.write(text)
    Path(draft).rename(path)


def read_whole_lines(path: Path) -> list[str]:
    """Return the lines that are written to their end; none if there is no file yet."""
    text = path.read_text() if path.exists() else ""
    return text.split("\n")[:-1]
