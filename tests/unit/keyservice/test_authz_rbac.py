"""RBAC: what the cluster is asked, how long an answer counts, and that nobody waits on the event loop."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.authn.access_reviews import ClusterAuthorizer, build_review
from datakeys.keyservice.authz.rbac import RbacQuestion
from datakeys.keyservice.cluster_api import Answer
from datakeys.keyservice.operations.grant_tokens import build_grant_token
from datakeys.keyservice.server.http import HttpResponse
from keyservice_rig import Clock, DispatchRig, account, pod

QUESTION = RbacQuestion(account(), "team-a", "decrypt", "my-key")


@dataclass
class Reviews:
    """A cluster that answers SubjectAccessReviews."""

    answer: Answer = field(default_factory=lambda: Answer(201, {"status": {"allowed": True}}))
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    reachable: bool = True
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Answer at once."""
        self.gate.set()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer a review."""
        assert (method, path, query) == ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", None)
        assert body is not None
        self.asked.append(body)
        assert self.gate.wait(60)
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")
        return self.answer

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Watch nothing."""
        raise NotImplementedError

    def fetch_time(self) -> float:
        """Know no time."""
        raise NotImplementedError


def test_the_question() -> None:
    """The whole identity, and the attributes that ``kubectl auth can-i`` would send."""
    assert build_review(replace(QUESTION, principal=pod())) == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:team-a:app",
            "uid": "uid-sa",
            "groups": [
                "system:serviceaccounts",
                "system:serviceaccounts:team-a",
                "system:authenticated",
            ],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["pod-1"],
                "authentication.kubernetes.io/pod-uid": ["uid-pod"],
            },
            "resourceAttributes": {
                "group": "datakeys.dev",
                "resource": "kmskeys",
                "subresource": "decrypt",
                "verb": "create",
                "namespace": "team-a",
                "name": "my-key",
            },
        },
    }
    without = build_review(replace(QUESTION, name=""))["spec"]
    assert without["extra"] == {}
    assert "name" not in without["resourceAttributes"]


@pytest.mark.parametrize(
    ("status", "allowed", "seconds"),
    [
        ({"allowed": True}, True, 10),
        ({"allowed": False}, False, 5),
        ({"allowed": True, "denied": True}, False, 5),
        ({"allowed": "true"}, False, 5),
        ({}, False, 5),
    ],
)
def test_answers_count_for_seconds(status: dict[str, Any], *, allowed: bool, seconds: int) -> None:
    """A yes for 10 seconds, a no for 5; what isn't clearly a yes is a no."""
    reviews, clock = Reviews(Answer(201, {"status": status})), Clock(0)
    authorizer = ClusterAuthorizer(reviews, clock)
    assert authorizer.find_cached(QUESTION) is None
    assert authorizer.decide(QUESTION) is allowed
    clock.now = seconds - 0.1
    assert authorizer.find_cached(QUESTION) is allowed
    assert authorizer.decide(QUESTION) is allowed
    assert authorizer.find_cached(replace(QUESTION, name="other")) is None
    clock.now = seconds
    assert authorizer.find_cached(QUESTION) is None
    assert len(reviews.asked) == 1


