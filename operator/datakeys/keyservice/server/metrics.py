"""Counts and latencies of the API, kept in plain dictionaries and shaped for Prometheus only when scraped.

Zone: no secrets; labels are operation names and error codes. Source: Prometheus text format.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

PREFIX: Final = "datakeys_keyservice"
#: Upper bounds in seconds.
BUCKETS: Final = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
)


class _Latency:
    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total_seconds = 0.0


class RequestMetrics(Collector):
    """requests_total{operation,code}, request_duration_seconds{operation}, and gauges read when scraped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._latencies: dict[str, _Latency] = {}
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._counters: list[tuple[str, str, str, Callable[[], Mapping[str, int]]]] = []

    def count(self, operation: str, code: str, seconds: float) -> None:
        """Count one request; ``code`` is OK or the error's name."""
        with self._lock:
            key = (operation, code)
            self._requests[key] = self._requests.get(key, 0) + 1
            latency = self._latencies.get(operation)
            if latency is None:
                latency = self._latencies[operation] = _Latency()
            latency.counts[bisect_left(BUCKETS, seconds)] += 1
            latency.total_seconds += seconds

    def add_gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Publish a value that is read at every scrape."""
        self._gauges.append((name, documentation, read))

    def add_counter(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, int]]
    ) -> None:
        """Publish counts, by the values of one label, that are read at every scrape."""
        self._counters.append((name, documentation, label, read))

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        with self._lock:
            requests = dict(self._requests)
            latencies = {name: (list(it.counts), it.total_seconds) for name, it in self._latencies.items()}
        yield _build_counter(requests)
        yield _build_histogram(latencies)
        for name, documentation, read in self._gauges:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value=read())
        for name, documentation, label, read_counts in self._counters:
            counter = CounterMetricFamily(f"{PREFIX}_{name}", documentation, labels=[label])
            for value, number in read_counts().items():
                counter.add_metric([value], number)
            yield counter


def _build_counter(requests: dict[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}_requests", "Requests by operation and code.", labels=["operation", "code"]
    )
    for labels, value in requests.items():
        family.add_metric(list(labels), value)
    return family


def _build_histogram(latencies: dict[str, tuple[list[int], float]]) -> Metric:
    family = HistogramMetricFamily(
        f"{PREFIX}_request_duration_seconds", "From the parsed request to the answer.", labels=["operation"]
    )
    for operation, (counts, total) in latencies.items():
        buckets, running = [], 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
            running += number
            buckets.append((bound, running))
        family.add_metric([operation], buckets, total)
    return family


def render(metrics: RequestMetrics) -> bytes:
    """Return everything in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return generate_latest(registry)
