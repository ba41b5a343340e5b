"""From an annotated workload to its requests, against an API in memory."""

import pytest

from annotated_workloads import Json, build_owner, build_workload
from controller_fakes import NAMESPACE
from datakeys.controller import metrics
from datakeys.controller.decisions.pod_view import parse_pod
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import REQUESTS
from datakeys.controller.kube.errors import ConflictError, ForbiddenError, KubeError, UnavailableError
from datakeys.controller.workload_memory import WorkloadState
from workload_simulation import NAME, Simulation, stored

DELETE = {"deletion-policy": "Delete"}


def gauge(state: WorkloadState) -> float:
    """Return how many workloads the metrics show in a state."""
    return float(metrics.REGISTRY.get_sample_value("datakeys_workloads", {"state": state.value}) or 0)


@pytest.fixture
def simulation() -> Simulation:
    """Return a controller without a cluster."""
    return Simulation()


async def test_workload_gets_its_request_once(simulation: Simulation) -> None:
    """One create; the same state again, and the news of the own request, make no work."""
    simulation.see()
    assert await simulation.work() == [None]
    assert simulation.names() == [NAME]
    assert simulation.recorder.told == [("Deployment", "orders", "RequestCreated")]
    simulation.see()
    simulation.see_request()
    assert simulation.queue.waiting_keys() == ()
    assert len(simulation.cluster.writes) == 1


async def test_new_controller_writes_nothing(simulation: Simulation) -> None:
    """After a restart everything is found as it should be, by one list."""
    simulation.see()
    await simulation.work()
    second = Simulation(simulation.cluster)
    second.see()
    await second.work()
    assert second.api.calls == ["list datakeyrequests"]
    assert second.recorder.told == []


async def test_two_controllers_make_one_request(simulation: Simulation) -> None:
    """Whoever is later finds what the other has made."""

    async def other_is_faster(call: str) -> None:
        if call == "create datakeyrequests" and not simulation.names():
            simulation.see()
            await simulation.work()

    second = Simulation(simulation.cluster, before=other_is_faster)
    second.see()
    assert await second.work() == [None]
    assert simulation.names() == [NAME]
    assert second.recorder.told == []


async def test_scaling_makes_requests_and_removes_none(simulation: Simulation) -> None:
    """The data key of a pod that was scaled away is there when it comes back."""
    for replicas, expected in ((2, 2), (3, 3), (1, 3), (3, 3)):
        simulation.see("StatefulSet", name="db", annotations={"scope": "pod"}, replicas=replicas)
        await simulation.work()
        assert simulation.names() == [f"db-{number}.statefulset" for number in range(expected)]
    assert {write.verb for write in simulation.cluster.writes} == {"create"}


async def test_change_of_the_policy_reaches_pods_that_were_scaled_away(simulation: Simulation) -> None:
    """Their data keys would else be deleted with the workload against its annotation."""
    options: Json = {"name": "db", "replicas": 2}
    simulation.see("StatefulSet", **options, annotations={"scope": "pod", **DELETE})
    await simulation.work()
    simulation.see("StatefulSet", name="db", replicas=1, annotations={"scope": "pod", **DELETE})
    await simulation.work()
    assert simulation.owners("db-1.statefulset") == ["u1"]
    simulation.see("StatefulSet", name="db", replicas=1, annotations={"scope": "pod"})
    await simulation.work()
    assert simulation.owners("db-0.statefulset") == simulation.owners("db-1.statefulset") == []


async def test_policy_can_be_changed_and_changed_back(simulation: Simulation) -> None:
    """The owner comes and goes by one patch each."""
    for annotations, owners in (({}, []), (DELETE, ["u1"]), ({}, []), (DELETE, ["u1"])):
        simulation.see(annotations=annotations)
        await simulation.work()
        assert simulation.owners() == owners


