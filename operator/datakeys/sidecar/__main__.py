#!/usr/bin/env -S --block-signal=TERM --block-signal=INT python3 -ISB
"""The sidecar's program, ``datakeys-sidecar [run|probe]`` in its image: picks the command. Zone: no secrets.

The first line makes it small and stoppable. ``-I`` reads no environment and no user folder, ``-S`` skips
site-packages, ``-B`` writes nothing; ``-m`` would load 1 MiB more and take 10 ms longer. Process 1 ignores
SIGTERM until it has a handler for it, except while the signal is blocked: then it waits for the handler.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))  # noqa: PTH120


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status; ``run`` ends the process itself."""
    # Imported here: neither command needs the other's modules.
    command = arguments[0] if arguments else "run"
    if command == "probe":
        from datakeys.sidecar.probe import probe_from_environment  # noqa: PLC0415

        return probe_from_environment()
    if command == "run":
        from datakeys.sidecar.resident import main as run  # noqa: PLC0415

        run()
    sys.stderr.write("usage: datakeys-sidecar [run|probe]\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
