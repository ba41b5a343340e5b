"""A storm by discrete events: many pods start at once, and each wants its data key.

A new pod passes the API server and the webhook (admission) and waits for its kubelet; then its sidecar asks
a random replica of the key service, which asks the API server for a TokenReview. Every stage is a queue
before a number of servers; what a server needs is the measured CPU time. A sidecar that waits too long gives
up and tries again by the sidecar's own rule.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from datakeys.sidecar.retry import RETRY, decide_delay

#: kube-apiserver --max-mutating-requests-inflight, default.
MUTATING_IN_FLIGHT = 200
#: Threads of a key service replica that wait for TokenReviews.
REVIEW_THREADS = 16


@dataclass
class Servers:
    """A queue before some servers.

    Attributes:
        number: How many can be taken at once.
        taken: How many are taken now.
        longest: The longest that the queue has been.
    """

    number: int
    taken: int = 0
    longest: int = 0
    waiting: "deque[Process]" = field(default_factory=deque)


#: Yields a delay in seconds, or servers of which it needs one and which it releases itself.
Process = Generator[float | Servers, None, None]


class Clock:
    """Runs processes in the order of simulated time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._number = count()

    def start(self, process: Process, delay: float = 0.0) -> None:
        """Let a process go on after a delay in seconds."""
        heapq.heappush(self._due, (self.now + delay, next(self._number), process))

    def run(self) -> None:
        """Run until nothing is left to do."""
        while self._due:
            self.now, _, process = heapq.heappop(self._due)
            step = next(process, None)
            if isinstance(step, Servers):
                self._enter(process, step)
            elif step is not None:
                self.start(process, step)

    def use(self, servers: Servers, seconds: float) -> Process:
        """Wait for a server, keep it for a time, give it back."""
        yield servers
        yield seconds
        self.release(servers)

    def release(self, servers: Servers) -> None:
        """Give a server back; who has waited longest gets it."""
        if servers.waiting:
            self.start(servers.waiting.popleft())
        else:
            servers.taken -= 1

    def _enter(self, process: Process, servers: Servers) -> None:
        if servers.taken < servers.number:
            servers.taken += 1
            self.start(process)
        else:
            servers.waiting.append(process)
            servers.longest = max(servers.longest, len(servers.waiting))


@dataclass(frozen=True)
class Plan:
    """What happens.

    Attributes:
        pods: How many are created at once.
        replicas: Replicas of the key service, one core each.
        webhooks: Replicas of the webhook, one core each.
        cores: Cores of the API server.
        new: The pods are created; else they exist, and their nodes come back (no admission).
        kubelet_seconds: From admission to the start of the sidecar: at least, at most.
        timeout_seconds: How long a sidecar waits for an answer; 5 is its socket timeout.
    """

    pods: int
    replicas: int
    new: bool = True
    webhooks: int = 2
    cores: int = 8
    kubelet_seconds: tuple[float, float] = (0.5, 1.5)
    timeout_seconds: float = 5.0


@dataclass
class Storm:
    """One storm. Call ``run`` once."""

    plan: Plan
    costs: Mapping[str, Any]
    random: random.Random
    clock: Clock = field(default_factory=Clock)
    seen: dict[str, Counter[int]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    retries: int = 0

    def run(self) -> dict[str, float]:
        """Return what was seen: rates per second at their peaks, times in seconds, lengths of queues."""
        plan = self.plan
        self._api = Servers(plan.cores)
        self._slots = Servers(MUTATING_IN_FLIGHT)
        self._webhook = Servers(plan.webhooks)
        self._replicas = [Servers(1) for _ in range(plan.replicas)]
        self._threads = [Servers(REVIEW_THREADS) for _ in range(plan.replicas)]
        for _ in range(plan.pods):
            self.clock.start(self._pod())
        self.clock.run()
        ordered = sorted(self.delays)
        return {
            "replicas": plan.replicas,
            "admissions_per_second": self._peak("admission"),
            "decrypts_per_second": self._peak("decrypt"),
            "p50_seconds": ordered[len(ordered) // 2],
            "p99_seconds": ordered[len(ordered) * 99 // 100],
            "last_seconds": self.clock.now,
            "retries": self.retries,
            "longest_queue": max(replica.longest for replica in self._replicas),
        }

    def _pod(self) -> Process:
        plan, clock = self.plan, self.clock
        if plan.new:
            yield from self._admit()
        yield self.random.uniform(*plan.kubelet_seconds)
        started, attempt = clock.now, 0
        while True:
            asked = clock.now
            yield from self._decrypt(self.random.randrange(plan.replicas))
            if clock.now - asked <= plan.timeout_seconds:
                break
            # The replica has worked for nobody: the sidecar has gone away meanwhile.
            attempt += 1
            self.retries += 1
            yield decide_delay(RETRY, attempt, jitter=self.random.random())
        self.delays.append(clock.now - started)

    def _admit(self) -> Process:
        admission = self.costs["admission"]
        yield self._slots
        bare, injected = admission["apiserver_cpu_seconds_bare_pod"], admission["apiserver_cpu_seconds"]
        yield from self.clock.use(self._api, bare + injected)
        yield from self.clock.use(self._webhook, admission["webhook_cpu_seconds"])
        self.clock.release(self._slots)
        self._note("admission")

    def _decrypt(self, index: int) -> Process:
        decrypt = self.costs["decrypt"]
        yield from self.clock.use(self._replicas[index], decrypt["keyservice_cpu_seconds"])
        yield self._threads[index]
        yield from self.clock.use(self._api, decrypt["apiserver_cpu_seconds"])
        self.clock.release(self._threads[index])
        self._note("decrypt")

    def _note(self, what: str) -> None:
        self.seen.setdefault(what, Counter())[int(self.clock.now)] += 1

    def _peak(self, what: str) -> float:
        return float(max(self.seen.get(what, Counter({0: 0})).values()))