async def test_patch_is_decided_again_when_the_request_has_changed() -> None:
    """Somebody else's write in between isn't overwritten."""
    simulation = Simulation()
    simulation.see()
    await simulation.work()
    other = build_owner("Shop", "shop", "example.org/v1", uid="other")
    interfered: list[str] = []

    async def interfere(call: str) -> None:
        if call == "patch datakeyrequests" and not interfered:
            interfered.append(call)
            body = simulation.request()
            body["metadata"]["ownerReferences"] = [other]
            await simulation.cluster.change(REQUESTS, NAMESPACE, body)

    simulation.api._before = interfere
    simulation.see(annotations=DELETE)
    await simulation.work()
    assert simulation.owners() == ["other", "u1"]


async def test_conflict_is_told_once_and_ends_by_itself(simulation: Simulation) -> None:
    """A request of the name that people made isn't touched; when it goes, the workload gets its own."""
    foreign: Json = {
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "app"},
    }
    await simulation.cluster.put(REQUESTS, foreign)
    before = gauge(WorkloadState.PROBLEM)
    simulation.see()
    await simulation.work()
    assert simulation.recorder.reasons == ["RequestConflict"]
    assert gauge(WorkloadState.PROBLEM) == before + 1
    simulation.see(annotations={"key-name": "db"})
    await simulation.work()
    assert simulation.recorder.reasons == ["RequestConflict"]
    await simulation.cluster.remove(REQUESTS, NAME)
    simulation.see_request()
    await simulation.work()
    assert simulation.names() == [NAME]
    assert simulation.recorder.reasons == ["RequestConflict", "RequestCreated"]
    assert gauge(WorkloadState.PROBLEM) == before


async def test_difference_is_told_and_forgotten_when_it_ends(simulation: Simulation) -> None:
    """Put back, changed again: told again. The request is never written to."""
    simulation.see()
    await simulation.work()
    for key in ("alias/other", "alias/main", "alias/other"):
        simulation.see(annotations={"key": key})
        await simulation.work()
    assert simulation.recorder.reasons == ["RequestCreated", "RequestDiffers", "RequestDiffers"]
    assert simulation.request()["spec"]["keyId"] == "alias/main"
    assert len(simulation.cluster.writes) == 1


async def test_workload_that_asks_for_nothing_does_not_count(simulation: Simulation) -> None:
    """Its label says that its pods name requests themselves."""
    before = {state: gauge(state) for state in WorkloadState}
    body = stored(build_workload("Deployment"), "u1")
    body["metadata"]["annotations"] = body["spec"]["template"]["metadata"]["annotations"] = {}
    simulation.observers["Deployment"].on_change("ADDED", body)
    assert await simulation.work() == [None]
    assert simulation.names() == []
    assert {state: gauge(state) for state in WorkloadState} == before


async def test_malformed_annotation_is_told_and_nothing_is_made(simulation: Simulation) -> None:
    """Such a workload is older than the webhook, which refuses it."""
    simulation.see(annotations={"number-of-bytes": "many"})
    assert await simulation.work() == [None]
    assert simulation.recorder.reasons == ["AnnotationRefused"]
    assert simulation.api.calls == []


async def test_redeployed_workload_finds_its_data_key(simulation: Simulation) -> None:
    """Retain: the request outlives the workload, which is told; the new one of the name writes nothing."""
    simulation.see()
    await simulation.work()
    simulation.see(change="DELETED")
    assert simulation.recorder.told[-1] == ("DataKeyRequest", NAME, "Retained")
    simulation.see(change="ADDED", uid="u2")
    await simulation.work()
    assert len(simulation.cluster.writes) == 1
    assert simulation.recorder.reasons == ["RequestCreated", "Retained"]


async def test_deleted_data_key_is_not_handed_on(simulation: Simulation) -> None:
    """Delete: the new workload waits until the garbage collector took the old request, then gets its own."""
    simulation.see(annotations=DELETE)
    await simulation.work()
    old = simulation.request()["metadata"]["uid"]
    simulation.see(change="DELETED", annotations=DELETE)
    simulation.see(change="ADDED", uid="u2", annotations=DELETE)
    await simulation.work()
    assert simulation.request()["metadata"]["uid"] == old
    assert simulation.recorder.reasons == ["RequestCreated", "RequestLeaving"]
    await simulation.cluster.remove(REQUESTS, NAME)
    simulation.see_request()
    await simulation.work()
    assert simulation.owners() == ["u2"]
    assert simulation.recorder.reasons == ["RequestCreated", "RequestLeaving", "RequestCreated"]


