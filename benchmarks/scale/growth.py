"""What grows with the number of requests, and at which number each limit is met. Pure.

A part's size is a sum: its start, so much per namespace (each with a KmsKey and one request), so much per
further request, so much per further key record. The slopes are measured ones (measure.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MIB, GIB = 1 << 20, 1 << 30
Slopes = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """A cluster's size."""

    requests: float
    namespaces: float
    keys: float
    replicas: float

    def scaled(self, requests: float) -> "Size":
        """Return the size with so many requests, and as many requests per namespace and key as now."""
        factor = requests / self.requests
        return Size(requests, self.namespaces * factor, self.keys * factor, self.replicas)


@dataclass(frozen=True)
class Part:
    """Something that grows.

    Attributes:
        name: What it is.
        unit: Unit of its size, for people.
        scale: How many of the base unit one such unit is.
        size_of: Its size in the base unit.
        limit: Where it must be split, in the base unit.
        why: Where the limit comes from.
        how: How it is split, or what is raised.
    """

    name: str
    unit: str
    scale: float
    size_of: Callable[[Size], float]
    limit: float
    why: str
    how: str


def build_parts(slopes: Slopes, *, failover_seconds: float, watches: float) -> list[Part]:
    """Return all parts that grow.

    Args:
        slopes: What measure.py wrote.
        failover_seconds: How long a new leader may take until it has seen everything.
        watches: How many connections one process can have to the API server.
    """
    restart = slopes["restart_cpu_seconds_per_request"]
    if restart <= 0:
        raise SystemExit(
            f"restart_cpu_seconds_per_request is {restart}: that is noise, so measure with more requests"
        )
    return [
        Part(
            "etcd, live objects",
            "MiB",
            MIB,
            _sum_of(slopes, "etcd_bytes"),
            8 * GIB,
            "the largest size that etcd's documentation suggests",
            "several Kubernetes clusters; nothing of this project can help",
        ),
        Part(
            "API server, memory",
            "GiB",
            GIB,
            _sum_of(slopes, "apiserver_memory"),
            32 * GIB,
            "half of a machine of 64 GiB",
            "larger control plane machines; then several clusters",
        ),
        Part(
            "controller, memory",
            "MiB",
            MIB,
            _sum_of(slopes, "controller_memory"),
            256 * MIB,
            "controller.resources.limits.memory of the chart",
            "raise the limit; then shards by namespace sets",
        ),
        Part(
            "controller, CPU time of a failover",
            "s",
            1,
            lambda size: restart * size.requests,
            failover_seconds,
            "new requests wait so long after a change of the leader",
            "shards by namespace sets, each with its own leader",
        ),
        Part(
            "controller, open watches",
            "",
            1,
            lambda size: size.namespaces + 13,
            watches,
            "a connection per namespace with requests, each with a port of the pod (32768 to 60999)",
            "net.ipv4.ip_local_port_range; then shards by namespace sets",
        ),
        Part(
            "one key service replica, memory",
            "MiB",
            MIB,
            lambda size: slopes["base"]["keyservice_memory"] + slopes["key"]["keyservice_memory"] * size.keys,
            384 * MIB,
            "keyservice.resources.limits.memory of the chart",
            "raise the limit: every replica holds every record, more replicas don't help",
        ),
    ]


def find_limit(part: Part, base: Size) -> float:
    """Return the number of requests at which a part meets its limit; 0: it is beyond it from the start."""
    low, high = 1.0, 1e12
    if part.size_of(base.scaled(low)) > part.limit:
        return 0.0
    for _ in range(200):
        middle = (low * high) ** 0.5
        if part.size_of(base.scaled(middle)) > part.limit:
            high = middle
        else:
            low = middle
    return low


def issue_seconds(slopes: Slopes, requests: float, cores: float) -> float:
    """Return how long it takes to issue data keys, in seconds: the slower of controller and API server."""
    each = slopes["request"]
    return requests * max(each["controller_cpu"], each["apiserver_cpu"] / cores)


def _sum_of(slopes: Slopes, name: str) -> Callable[[Size], float]:
    start, request, namespace, key = (
        max(0.0, slopes[kind].get(name, 0.0)) for kind in ("base", "request", "namespace", "key")
    )

    def total(size: Size) -> float:
        return (
            start
            + namespace * size.namespaces
            + request * max(0.0, size.requests - size.namespaces)
            + key * max(0.0, size.keys - size.namespaces)
        )

    return total
