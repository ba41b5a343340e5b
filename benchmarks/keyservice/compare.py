"""Requests per second and core: this key service, its floor and its peers, in interleaved rounds.

The machine may be shared: wall-clock rates then fall for everybody, so read the ratios, and the CPU time that
the kernel charged to the server per request, which depends less on the neighbours.
"""

import argparse
import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

from in_process import time_cryptography
from plot import draw
from servers import CANDIDATES, LOAD_CORE, Server, pin, prepare_peers, require_tools
from signed_requests import OPERATIONS, build_requests, write_wrk_script

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def run_wrk(url, script, connections, seconds, core=LOAD_CORE):
    """Return the number of requests, the rate per second and the p99 in milliseconds."""
    command = [*pin(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    done = subprocess.run(
        [*command, "-s", str(script), url], check=True, capture_output=True, text=True, timeout=60 + seconds
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(done.stdout)
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()
    return count, rate, float(p99) * UNITS[unit]


def measure(candidate, operations, connections, seconds):
    """Start a server and load it with each operation; return {(operation, connections): row}."""
    rows = {}
    with tempfile.TemporaryDirectory() as name, Server(candidate, pathlib.Path(name)) as server:
        requests_by_operation = build_requests(server)
        for operation in operations:
            script = pathlib.Path(name) / f"{operation}.lua"
            write_wrk_script(script, *requests_by_operation[operation])
            run_wrk(server.url, script, 8, 1)
            for count in connections:
                before = server.cpu_seconds_by_mode()
                requests, rate, p99 = run_wrk(server.url, script, count, seconds)
                user, system = (
                    (after - earlier) / requests * 1e6
                    for after, earlier in zip(server.cpu_seconds_by_mode(), before, strict=True)
                )
                rows[operation, count] = {
                    "rate": rate,
                    "cpu_us": user + system,
                    "system_us": system,
                    "p99_ms": p99,
                }
    return rows


def collect(arguments):
    results = {}
    for number in range(arguments.rounds):
        for candidate in arguments.candidates:
            print(f"round {number + 1} of {arguments.rounds}: {candidate} …", flush=True)
            rows = measure(candidate, arguments.operations, arguments.connections, arguments.seconds)
            for key, row in rows.items():
                results.setdefault((*key, candidate), []).append(row)
    return {
        key: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for key, rows in results.items()
    }


def print_table(medians, first):
    print(
        f"Ratios are to {first}; that of CPU time tells more, as a rate also suffers from cores that sleep."
    )
    print(
        "| operation | connections | server | requests/s | ratio | CPU us | ratio | of it kernel | p99 ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for (operation, connections, candidate), row in sorted(medians.items()):
        base = medians[operation, connections, first]
        rate = f"{row['rate']:,.0f} | {row['rate'] / base['rate']:.2f}"
        cpu = f"{row['cpu_us']:.0f} | {row['cpu_us'] / base['cpu_us']:.2f}"
        print(
            f"| {operation} | {connections} | {candidate} | {rate} | {cpu} "
            f"| {row['system_us']:.0f} | {row['p99_ms']:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--operations", nargs="+", default=list(OPERATIONS), choices=OPERATIONS)
    parser.add_argument("--json", type=pathlib.Path, help="write the medians here")
    parser.add_argument("--svg", type=pathlib.Path, help="draw the CPU time per request here")
    arguments = parser.parse_args()
    require_tools()
    prepare_peers(arguments.candidates)
    medians = collect(arguments)
    python = f"{platform.python_implementation()} {platform.python_version()} of {sys.base_prefix}"
    print(f"{python}: how it was built matters by an eighth; the images have Debian's or Docker's")
    print_table(medians, arguments.candidates[0])
    floors = time_cryptography()
    for operation, micros in floors.items():
        print(f"bare cryptography of {operation} in process: {micros:.1f} us")
    rows = [
        {"operation": key[0], "connections": key[1], "server": key[2], **row} for key, row in medians.items()
    ]
    if arguments.svg:
        arguments.svg.write_text(draw(rows))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"python": python, "servers": rows, "cryptography_us": floors}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
