"""Latency at half load: requests at a constant rate, half of what the server can do on its core.

The generator is vegeta, which sends by the clock and not after the answer before: what waits in a queue
counts. The floor gets the first server's rate: what it needs too isn't the server's, but the generator's and
the machine's.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

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
CONNECTIONS = 8
#: Requests per second; from 8,000 on the generator's own core is full, and what waits is its own.
MOST_SENT = 6000


def write_targets(path, url, headers, data):
    """Write vegeta's target file."""
    lines = [f"POST {url}/", *(f"{name}: {value}" for name, value in headers.items())]
    body = path.with_suffix(".body")
    body.write_text(data)
    path.write_text("\n".join([*lines, f"@{body}"]) + "\n")


def run_vegeta(targets, rate, seconds):
    """Return vegeta's report; a refused or unanswered request ends the benchmark."""
    attack = [*pin(LOAD_CORE), str(find_vegeta()), "attack", f"-targets={targets}"]
    options = [
        f"-rate={rate}",
        f"-duration={seconds}s",
        f"-connections={CONNECTIONS}",
        f"-workers={CONNECTIONS}",
    ]
    options += [f"-max-workers={CONNECTIONS * 8}", "-http2=false", "-timeout=10s"]
    sent = subprocess.run([*attack, *options], check=True, capture_output=True, timeout=60 + seconds)
    report = subprocess.run(
        [find_vegeta(), "report", "-type=json"],
        input=sent.stdout,
        check=True,
        capture_output=True,
        timeout=60,
    )
    result = json.loads(report.stdout)
    if result["success"] != 1:
        raise SystemExit(f"not all requests were answered: {result['errors']}")
    return result


def measure(candidate, seconds, rate=0):
    """Find what a server can do, then send half of it or a given rate; return rates per second and ms."""
    with tempfile.TemporaryDirectory() as name, Server(candidate, pathlib.Path(name)) as server:
        headers, data = build_requests(server)[OPERATION]
        script, targets = pathlib.Path(name) / "load.lua", pathlib.Path(name) / "targets"
        write_wrk_script(script, headers, data)
        write_targets(targets, server.url, headers, data)
        run_wrk(server.url, script, CONNECTIONS, 1)
        _, full, _ = run_wrk(server.url, script, CONNECTIONS, seconds)
        result = run_vegeta(targets, rate or max(1, min(int(full / 2), MOST_SENT)), seconds)
    return {
        "server": candidate,
        "full_rate": full,
        "rate": result["rate"],
        **{name: result["latencies"][name] / 1e6 for name in ("50th", "99th", "max")},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here")
    arguments = parser.parse_args()
    require_tools()
    prepare_peers(arguments.candidates)
    build_go_program(VEGETA, find_vegeta())
    rows = [measure(candidate, arguments.seconds) for candidate in arguments.candidates]
    rows.append(measure(FLOOR, arguments.seconds, round(rows[0]["rate"])))
    print(f"| {OPERATION} | full load, requests/s | sent/s | p50 ms | p99 ms | max ms |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['server']} | {row['full_rate']:,.0f} | {row['rate']:,.0f} "
            f"| {row['50th']:.2f} | {row['99th']:.2f} | {row['max']:.1f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
