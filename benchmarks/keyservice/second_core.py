"""What a second core adds: one replica with its load on one core, then two such pairs on two cores.

A replica and its own load generator share a core in both cases, so that the second core brings as much load
as it brings service, on a machine of two cores too. Replicas share nothing but the machine.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from compare import run_wrk
from servers import Server, require_tools
from signed_requests import build_requests, write_wrk_script

CORES = ("0", "1")
OPERATION = "Decrypt"


def measure(cores, seconds):
    """Run one pair on each core; return requests per second of all and CPU microseconds per request."""
    with ExitStack() as stack:
        pairs = []
        for core in cores:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = stack.enter_context(Server("own-token", folder, core))
            write_wrk_script(folder / "load.lua", *build_requests(server)[OPERATION])
            pairs.append((server, folder / "load.lua", core))
        before = sum(server.cpu_seconds() for server, *_ in pairs)
        with ThreadPoolExecutor(len(pairs)) as pool:
            loads = [
                pool.submit(run_wrk, server.url, script, 8, seconds, core) for server, script, core in pairs
            ]
            done = [load.result() for load in loads]
        cpu = sum(server.cpu_seconds() for server, *_ in pairs) - before
    return sum(rate for _, rate, _ in done), cpu / sum(count for count, *_ in done) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path, help="write the result here")
    arguments = parser.parse_args()
    require_tools()
    rounds = [
        (measure(CORES[:1], arguments.seconds), measure(CORES, arguments.seconds))
        for _ in range(arguments.rounds)
    ]
    result = {
        name: {
            "rate": statistics.median(pair[index][0] for pair in rounds),
            "cpu_us": statistics.median(pair[index][1] for pair in rounds),
        }
        for index, name in enumerate(("one_core", "two_cores"))
    }
    result["factor"] = statistics.median(two[0] / one[0] for one, two in rounds)
    for name in ("one_core", "two_cores"):
        print(f"{name}: {result[name]['rate']:,.0f} requests/s, {result[name]['cpu_us']:.0f} us of CPU each")
    print(f"factor: {result['factor']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
