"""``python -m datakeys.sidecar [run|probe]``: picks the command. Zone: no secrets."""

import sys

from datakeys.sidecar.interpreter import exec_resident


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    ``run`` never returns: it replaces this process with a smaller interpreter.
    """
    command = arguments[0] if arguments else "run"
    if command == "probe":
        # Imported here: the resident process never needs it.
        from datakeys.sidecar.probe import probe_from_environment  # noqa: PLC0415

        return probe_from_environment()
    if command == "run":
        exec_resident()
    sys.stderr.write("usage: python -m datakeys.sidecar [run|probe]\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