def test_unreachable_cluster_is_no_answer() -> None:
    """Nothing is remembered of a failure, and the next call asks again."""
    reviews = Reviews(reachable=False)
    authorizer = ClusterAuthorizer(reviews, Clock(0))
    with pytest.raises(DependencyTimeoutError):
        authorizer.decide(QUESTION)
    reviews.reachable = True
    assert authorizer.decide(QUESTION)
    reviews.answer = Answer(404, {})
    with pytest.raises(DependencyTimeoutError):
        authorizer.decide(replace(QUESTION, name="other"))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answer goes first."""
    monkeypatch.setattr("datakeys.keyservice.authn.access_reviews.MAX_REMEMBERED", 2)
    authorizer = ClusterAuthorizer(Reviews(), Clock(0))
    questions = [replace(QUESTION, name=name) for name in "abc"]
    assert all(authorizer.decide(question) for question in questions)
    assert [authorizer.find_cached(question) for question in questions] == [None, True, True]


@pytest.mark.parametrize("reachable", [True, False])
def test_a_burst_asks_once(*, reachable: bool) -> None:
    """Who asks while the same question is under way gets its answer, or its error."""
    reviews = Reviews(reachable=reachable)
    reviews.gate.clear()
    authorizer = ClusterAuthorizer(reviews, Clock(0))
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(authorizer.decide, QUESTION) for _ in range(4)]
        threading.Timer(0.2, reviews.gate.set).start()
        for answer in answers:
            if reachable:
                assert answer.result(10)
            else:
                assert isinstance(answer.exception(60), DependencyTimeoutError)
    assert len(reviews.asked) == 1


def test_a_review_never_holds_up_the_event_loop(dispatch_rig: DispatchRig) -> None:
    """A miss moves to the executor, and a hit is answered at once; the audit has one record per call."""
    reviews = Reviews()
    rig = dispatch_rig.rig
    rig.clock.now = time.time()
    authorizer = ClusterAuthorizer(reviews, dispatch_rig.monotonic)
    rig.service = replace(rig.service, authorizer=authorizer)
    dispatch_rig.dispatcher._service = rig.service
    body = {"KeyId": rig.create_key()}
    token = dispatch_rig.issuer.token("team-a", "app")

    async def run() -> None:
        await dispatch_rig.send("ListAliases", {}, token)
        reviews.gate.clear()
        waiting = dispatch_rig.handle(dispatch_rig.request("DescribeKey", body, token))
        assert not isinstance(waiting, HttpResponse)
        asyncio.get_running_loop().call_later(0.1, reviews.gate.set)
        answered = await asyncio.wait_for(waiting, 60)
        assert answered.status == 200
        again = dispatch_rig.handle(dispatch_rig.request("DescribeKey", body, token))
        assert isinstance(again, HttpResponse)
        assert again.status == 200
        reviews.reachable = False
        status, error, _ = await dispatch_rig.send("GetKeyPolicy", body, token)
        assert (status, error["__type"]) == (500, "DependencyTimeoutException")

    asyncio.run(run())
    assert len(reviews.asked) == 3


def test_only_the_controller_names_objects(dispatch_rig: DispatchRig) -> None:
    """Somebody else could take the key of a KmsKey that is yet to come."""
    dispatch_rig.rig.clock.now = time.time()
    token = dispatch_rig.issuer.token("team-a", "app")

    async def run() -> None:
        status, error, _ = await dispatch_rig.send("CreateKey", {}, token, x_datakeys_object_name="k")
        assert (status, error["__type"]) == (400, "AccessDeniedException")

    asyncio.run(run())


def test_a_token_works_before_its_grant_is_in_memory(
    dispatch_rig: DispatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica made the grant a moment ago: the token makes this one look, off the event loop."""
    rig = dispatch_rig.rig
    rig.clock.now = time.time()
    arn = rig.create_key()
    made = rig.grant(arn, "DescribeKey")
    key_id = arn.rpartition("/")[2]
    grant = rig.store.find_grant(key_id, made["GrantId"])
    assert grant is not None
    rig.store.index.drop(grant)
    looked: list[str] = []

    def refresh(_: str, grant_id: str) -> Any:
        looked.append(threading.current_thread().name)
        if grant_id == grant.grant_id:
            rig.store.index.put(grant)
        return rig.store.find_grant(key_id, grant_id)

    monkeypatch.setattr(rig.store, "refresh_grant", refresh)
    token = dispatch_rig.issuer.token("team-a", "app")
    unknown = build_grant_token(rig.root_key, key_id, "ab" * 32, rig.random)

    async def run() -> None:
        for grant_token, expected in ((made["GrantToken"], 200), (unknown, 400)):
            await dispatch_rig.send("ListAliases", {}, token)
            body = {"KeyId": arn, "GrantTokens": [grant_token]}
            status, answer, _ = await dispatch_rig.send("DescribeKey", body, token)
            assert status == expected
            assert answer.get("__type") in (None, "InvalidGrantTokenException")

    asyncio.run(run())
    assert len(looked) == 2
    assert threading.main_thread().name not in looked
