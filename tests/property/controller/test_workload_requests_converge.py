"""Whatever happens to a StatefulSet and its requests, no data key goes that was to be retained."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from annotated_workloads import build_owner
from controller_fakes import NAMESPACE
from datakeys.controller.kube.api import REQUESTS
from workload_simulation import Simulation

pytestmark = pytest.mark.property

POLICIES = st.sampled_from(["Retain", "Delete"])
OTHER = build_owner("Shop", "shop", "example.org/v1", uid="other")


class Workload(RuleBasedStateMachine):
    """A StatefulSet with a data key per ordinal, its controller, and the garbage collector.

    What the workload asks for is seen by the controller at once, and acted on when it gets to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.simulation = Simulation()
        self.uid: str | None = None
        self.number = 0
        self.policy = "Retain"
        self.replicas = 1
        #: What the controller had done when it was last idle: the policy in force, and the requests' UIDs.
        self.settled: tuple[str, dict[str, str]] | None = None
        self.retained: dict[str, str] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something to its end."""
        self.loop.run_until_complete(work)

    def see(self, change: str = "MODIFIED") -> None:
        """Let the controller see the workload."""
        assert self.uid is not None
        annotations = {"scope": "pod", "deletion-policy": self.policy}
        self.simulation.see(
            "StatefulSet", change, uid=self.uid, name="db", annotations=annotations, replicas=self.replicas
        )

    def uids(self) -> dict[str, str]:
        """Return the UID of each request."""
        return {name: self.simulation.request(name)["metadata"]["uid"] for name in self.simulation.names()}

    @precondition(lambda self: self.uid is None)
    @rule(policy=POLICIES, replicas=st.integers(0, 3))
    def deploy(self, policy: str, replicas: int) -> None:
        """Create the workload, for the first time or again."""
        self.number += 1
        self.uid, self.policy, self.replicas, self.settled = f"w{self.number}", policy, replicas, None
        self.see("ADDED")

    @precondition(lambda self: self.uid is not None)
    @rule(policy=POLICIES, replicas=st.integers(0, 3))
    def change(self, policy: str, replicas: int) -> None:
        """Change what the workload asks for."""
        self.policy, self.replicas, self.settled = policy, replicas, None
        self.see()

    @precondition(lambda self: self.uid is not None)
    @rule()
    def delete(self) -> None:
        """Delete the workload; what was settled as Retain must last from now on."""
        if self.settled is not None and self.settled[0] == "Retain":
            self.retained |= self.settled[1]
        self.see("DELETED")
        self.uid = self.settled = None

    @rule()
    def work(self) -> None:
        """Let the controller get to everything."""
        self.run(self.simulation.work())
        if self.uid is None:
            return
        own = self.own_requests()
        self.settled = (self.policy, own)
        if self.policy == "Delete":  # also for what a former workload of the name has left
            self.retained = {name: uid for name, uid in self.retained.items() if name not in own}

    def own_requests(self) -> dict[str, str]:
        """Return the requests that don't go with a former workload."""
        former = {
            name
            for name in self.simulation.names()
            if any(uid not in (self.uid, "other") for uid in self.simulation.owners(name))
            and self.uid not in self.simulation.owners(name)
        }
        return {name: uid for name, uid in self.uids().items() if name not in former}

    @rule()
    def collect(self) -> None:
        """Let the garbage collector run."""
        living = {"other"} if self.uid is None else {"other", self.uid}
        self.run(self.simulation.collect_garbage(living))

    @rule()
    def restart(self) -> None:
        """Start the controller anew: it lists the workloads and knows nothing else."""
        self.simulation = Simulation(self.simulation.cluster)
        if self.uid is not None:
            self.see("ADDED")

    @precondition(lambda self: self.simulation.names())
    @rule()
    def share(self) -> None:
        """Let somebody else own a request too."""
        name = self.simulation.names()[0]
        body = self.simulation.request(name)
        owners = body["metadata"].get("ownerReferences") or []
        if OTHER not in owners:
            body["metadata"]["ownerReferences"] = [*owners, OTHER]
            self.run(self.simulation.cluster.change(REQUESTS, NAMESPACE, body))
            self.simulation.see_request(name)

    def teardown(self) -> None:
        """Look at the end, whatever happened."""
        try:
            self.look()
        finally:
            self.loop.close()

    def look(self) -> None:
        """In the end all is as asked for, and what was retained is there."""
        for _ in range(2):
            self.work()
            self.collect()
        self.work()
        uids = self.uids()
        assert self.retained.items() <= uids.items()
        if self.uid is not None:
            assert {f"db-{number}.statefulset" for number in range(self.replicas)} <= uids.keys()
        for name in uids:
            own = [uid for uid in self.simulation.owners(name) if uid != "other"]
            assert own == ([self.uid] if self.uid is not None and self.policy == "Delete" else [])
        writes = len(self.simulation.cluster.writes)
        self.restart()
        self.work()
        assert len(self.simulation.cluster.writes) == writes


TestWorkload = Workload.TestCase
