"""Run the benchmarks one after the other: `make bench`, or `make bench QUICK=1` for a first look.

Each prints its table and writes its JSON, some a plot too, to dist/bench. What fails is named at the end; the
others run all the same.
"""

import argparse
import pathlib
import subprocess
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE.parent / "dist" / "bench"


@dataclass(frozen=True)
class Benchmark:
    """A script with its options; ``full`` and ``quick`` are those of the two kinds of run."""

    script: str
    json: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    svg: str = ""

    def command(self, *, quick):
        command = [sys.executable, str(HERE / self.script), "--json", str(RESULTS / self.json)]
        if self.svg:
            command += ["--svg", str(RESULTS / self.svg)]
        return [*command, *(self.quick if quick else self.full)]


BENCHMARKS = (
    Benchmark(
        "keyservice/compare.py",
        "keyservice.json",
        svg="keyservice.svg",
        quick=("--rounds", "1", "--connections", "8", "--seconds", "2"),
    ),
    Benchmark(
        "keyservice/half_load.py", "keyservice-half-load.json", quick=("--rounds", "1", "--seconds", "3")
    ),
    Benchmark("keyservice/second_core.py", "keyservice-second-core.json", quick=("--rounds", "1")),
    Benchmark("controller/compare.py", "controller.json", quick=("--sizes", "0", "100", "1000")),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each: minutes, and rough figures")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for benchmark in BENCHMARKS:
        print(f"==> {benchmark.script}", flush=True)
        if subprocess.run(benchmark.command(quick=arguments.quick), check=False).returncode:
            failed.append(benchmark.script)
    print(f"==> results are in {RESULTS.relative_to(HERE.parent)}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
