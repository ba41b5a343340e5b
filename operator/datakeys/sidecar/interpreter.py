"""How this package starts an interpreter of its own: as small and as closed as ``__main__`` itself.

Zone: no secrets. The code is found by the path given here only.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH100, PTH120

import os
import sys

#: The folder that holds the package ``datakeys``.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from datakeys.sidecar.{module} import main; main()"


def build_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``main()`` of a module of this package."""
    boot = _BOOT.format(module=module)
    return [sys.executable, "-I", "-S", "-B", "-c", boot, ROOT, *arguments]
