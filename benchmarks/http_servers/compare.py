"""Compare HTTP servers on one core each: interleaved rounds, medians, and CPU time per request.

The machine may be shared: wall-clock rates then fall for everybody, so read the ratios, and the CPU time
that the kernel charged to the server per request, which depends less on the neighbours.
"""

import argparse
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.resolve().parents[1] / "tests" / "support"))

from ports import find_free_port  # noqa: E402

CANDIDATES = ("own", "granian", "uvicorn", "aiohttp")
SERVER_CORE, LOAD_CORE = "0", "1"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def wait_until_listening(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server does not listen")


def read_cpu_seconds(group):
    """Return the CPU time of a process group (Granian has a worker process)."""
    ticks = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def run_wrk(port, seconds):
    output = subprocess.run(
        [
            "taskset",
            "-c",
            LOAD_CORE,
            "wrk",
            "-t1",
            "-c8",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(FOLDER / "request.lua"),
            f"http://127.0.0.1:{port}/",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(output)
    count = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    return int(count[1]), float(rate[1])


def measure(candidate, workload, seconds):
    port = find_free_port()
    server = subprocess.Popen(
        [
            "taskset",
            "-c",
            SERVER_CORE,
            sys.executable,
            str(FOLDER / "servers.py"),
            candidate,
            workload,
            str(port),
        ],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(port)
        run_wrk(port, 1)
        before = read_cpu_seconds(server.pid)
        requests, rate = run_wrk(port, seconds)
        cpu = read_cpu_seconds(server.pid) - before
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    return rate, cpu / requests * 1e6


def report(workload, results):
    own = statistics.median(rate for rate, _ in next(iter(results.values())))
    for candidate, rows in results.items():
        rates, cpus = zip(*rows, strict=True)
        rate, cpu = statistics.median(rates), statistics.median(cpus)
        print(
            f"| {workload} | {candidate} | {rate:,.0f} ({max(rates):,.0f}) | {rate / own:.2f} "
            f"| {cpu:.0f} ({min(cpus):.0f}) |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--candidates", nargs="+", default=CANDIDATES, choices=CANDIDATES)
    arguments = parser.parse_args()
    print("| workload | server | requests/s: median (best) | of the first | CPU us/request: median (best) |")
    print("|---|---|---|---|---|")
    for workload in ("constant", "work"):
        results = {candidate: [] for candidate in arguments.candidates}
        for _ in range(arguments.rounds):
            for candidate in arguments.candidates:
                results[candidate].append(measure(candidate, workload, arguments.seconds))
        report(workload, results)


if __name__ == "__main__":
    main()