async def test_request_that_the_garbage_collector_spares_is_taken_over(simulation: Simulation) -> None:
    """It only drops the former owner from a request that somebody else owns too."""
    simulation.see(annotations=DELETE)
    await simulation.work()
    simulation.see(change="ADDED", uid="u2", annotations=DELETE)
    await simulation.work()
    body = simulation.request()
    body["metadata"]["ownerReferences"] = []
    await simulation.cluster.change(REQUESTS, NAMESPACE, body)
    simulation.see_request()
    await simulation.work()
    assert simulation.owners() == ["u2"]


async def test_request_that_people_delete_comes_back(simulation: Simulation) -> None:
    """As long as the workload asks for it; with a new data key."""
    simulation.see()
    await simulation.work()
    await simulation.cluster.remove(REQUESTS, NAME)
    simulation.see_request()
    await simulation.work()
    assert simulation.names() == [NAME]


async def test_workload_missed_by_an_interrupted_watch_is_gone(simulation: Simulation) -> None:
    """A list without it means that it ended meanwhile; one with another UID, that it was replaced."""
    simulation.see()
    await simulation.work()
    simulation.observers["Deployment"].on_list([stored(build_workload("Deployment"), "u2")])
    assert simulation.recorder.reasons == ["RequestCreated", "Retained"]
    await simulation.work()
    simulation.observers["Deployment"].on_list([])
    assert simulation.recorder.reasons == ["RequestCreated", "Retained", "Retained"]
    assert simulation.memory.get(ObjectKey(NAMESPACE, "Deployment/orders")) is None


async def test_no_answer_is_tried_again_with_growing_pauses() -> None:
    """A blip is kept to itself; what lasts is told, once."""
    error: list[KubeError] = [UnavailableError(503, "ServiceUnavailable", "later")]

    async def fail(_: str) -> None:
        if error:
            raise error[0]

    simulation = Simulation(before=fail)
    before = gauge(WorkloadState.RETRYING)
    simulation.see()
    (delay,) = await simulation.work()
    delays = [
        delay,
        *[await simulation.reconciler.reconcile(ObjectKey(NAMESPACE, "Deployment/orders")) for _ in range(6)],
    ]
    assert all(delay is not None for delay in delays)
    assert delays[0] != delays[-1]
    assert simulation.recorder.reasons == ["Failed"]
    assert gauge(WorkloadState.RETRYING) == before + 1
    error.clear()
    assert await simulation.reconciler.reconcile(ObjectKey(NAMESPACE, "Deployment/orders")) is None
    assert simulation.names() == [NAME]


async def test_refusal_is_shown_with_its_text() -> None:
    """Quota, RBAC or admission: what the API server says is what helps."""

    async def refuse(call: str) -> None:
        if call.startswith("create"):
            raise ForbiddenError(403, "Forbidden", "exceeded quota: keys")

    simulation = Simulation(before=refuse)
    simulation.see()
    await simulation.work()
    for _ in range(6):
        await simulation.reconciler.reconcile(ObjectKey(NAMESPACE, "Deployment/orders"))
    assert simulation.recorder.told == [("Deployment", "orders", "Failed")]
    assert "exceeded quota: keys" in simulation.recorder.notes[0]


async def test_namespace_that_is_being_removed_is_left_alone() -> None:
    """Nothing can be made in it, and nothing needs to be."""

    async def refuse(call: str) -> None:
        if call.startswith("create"):
            raise ForbiddenError(403, "Forbidden", "going", causes=frozenset({"NamespaceTerminating"}))

    simulation = Simulation(before=refuse)
    simulation.see()
    assert await simulation.work() == [None]
    assert simulation.recorder.told == []


async def test_request_that_keeps_changing_is_tried_later() -> None:
    """It can't hold a worker for ever."""

    async def conflict(call: str) -> None:
        if call.startswith("patch"):
            raise ConflictError(409, "Conflict", "changed")

    simulation = Simulation(before=conflict)
    simulation.see()
    await simulation.work()
    simulation.see(annotations=DELETE)
    (delay,) = await simulation.work()
    assert delay is not None


