"""Latency at half load: requests at a constant rate, half of what each server can do on its core.

The generator is vegeta, which sends by the clock and not after the answer before: what waits in a queue
counts. It numbers each request in a header, so the full load that is halved has numbered requests too. The
floor gets the highest of the rates: what it needs there isn't the servers', but the generator's and the
machine's. Then all get the lowest of the rates.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass

from compare import run_wrk
from servers import (
    LOAD_CORE,
    VEGETA,
    Server,
    build_go_program,
    find_vegeta,
    pin,
    prepare_peers,
    require_tools,
)
from signed_requests import build_requests, write_wrk_script

CANDIDATES = ("own-token", "own", "local-kms")
FLOOR = "constant"
OPERATION = "Decrypt"
#: Requests on their way or waiting for a free connection; waiting counts as latency.
MOST_WAITING = 4096
#: The generator collects no garbage below a size that it doesn't reach: while it collects, answers wait.
GENERATOR_ENVIRONMENT = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}
LATENCIES = {"50th": "p50_ms", "90th": "p90_ms", "99th": "p99_ms", "max": "max_ms"}


@dataclass(frozen=True)
class Target:
    """A running server and what to send to it."""

    server: Server
    folder: pathlib.Path
    connections: int

    def measure_full(self, seconds):
        """Load it with callers that each wait for their answer; return their rate and CPU time."""
        before = self.server.cpu_seconds()
        count, rate, _ = run_wrk(self.server.url, self.folder / "load.lua", self.connections, seconds)
        cpu = self.server.cpu_seconds() - before
        return {"full_rate": rate, "full_cpu_us": cpu / count * 1e6}

    def measure_at(self, rate, seconds):
        """Send at a constant rate; return the rate, latencies in ms, and CPU microseconds per request."""
        before = self.server.cpu_seconds()
        report = run_vegeta(self.folder, self.connections, rate, seconds)
        cpu = self.server.cpu_seconds() - before
        row = {"rate": report["rate"], "cpu_us": cpu / report["requests"] * 1e6}
        return row | {name: report["latencies"][theirs] / 1e6 for theirs, name in LATENCIES.items()}


def start(candidate, connections, stack):
    """Start a server that ends with the stack, and write down what to send to it."""
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(Server(candidate, folder))
    headers, data = build_requests(server)[OPERATION]
    write_wrk_script(folder / "load.lua", headers, data, numbered=True)
    lines = [f"POST {server.url}/", *(f"{name}: {value}" for name, value in headers.items())]
    (folder / "body").write_text(data)
    (folder / "targets").write_text("\n".join([*lines, f"@{folder / 'body'}"]) + "\n")
    return Target(server, folder, connections)


def run_vegeta(folder, connections, rate, seconds):
    """Return vegeta's report; a refused or unanswered request ends the benchmark."""
    results = folder / "results"
    attack = [*pin(LOAD_CORE), str(find_vegeta()), "attack", f"-targets={folder / 'targets'}"]
    # As many may stay open as there are; otherwise it closes some after an answer and opens new ones.
    options = [f"-connections={connections}", f"-max-connections={connections}", "-http2=false"]
    options += [f"-workers={connections}", f"-max-workers={MOST_WAITING}", "-timeout=10s"]
    # Into a file: the generator would wait for who reads a pipe.
    options += [f"-rate={rate}", f"-duration={seconds}s", "-max-body=0", f"-output={results}"]
    environment = {**os.environ, **GENERATOR_ENVIRONMENT}
    subprocess.run([*attack, *options], check=True, env=environment, timeout=60 + seconds)
    report = subprocess.run(
        [find_vegeta(), "report", "-type=json", str(results)], check=True, capture_output=True, timeout=60
    )
    result = json.loads(report.stdout)
    if result["success"] != 1:
        raise SystemExit(f"not all requests were answered: {result['errors']}")
    return result


def measure_round(candidates, connections, seconds):
    """Let all servers take turns; return {(server, load): row}."""
    rows = {}
    with ExitStack() as stack:
        targets = {name: start(name, connections, stack) for name in candidates}
        floor = start(FLOOR, connections, stack)
        for target in (*targets.values(), floor):
            target.measure_full(1)
        full = {name: target.measure_full(seconds) for name, target in targets.items()}
        halves = {name: int(row["full_rate"] / 2) for name, row in full.items()}
        for name, target in targets.items():
            rows[name, "half of its own"] = full[name] | target.measure_at(halves[name], seconds)
        rows[FLOOR, "highest of these"] = floor.measure_at(max(halves.values()), seconds)
        for name, target in {**targets, FLOOR: floor}.items():
            rows[name, "lowest of these"] = target.measure_at(min(halves.values()), seconds)
    return rows


def collect(arguments):
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds} …", flush=True)
        rounds.append(measure_round(arguments.candidates, arguments.connections, arguments.seconds))
    return [
        {
            "server": server,
            "load": load,
            "highest_p99_ms": max(rows[server, load]["p99_ms"] for rows in rounds),
        }
        | {name: statistics.median(rows[server, load][name] for rows in rounds) for name in first}
        for (server, load), first in rounds[0].items()
    ]


def print_table(rows, connections):
    print(f"{OPERATION}, {connections} connections; p99: median and highest of the rounds, latencies in ms")
    print("| server | load | full load/s | its CPU us | sent/s | CPU us | p50 | p90 | p99 | max |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        full = f"{row['full_rate']:,.0f} | {row['full_cpu_us']:.0f}" if "full_rate" in row else " | "
        rates = f"{full} | {row['rate']:,.0f} | {row['cpu_us']:.0f}"
        p99 = f"{row['p99_ms']:.2f} ({row['highest_p99_ms']:.2f})"
        latencies = f"{row['p50_ms']:.2f} | {row['p90_ms']:.2f} | {p99} | {row['max_ms']:.1f}"
        print(f"| {row['server']} | {row['load']} | {rates} | {latencies} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--json", type=pathlib.Path, help="write the medians here")
    arguments = parser.parse_args()
    require_tools()
    prepare_peers(arguments.candidates)
    build_go_program(VEGETA, find_vegeta())
    rows = collect(arguments)
    print_table(rows, arguments.connections)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
