"""From measured slopes to a million data keys: what grows, what must be split when, and what a storm does.

    python benchmarks/scale/simulate.py --svg docs/scale.svg

Reads slopes.json (measure.py makes it), prints the tables of docs/scale.md, and writes a plot. Nothing here
is an estimate by hand: sizes are sums of measured slopes, times come from a simulation by discrete events.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "operator")]

from growth import Part, Size, build_parts, find_limit, issue_seconds  # noqa: E402
from plot import Line, Panel, draw  # noqa: E402
from storm import Plan, Storm  # noqa: E402

SIZES = (1_000, 10_000, 100_000, 1_000_000)
REPLICAS = (2, 5, 10, 20, 50, 100)
Row = dict[str, float]


def simulate_storms(slopes: dict[str, Any], options: argparse.Namespace, *, new: bool) -> list[Row]:
    """Return a row per number of replicas; the same random numbers in each run.

    Args:
        slopes: What measure.py wrote.
        options: Options of the command line.
        new: The pods are created; else they exist, and their nodes come back.
    """
    return [
        Storm(
            Plan(
                options.pods,
                replicas,
                new=new,
                webhooks=options.webhooks,
                cores=options.cores,
                kubelet_seconds=(options.kubelet[0], options.kubelet[1]),
            ),
            slopes,
            random.Random(1),  # noqa: S311 - no secret
        ).run()
        for replicas in REPLICAS
    ]


def print_slopes(slopes: dict[str, Any]) -> None:
    """Print what one more object of each kind costs."""
    kinds = {
        "request": "request",
        "namespace": "namespace, with a KmsKey and a request",
        "key": "KMS key, by the API",
    }
    print("| one more | etcd | controller | key service | API server | CPU: controller | API server | etcd |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, name in kinds.items():
        found = {part: max(0.0, value) for part, value in slopes[kind].items()}
        memory = [
            f"{found[part] / 1024:,.1f} KB" if part in found else "-"
            for part in ("etcd_bytes", "controller_memory", "keyservice_memory", "apiserver_memory")
        ]
        cpu = [
            f"{found[part] * 1000:.1f} ms" if part in found else "-"
            for part in ("controller_cpu", "apiserver_cpu", "etcd_cpu")
        ]
        print(f"| {name} | {' | '.join(memory + cpu)} |")
    decrypt, admission = slopes["decrypt"], slopes["admission"]
    print("\n| a call | key service or webhook | API server |\n|---|---|---|")
    print(
        f"| first Decrypt of a pod | {decrypt['keyservice_cpu_seconds'] * 1000:.1f} ms | "
        f"{decrypt['apiserver_cpu_seconds'] * 1000:.1f} ms |"
    )
    print(
        f"| injection of a pod | {admission['webhook_cpu_seconds'] * 1000:.1f} ms | "
        f"{admission['apiserver_cpu_seconds'] * 1000:.1f} ms more than a bare pod's "
        f"{admission['apiserver_cpu_seconds_bare_pod'] * 1000:.1f} ms |"
    )
    restart = slopes["restart_cpu_seconds_per_request"] * 1000
    print(f"| one request at the start of a leader | controller: {restart:.2f} ms | - |\n")


def print_growth(parts: Sequence[Part], base: Size) -> None:
    """Print how large each part is at each size, and where it must be split."""
    print("| part | " + " | ".join(f"{size:,}" for size in SIZES) + " | limit | met at |")
    print("|---|" + "---|" * (len(SIZES) + 2))
    for part in parts:
        sizes = [f"{part.size_of(base.scaled(size)) / part.scale:,.1f} {part.unit}" for size in SIZES]
        limit = f"{part.limit / part.scale:,.0f} {part.unit}"
        print(f"| {part.name} | {' | '.join(sizes)} | {limit} | {_round(find_limit(part, base)):,} |")


def print_splits(parts: Sequence[Part], base: Size) -> None:
    """Print how each part that is beyond its limit at the full size is split."""
    print("\n| part | times its limit | why that limit | how to go on |\n|---|---|---|---|")
    for part in parts:
        times = part.size_of(base) / part.limit
        if times > 1:
            print(f"| {part.name} | {times:,.1f} | {part.why} | {part.how} |")


def print_storms(title: str, rows: Sequence[Row]) -> None:
    """Print what a storm does, by the number of key service replicas."""
    print(
        f"\n{title}\n\n"
        "| replicas | admissions/s | Decrypts and TokenReviews/s | key after, p50 | p99 | all done after | "
        "longest queue | tried again |\n|---|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(
            f"| {row['replicas']:.0f} | {row['admissions_per_second']:,.0f} | "
            f"{row['decrypts_per_second']:,.0f} | {row['p50_seconds']:.2f} s | {row['p99_seconds']:.2f} s | "
            f"{row['last_seconds']:.1f} s | {row['longest_queue']:,.0f} | {row['retries']:,.0f} |"
        )


def build_plot(parts: Sequence[Part], base: Size, storms: Mapping[str, Sequence[Row]]) -> str:
    """Return the plot: each part as a share of its limit, and the storm."""
    sizes = [10 ** (power / 4) for power in range(12, 25)]
    growth = [
        Line(
            part.name.replace("one key service replica", "key service").replace(
                "CPU time of a failover", "failover"
            ),
            [(size, part.size_of(base.scaled(size)) / part.limit) for size in sizes],
        )
        for part in parts
    ]
    times = [
        Line(f"p99, pods {storm}", [(row["replicas"], row["p99_seconds"]) for row in rows])
        for storm, rows in storms.items()
    ]
    return draw(
        [
            Panel("Share of each limit", "requests", "size / limit", growth, (1.0, "limit")),
            Panel("Storm: key after", "key service replicas", "seconds", times),
        ]
    )


def _round(number: float) -> int:
    """Return a number with two significant digits."""
    return int(float(f"{number:.1e}"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slopes", type=Path, default=Path(__file__).parent / "slopes.json")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--namespaces", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=20_000, help="KMS keys, those of KmsKeys included")
    parser.add_argument("--replicas", type=int, default=100, help="of the key service")
    parser.add_argument("--pods", type=int, default=10_000, help="that start at once")
    parser.add_argument("--cores", type=int, default=8, help="of the API server")
    parser.add_argument("--webhooks", type=int, default=2, help="replicas of the webhook")
    parser.add_argument("--kubelet", type=float, nargs=2, default=(0.5, 1.5), help="seconds, from and to")
    parser.add_argument("--failover-seconds", type=float, default=30.0)
    parser.add_argument("--watches", type=float, default=28_232, help="ports of the controller's pod")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    slopes = json.loads(options.slopes.read_text())
    base = Size(options.requests, options.namespaces, options.keys, options.replicas)
    parts = build_parts(slopes, failover_seconds=options.failover_seconds, watches=options.watches)
    print_slopes(slopes)
    print_growth(parts, base)
    print_splits(parts, base)
    hours = issue_seconds(slopes, options.requests, options.cores) / 3600
    print(f"\nIssuing {options.requests:,} data keys takes {hours:.1f} hours.")
    events = options.replicas * base.keys / 86_400
    print(
        f"If every KMS key changes once a day, {options.replicas} replicas get {events:.0f} watch events/s."
    )
    storms = {
        "created": simulate_storms(slopes, options, new=True),
        "back": simulate_storms(slopes, options, new=False),
    }
    print_storms(f"{options.pods:,} pods are created at once:", storms["created"])
    print_storms(f"The nodes of {options.pods:,} pods come back at once:", storms["back"])
    if options.svg:
        options.svg.write_text(build_plot(parts, base, storms))
    if options.json:
        sizes = {part.name: {size: part.size_of(base.scaled(size)) for size in SIZES} for part in parts}
        limits = {part.name: find_limit(part, base) for part in parts}
        options.json.write_text(json.dumps({"sizes": sizes, "limits": limits, "storms": storms}, indent=1))


if __name__ == "__main__":
    main()
