"""Why a data key isn't delivered yet, left where the startup probe finds it and tells the kubelet.

Zone: no secrets: names and error codes. A hint is a symbolic link to nowhere in the memory-backed volume, as
the mark of a lifetime is; its text is the code.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH115, PTH211

import os

from datakeys.sidecar.lifetime import remove_file


def write_hint(directory: str, name: str, code: str) -> None:
    """Leave the code of the last failure, in place of an earlier one; that it can't is no reason to fail."""
    path = _build_path(directory, name)
    try:
        remove_file(path)
        os.symlink(code, path)
    except OSError:
        return


def read_hint(directory: str, name: str) -> str:
    """Return the code of the last failure, or "" if there was none."""
    try:
        return os.readlink(_build_path(directory, name))
    except OSError:
        return ""


def remove_hint(directory: str, name: str) -> None:
    """Remove the hint, if there is one."""
    remove_file(_build_path(directory, name))


def _build_path(directory: str, name: str) -> str:
    # A name never starts with these characters.
    return f"{directory}/.!{name}"
