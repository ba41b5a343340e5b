"""The watch of labelled pods: who is told what, and how little is kept."""

import contextlib
from typing import Any

from datakeys.controller.decisions.pod_view import PodView, parse_pod
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.kube.api import Json
from datakeys.controller.kube.list_watch import ListWatch
from datakeys.controller.kube.pod_watch import PodWatch, reduce_pod

SHOP = ObjectKey("shop", "orders-1")


def build_pod_body(name: str = "orders-1", uid: str = "u1", **metadata: Any) -> Json:
    """Return a labelled pod as the API server sends it."""
    return {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": uid,
            "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"datakeys.dev/inject": "true"},
            **metadata,
        },
        "spec": {"containers": [{"name": "app", "env": [{"name": "PASSWORD", "value": "secret"}]}]},
        "status": {"phase": "Running"},
    }


class Seen:
    """A subscriber that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.views: list[PodView] = []

    def on_pod(self, view: PodView) -> None:
        """Take a pod."""
        self.calls.append(("pod", view.key.name, view.uid))
        self.views.append(view)

    def on_pod_gone(self, key: ObjectKey, uid: str) -> None:
        """Take the end of a pod."""
        self.calls.append(("gone", key.name, uid))


class PagedApi:
    """Answers lists in pages of one object, and remembers what it was asked."""

    def __init__(self, *pods: Json) -> None:
        self.pods = pods
        self.asked: list[dict[str, str]] = []

    async def list(self, _: object, namespace: str | None, **options: Any) -> Json:
        """Return one page."""
        assert namespace is None
        self.asked.append(options)
        number = int(options.get("continue", "0"))
        more = {"continue": str(number + 1)} if number + 1 < len(self.pods) else {}
        return {"metadata": {"resourceVersion": "9", **more}, "items": [self.pods[number]]}

    async def watch(self, *_: object, **__: object) -> Any:
        """End the test where the watch would begin."""
        raise EOFError
        yield


def start(*pods: Json) -> tuple[PodWatch, Seen, Any]:
    """Return a watch with a subscriber."""
    api: Any = PagedApi(*pods)
    watch, seen = PodWatch(api), Seen()
    watch.subscribe(seen)
    return watch, seen, api


def test_subscribers_hear_of_pods_and_of_their_end() -> None:
    """ADDED and MODIFIED are states of a pod; DELETED is its end, also when only the label went."""
    watch, seen, _ = start()
    watch.on_change("ADDED", build_pod_body())
    watch.on_change("MODIFIED", build_pod_body())
    watch.on_change("DELETED", build_pod_body())
    watch.on_change("DELETED", build_pod_body())
    assert seen.calls == [("pod", "orders-1", "u1")] * 2 + [("gone", "orders-1", "u1")]


def test_pods_that_are_not_listed_any_more_are_gone() -> None:
    """What vanished while the watch was interrupted is told after the next list."""
    watch, seen, _ = start()
    watch.on_list([build_pod_body("a", "1"), build_pod_body("b", "2")])
    seen.calls.clear()
    watch.on_list([build_pod_body("b", "2"), build_pod_body("c", "3")])
    assert seen.calls == [("gone", "a", "1"), ("pod", "b", "2"), ("pod", "c", "3")]


def test_pod_of_the_same_name_is_another_pod() -> None:
    """A StatefulSet's pod comes back under its name: the former one is gone first."""
    watch, seen, _ = start()
    watch.on_list([build_pod_body(uid="1")])
    watch.on_list([build_pod_body(uid="2")])
    watch.on_change("ADDED", build_pod_body(uid="3"))
    assert seen.calls == [
        ("pod", "orders-1", "1"),
        ("gone", "orders-1", "1"),
        ("pod", "orders-1", "2"),
        ("gone", "orders-1", "2"),
        ("pod", "orders-1", "3"),
    ]


async def test_pods_are_listed_in_pages() -> None:
    """Thousands of pods never come in one answer."""
    watch, seen, api = start(build_pod_body("a", "1"), build_pod_body("b", "2"))
    with contextlib.suppress(EOFError):
        await watch.run()
    assert seen.calls == [("pod", "a", "1"), ("pod", "b", "2")]
    assert [asked.get("continue") for asked in api.asked] == [None, "1"]
    assert {(asked["labelSelector"], asked["limit"]) for asked in api.asked} == {
        ("datakeys.dev/inject=true", "250")
    }


def test_reduced_pod_is_the_same_pod() -> None:
    """The decisions see the same; of containers only names stay, of annotations only our own."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "orders", "uid": "r", "controller": True}
    body = build_pod_body(
        annotations={"datakeys.dev/injected": "sidecar:1", "other/thing": "x" * 1000},
        ownerReferences=[owner],
        generateName="orders-",
    )
    body["spec"]["initContainers"] = [{"name": "datakeys-sidecar", "env": []}]
    reduced = reduce_pod(body)
    view = parse_pod(reduced)
    del body["metadata"]["annotations"]["other/thing"]
    assert view == parse_pod(body)
    assert view.injected
    assert view.created_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert "secret" not in str(reduced)
    assert "other/thing" not in str(reduced)


def test_watch_is_over_all_namespaces() -> None:
    """The one watch of the process."""
    watch, _, _ = start()
    inner = watch._watch
    assert isinstance(inner, ListWatch)
    assert inner.resource.path(inner.namespace) == "/api/v1/pods"
