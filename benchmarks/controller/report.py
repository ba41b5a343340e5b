"""What the measured rounds say: medians, shares of the floor, and the goals."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_KINDS = ("secrets", "datakeyrequests", "events", "kmskeys", "configmaps", "rolebindings")


def is_of_interest(call: str) -> bool:
    return call.partition(" ")[2].startswith(_KINDS)


def is_write(call: str) -> bool:
    return call.startswith(_WRITES)


def summarize(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return medians per contender and size, with the cost of a start without requests taken off."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        groups[result["number"], result["contender"]].append(result)
    starts = {who: median(group, "cpu_seconds") for (number, who), group in groups.items() if number == 0}
    summary = []
    for (number, who), group in groups.items():
        if number == 0:
            continue
        calls: Counter[str] = Counter()
        for result in group:
            calls.update(result["calls"])
        each = {name: count / number / len(group) for name, count in calls.items()}
        writes = sum(c for name, c in each.items() if is_write(name) and "events" not in name)
        row = {
            "number": number,
            "contender": who,
            "rate": median(group, "rate"),
            "of_floor": share(group, groups.get((number, "floor"))),
            "of_kopf": share(group, groups.get((number, "plain kopf"))),
            "cpu_ms": (median(group, "cpu_seconds") - starts.get(who, 0.0)) * 1000 / number,
            "writes": writes,
            "events": sum(count for name, count in each.items() if is_write(name) and "events" in name),
            "reads": sum(count for name, count in each.items() if not is_write(name)),
            "rss": median(group, "rss"),
            "calls": {name: round(count, 4) for name, count in each.items()},
        }
        for name in ("restart_seconds", "restart_writes", "restart_cpu", "restart_rss", "restart_peak"):
            if name in group[0]:
                row[name] = median(group, name)
        summary.append(row)
    return summary


def median(group: Sequence[dict[str, Any]], name: str) -> float:
    return float(statistics.median(result[name] for result in group if result[name] is not None))


def share(group: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] | None) -> float | None:
    """Return the rate as a part of another one's, round by round, since the machine changes."""
    if others is None:
        return None
    return statistics.median(one["rate"] / other["rate"] for one, other in zip(group, others, strict=True))


def print_tables(summary: Sequence[dict[str, Any]]) -> None:
    floors = {row["number"]: row["cpu_ms"] for row in summary if row["contender"] == "floor"}
    print("| requests | | per second | of the floor | CPU each | of the floor | writes | Events | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in summary:
        rate = "" if row["of_floor"] is None else f"{row['of_floor']:.0%}"
        cpu = f"{row['cpu_ms'] / floors[row['number']]:.1f}" if row["number"] in floors else ""
        print(
            f"| {row['number']:,} | {row['contender']} | {row['rate']:.0f} | {rate} | {row['cpu_ms']:.2f} ms "
            f"| {cpu} | {row['writes']:.2f} | {row['events']:.2f} | {row['rss']:.0f} MB |"
        )
    print("\n| restart with | settled after | writes | CPU | memory | peak |\n|---|---|---|---|---|---|")
    for row in summary:
        if "restart_seconds" in row:
            print(
                f"| {row['number']:,} | {row['restart_seconds']:.1f} s | {row['restart_writes']:.0f} "
                f"| {row['restart_cpu']:.1f} s | {row['restart_rss']:.0f} MB | {row['restart_peak']:.0f} MB |"
            )


def print_goals(summary: Sequence[dict[str, Any]]) -> None:
    print("\n| goal | measured | |\n|---|---|---|")
    for goal, measured, met in judge([row for row in summary if row["contender"] == "controller"]):
        print(f"| {goal} | {measured} | {'met' if met else '**missed**'} |")


def judge(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """Yield goal, figure and whether it is met, for what the rows of the controller can show."""
    for row in rows:
        size = f"at {row['number']:,}"
        yield f"exactly 2 writes per request, {size}", f"{row['writes']:.3f}", row["writes"] == 2.0
        if row["of_floor"] is not None:
            yield f"80 % of the floor's rate, {size}", f"{row['of_floor']:.0%}", row["of_floor"] >= 0.8
        if row["of_kopf"] is not None:
            yield f"twice the plainest kopf, {size}", f"{row['of_kopf']:.2f}", row["of_kopf"] >= 2.0
        if "restart_writes" in row:
            writes, peak = row["restart_writes"], row["restart_peak"]
            text = f"{writes:.0f} writes, {row['restart_seconds']:.1f} s, {peak:.0f} MB"
            met = writes == 0 and peak < 200
            yield f"restart without a write, under 200 MB, {size}", text, met
    costs = {row["number"]: row["cpu_ms"] for row in rows}
    if len(costs) > 1:
        small, large = min(costs), max(costs)
        ratio = costs[large] / costs[small]
        yield f"cost at {large:,} at most 1.2 times that at {small:,}", f"{ratio:.2f}", ratio <= 1.2
