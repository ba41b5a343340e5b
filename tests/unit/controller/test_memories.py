"""What the controller remembers: requests, keys, Secrets; and what wakes whom."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controller_fakes import (
    KEY_ARN,
    MATERIAL,
    NAMESPACE,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_key_body,
    build_request_body,
)
from datakeys.contract.identity import LABEL_REQUEST
from datakeys.controller import metrics
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey, RequestView, parse_request
from datakeys.controller.decisions.secret import SecretView, parse_secret
from datakeys.controller.key_memory import KeyMemory
from datakeys.controller.kube import secret_memory
from datakeys.controller.kube.api import SECRETS
from datakeys.controller.kube.secret_memory import LabelledSecrets, remember_secret
from datakeys.controller.request_memory import RequestMemory, State

ORDERS = ObjectKey(NAMESPACE, "orders")


def view(name: str = "orders", version: str = "7", uid: str = "u1", **spec: Any) -> RequestView:
    """Return a request."""
    body = build_request_body(name, **spec)
    body["metadata"] |= {"uid": uid, "resourceVersion": version, "generation": 1}
    return parse_request(body)


def gauge(state: State) -> float:
    """Return how many requests the metrics show in a state."""
    return float(metrics.REQUESTS.labels(state.value)._value.get())


def secret_body(name: str = "orders", version: str = "3", **data: str) -> dict[str, Any]:
    """Return a Secret with the request label."""
    metadata = {"name": name, "resourceVersion": version, "labels": {LABEL_REQUEST: name}}
    return {"metadata": metadata, "data": data}


def remembered(*bodies: dict[str, Any]) -> list[SecretView]:
    """Return Secrets as the watch keeps them."""
    return [remember_secret(body) for body in bodies]


def test_older_state_is_no_news() -> None:
    """An event that was overtaken by the controller's own write changes nothing."""
    memory = RequestMemory()
    assert memory.observe(view(version="7")) == (True, None)
    assert memory.observe(view(version="7"))[0] is False
    assert memory.observe(view(version="6"))[0] is False
    assert memory.observe(view(version="10"))[0] is True
    found = memory.get(ORDERS)
    assert found is not None
    assert found.resource_version == "10"


def test_request_made_anew_starts_afresh() -> None:
    """A request of the same name with another UID inherits no failures."""
    memory = RequestMemory()
    memory.observe(view())
    memory.set_busy(ORDERS)
    assert [memory.count_failure(ORDERS) for _ in range(2)] == [1, 2]
    assert memory.observe(view(version="9", uid="u2")) == (True, None)
    assert not memory.is_pending(ORDERS)
    assert memory.count_failure(ORDERS) == 1


def test_failures_count_until_something_changes() -> None:
    """Failures in a row are counted; a change or a success starts over."""
    memory = RequestMemory()
    memory.observe(view())
    memory.set_busy(ORDERS)
    assert memory.count_failure(ORDERS) == 1
    memory.set_idle(ORDERS)
    assert [request.key for request in memory.pending()] == [ORDERS]
    memory.start_over(ORDERS)
    assert memory.count_failure(ORDERS) == 1
    memory.set_done(ORDERS)
    memory.set_idle(ORDERS)
    assert list(memory.pending()) == []


def test_waiting_request_stays_pending() -> None:
    """A request that has reported its failure is still woken by changes."""
    memory = RequestMemory()
    memory.observe(view())
    memory.set_busy(ORDERS)
    memory.count_failure(ORDERS)
    memory.set_waiting(ORDERS, state=State.FAILED)
    memory.start_over(ORDERS)
    memory.set_idle(ORDERS)
    assert memory.is_pending(ORDERS)


def test_unknown_request_is_ignored() -> None:
    """Late answers about a request that is gone are ignored."""
    memory = RequestMemory()
    memory.set_done(ORDERS)
    memory.set_waiting(ORDERS, state=State.FAILED)
    memory.start_over(ORDERS)
    assert memory.count_failure(ORDERS) == 1
    assert memory.forget(ORDERS) is None
    assert memory.get(ORDERS) is None
    assert memory.with_secret(ORDERS) == ()


def test_namespace_is_known_as_long_as_it_has_requests() -> None:
    """The last request of a namespace takes the namespace with it."""
    memory = RequestMemory()
    for name in ("a", "b"):
        memory.observe(view(name, secretName="shared"))
    assert set(memory.with_secret(ObjectKey(NAMESPACE, "shared"))) == {
        ObjectKey(NAMESPACE, "a"),
        ObjectKey(NAMESPACE, "b"),
    }
    memory.forget(ObjectKey(NAMESPACE, "a"))
    assert memory.has_namespace(NAMESPACE)
    memory.forget(ObjectKey(NAMESPACE, "b"))
    assert not memory.has_namespace(NAMESPACE)
    assert memory.with_secret(ObjectKey(NAMESPACE, "shared")) == ()