# Pods.
async def test_bare_pod_gets_its_request_and_leaves_it(simulation: Simulation) -> None:
    """Status changes of the pod make no work; when it goes, the data key stays."""
    for _ in range(3):
        simulation.see_pod("batch")
    assert len(simulation.queue.waiting_keys()) == 1
    await simulation.work()
    assert simulation.names() == ["batch.pod"]
    simulation.workloads.on_pod_gone(ObjectKey(NAMESPACE, "batch"), "p1")
    assert simulation.recorder.told[-1] == ("DataKeyRequest", "batch.pod", "Retained")


async def test_pods_of_one_owner_share_a_request(simulation: Simulation) -> None:
    """The end of a pod, even of the last one, says nothing about the end of its owner."""
    owner = [build_owner("Rollout", "orders", "example.org/v1")]
    for name in ("orders-a", "orders-b"):
        simulation.see_pod(name, owners=owner)
    await simulation.work()
    assert simulation.names() == ["orders.rollout"]
    assert len(simulation.cluster.writes) == 1
    for name in ("orders-a", "orders-b"):
        simulation.workloads.on_pod_gone(ObjectKey(NAMESPACE, name), "p1")
    assert simulation.recorder.reasons == ["RequestCreated"]
    assert simulation.memory.get(ObjectKey(NAMESPACE, "pods of Rollout/orders")) is None


async def test_pods_of_two_templates_do_not_alternate(simulation: Simulation) -> None:
    """During a rollout old and new pods ask for different things; each says so once."""
    owner = [build_owner("Rollout", "orders", "example.org/v1")]
    for _ in range(3):
        for name, key in (("orders-a", "alias/main"), ("orders-b", "alias/other")):
            simulation.see_pod(name, owners=owner, annotations={"key": key})
            await simulation.work()
    assert simulation.recorder.told == [
        ("Pod", "orders-a", "RequestCreated"),
        ("Pod", "orders-b", "RequestDiffers"),
    ]


async def test_ordinals_of_pods_are_worked_on_one_by_one(simulation: Simulation) -> None:
    """Pods of a StatefulSet that was never stamped get their own data keys."""
    owner = [build_owner("StatefulSet", "db", "apps/v1")]
    for number in range(2):
        simulation.see_pod(f"db-{number}", owners=owner, annotations={"scope": "pod"})
    await simulation.work()
    assert simulation.names() == ["db-0.statefulset", "db-1.statefulset"]
    labels = {
        simulation.request(name)["metadata"]["labels"]["datakeys.dev/workload"] for name in simulation.names()
    }
    assert labels == {"db.statefulset"}


async def test_pod_that_is_stamped_later_is_let_go(simulation: Simulation) -> None:
    """Its workload asks for it then."""
    simulation.see_pod("orders")
    await simulation.work()
    simulation.see_pod("orders", stamp="Deployment/orders")
    assert simulation.memory.get(ObjectKey(NAMESPACE, "pods of Pod/orders")) is None


async def test_pod_that_is_being_deleted_keeps_its_place_until_it_is_gone(simulation: Simulation) -> None:
    """Termination can take long, and isn't the end yet."""
    simulation.see_pod("batch")
    await simulation.work()
    body = stored(build_workload("Pod", "batch"), "p1")
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    simulation.workloads.on_pod(parse_pod(body))
    assert simulation.recorder.reasons == ["RequestCreated"]


async def test_news_reaches_all_who_ask_for_a_request(simulation: Simulation) -> None:
    """A StatefulSet and its unstamped pods both wait for the same request."""
    owner = [build_owner("StatefulSet", "db", "apps/v1")]
    simulation.see("StatefulSet", name="db")
    simulation.see_pod("db-0", owners=owner)
    await simulation.work()
    await simulation.cluster.remove(REQUESTS, "db.statefulset")
    simulation.see_request("db.statefulset")
    assert len(simulation.queue.waiting_keys()) == 2
    await simulation.work()
    assert simulation.names() == ["db.statefulset"]