def test_metrics_follow_the_requests() -> None:
    """Each request counts once, in its present state, and not after it is gone."""
    memory = RequestMemory()
    before = {state: gauge(state) for state in State}
    memory.observe(view())
    memory.set_waiting(ORDERS, state=State.RETRYING)
    memory.set_waiting(ORDERS, state=State.RETRYING)
    assert gauge(State.RETRYING) == before[State.RETRYING] + 1
    memory.set_done(ORDERS)
    assert gauge(State.RETRYING) == before[State.RETRYING]
    assert gauge(State.READY) == before[State.READY] + 1
    memory.forget(ORDERS)
    assert {state: gauge(state) for state in State} == before


async def test_key_is_waited_for_until_it_is_known() -> None:
    """Waiting for a KmsKey ends when its key is made, or with the time."""
    keys = KeyMemory()
    key = ObjectKey(NAMESPACE, "main")
    await keys.wait_until_known(key, 0.01)
    waiting = asyncio.create_task(keys.wait_until_known(key, 60))
    assert await keys.observe(parse_key_facts(build_key_body(arn=""))) is None
    await asyncio.sleep(0)
    assert not waiting.done()
    old = await keys.observe(parse_key_facts(build_key_body()))
    assert old is not None
    await waiting
    assert (list(keys), len(keys), keys[key].arn) == ([key], 1, KEY_ARN)
    keys.forget(key)
    assert key not in keys


def test_own_create_is_known_before_the_watch_tells() -> None:
    """The answer of a create is taken at once, and the watch's echo of it is no change."""
    told: list[ObjectKey] = []
    secrets = LabelledSecrets(NAMESPACE, told.append)
    secrets.on_list([])
    secrets.observe(parse_secret(secret_body(version="5", a="b")))
    assert secrets.find("orders") is not None
    secrets.on_change("ADDED", secret_body(version="5", a="b"))
    assert told == []


def test_late_answer_brings_no_secret_back() -> None:
    """The answer of a create that comes after the watch has told of the deletion is ignored."""
    secrets = LabelledSecrets(NAMESPACE, lambda _: None)
    secrets.on_list([])
    secrets.on_change("ADDED", secret_body(version="5"))
    secrets.on_change("DELETED", secret_body(version="6"))
    secrets.observe(parse_secret(secret_body(version="5")))
    assert secrets.find("orders") is None


def test_late_deletion_takes_away_no_secret_that_was_made_anew() -> None:
    """A Secret that is put in another's place is known from its create's answer, before the watch tells."""
    told: list[ObjectKey] = []
    secrets = LabelledSecrets(NAMESPACE, told.append)
    secrets.on_list([])
    secrets.on_change("ADDED", secret_body(version="5", a="old"))
    told.clear()
    secrets.observe(parse_secret(secret_body(version="7", a="new")))
    secrets.on_change("DELETED", secret_body(version="6", a="old"))
    secrets.on_change("ADDED", secret_body(version="7", a="new"))
    found = secrets.find("orders")
    assert found is not None
    assert found.resource_version == "7"
    assert told == []


def test_a_request_is_found_by_the_secrets_of_all_its_versions_and_by_its_keys() -> None:
    """Both change with the request, and are forgotten with it."""
    memory = RequestMemory()
    memory.observe(view())
    assert list(memory.with_secret(ObjectKey(NAMESPACE, "orders.v2"))) == []
    assert list(memory.under_key(KEY_ARN)) == []
    issued = build_request_body(version=2)
    issued["metadata"] |= {"uid": "u1", "resourceVersion": "8"}
    issued["status"] = {"ciphertextBlob": "AQ==", "keyId": KEY_ARN, "keyMaterialId": MATERIAL}
    memory.observe(parse_request(issued))
    assert list(memory.with_secret(ObjectKey(NAMESPACE, "orders.v2"))) == [ORDERS]
    assert [request.key for request in memory.under_key(KEY_ARN)] == [ORDERS]
    memory.forget(ORDERS)
    assert list(memory.with_secret(ObjectKey(NAMESPACE, "orders.v2"))) == []
    assert list(memory.under_key(KEY_ARN)) == []


def test_new_list_tells_what_has_changed_meanwhile() -> None:
    """After an interruption the differences are told: gone, new, changed; equal ones aren't."""
    told: list[ObjectKey] = []
    secrets = LabelledSecrets(NAMESPACE, told.append)
    secrets.on_list(remembered(secret_body("same"), secret_body("gone"), secret_body("changed", a="1")))
    assert told == []
    secrets.on_list(remembered(secret_body("same", "9"), secret_body("new"), secret_body("changed", a="2")))
    assert {key.name for key in told} == {"gone", "new", "changed"}
    told.clear()
    secrets.on_change("DELETED", secret_body("new", "10"))
    secrets.on_change("MODIFIED", secret_body("same", "11"))
    assert [key.name for key in told] == ["new"]


def test_an_own_secret_that_comes_back_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event of a Secret whose creation was answered costs no parsing, and tells nothing."""
    told: list[ObjectKey] = []
    secrets = LabelledSecrets(NAMESPACE, told.append)
    secrets.on_list([])
    secrets.observe(remember_secret(secret_body(version="4")))
    monkeypatch.setattr(secret_memory, "remember_secret", lambda _: pytest.fail("parsed"))
    secrets.on_change("ADDED", secret_body(version="4"))
    assert told == []
    assert secrets.find("orders") is not None


@pytest.fixture
def controller() -> SimulatedController:
    """Return a controller with a request that it has seen."""
    controller = SimulatedController(FakeApi(FakeCluster()), FakeKeyService())
    controller.wakeups.on_request(view(keyId="alias/orders"))
    return controller


async def drain(controller: SimulatedController) -> None:
    """Empty the queue by a look at nothing."""
    controller.queue._waiting.clear()
    controller.queue._queued.clear()


def alias_body(target: str, name: str = "orders", namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return a KmsAlias."""
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"alias-{namespace}-{name}"},
        "spec": {},
        "status": {"targetKeyArn": target},
    }


async def test_only_pending_requests_are_woken(controller: SimulatedController) -> None:
    """A change of a key looks at requests whose outcome is open, and at no others."""
    await drain(controller)
    await controller.see_key(build_key_body())
    assert controller.queue.waiting_keys() == ()
    controller.requests.set_busy(ORDERS)
    await controller.see_key(build_key_body(state="Disabled"))
    assert controller.queue.waiting_keys() == (ORDERS,)


async def test_alias_wakes_its_requests_when_its_target_changes(controller: SimulatedController) -> None:
    """A KmsAlias wakes requests by its name, in its namespace, and only when it leads elsewhere."""
    controller.requests.set_busy(ORDERS)
    for body in (alias_body(""), alias_body(KEY_ARN, "other"), alias_body(KEY_ARN, namespace="x")):
        await drain(controller)
        controller.wakeups.on_alias(body)
        assert controller.queue.waiting_keys() == ()
    controller.wakeups.on_alias(alias_body(KEY_ARN))
    assert controller.queue.waiting_keys() == (ORDERS,)
    await drain(controller)
    controller.wakeups.on_alias(alias_body(KEY_ARN))
    assert controller.queue.waiting_keys() == ()
    controller.wakeups.forget(alias_body(KEY_ARN))
    controller.wakeups.on_alias(alias_body(KEY_ARN))
    assert controller.queue.waiting_keys() == (ORDERS,)


async def test_grant_wakes_its_namespace(controller: SimulatedController) -> None:
    """A new grant may help any open request of its namespace."""
    controller.requests.set_busy(ORDERS)
    await drain(controller)
    body = {"metadata": {"namespace": NAMESPACE, "name": "g", "uid": "g1"}, "spec": {}}
    controller.wakeups.on_grant(body)
    assert controller.queue.waiting_keys() == ()
    controller.wakeups.on_grant({**body, "status": {"grantId": "1"}})
    assert controller.queue.waiting_keys() == (ORDERS,)


async def test_deleted_request_is_forgotten(controller: SimulatedController) -> None:
    """A deletion forgets the request it is about, not one of the same name made since."""
    controller.wakeups.on_request_gone(ORDERS, "another uid")
    assert controller.requests.get(ORDERS) is not None
    controller.wakeups.on_request_gone(ORDERS, "u1")
    assert controller.requests.get(ORDERS) is None
    controller.wakeups.on_request_gone(ORDERS, "u1")


async def test_request_under_deletion_is_not_queued(controller: SimulatedController) -> None:
    """A deletionTimestamp is no reason to work."""
    await drain(controller)
    controller.wakeups.on_request(replace(view(version="9"), deleting=True))
    assert controller.queue.waiting_keys() == ()


async def test_watches_end_with_the_namespace() -> None:
    """The watches of a namespace live as long as it has requests or conflicts."""
    cluster = FakeCluster()
    controller = SimulatedController(FakeApi(cluster), FakeKeyService())
    secrets = controller.secrets
    assert await secrets.follow(NAMESPACE) is await secrets.follow(NAMESPACE)
    wanted = ObjectKey(NAMESPACE, "s")
    for waiter in (ORDERS, ObjectKey(NAMESPACE, "other")):
        secrets.await_removal(wanted, waiter)
    secrets.stop_awaiting(wanted, ORDERS)
    assert secrets.is_awaited(wanted)
    secrets.stop_awaiting(wanted, ORDERS)
    secrets.stop_awaiting(wanted, ObjectKey(NAMESPACE, "other"))
    assert not secrets.is_awaited(wanted)
    secrets.await_removal(wanted, ORDERS)
    secrets.close()
    secrets.close()
    assert not secrets.is_awaited(wanted)


async def test_removal_is_noticed_even_before_the_watch_began() -> None:
    """A Secret that is gone by the time the watch lists is told as gone."""
    cluster = FakeCluster()
    controller = SimulatedController(FakeApi(cluster), FakeKeyService())
    told: list[ObjectKey] = []
    controller.secrets.subscribe(told.append)
    await cluster.put(SECRETS, {"metadata": {"namespace": NAMESPACE, "name": "kept"}})
    for name in ("kept", "gone"):
        controller.secrets.await_removal(ObjectKey(NAMESPACE, name), ORDERS)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [key.name for key in told] == ["gone"]
    controller.secrets.close()
