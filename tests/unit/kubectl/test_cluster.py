"""Every call goes through kubectl, and its errors become answers."""

import pytest

from datakeys.kubectl.answers import ClusterError, Gap, UserError
from datakeys.kubectl.cluster import Cluster, SecretRow, build_cluster_error, fetch_all, parse_secret_table
from datakeys.kubectl.paths import build_path
from kubectl_objects import FakeKubectl, build_key, build_secret_line


def test_flags_of_the_user_reach_every_call(kubectl: FakeKubectl) -> None:
    """The context and the impersonated user are kubectl's business."""
    kubectl.answer("/x", {"kind": "X"})
    assert kubectl.cluster("--context=prod", "--as=alice").get("/x") == {"kind": "X"}
    assert kubectl.calls == [["--context=prod", "--as=alice", "get", "--raw", "/x"]]


def test_missing_object_is_an_answer(kubectl: FakeKubectl) -> None:
    """An explanation goes on after it."""
    found = kubectl.cluster().look("/nothing")
    assert isinstance(found, Gap)
    assert found.is_missing


def test_forbidden_object_is_an_answer_with_the_lacking_right(kubectl: FakeKubectl) -> None:
    """The API server's text says which right it is."""
    kubectl.answer("/x", 'Error from server (Forbidden): pods "p" is forbidden: User "a" cannot get it')
    found = kubectl.cluster().look("/x")
    assert isinstance(found, Gap)
    assert not found.is_missing
    assert found.message == 'pods "p" is forbidden: User "a" cannot get it'


def test_unreachable_server_is_an_error(kubectl: FakeKubectl) -> None:
    """It must never be taken for a missing object."""
    kubectl.answer("/x", "The connection to the server 10.0.0.1:6443 was refused")
    for call in (kubectl.cluster().look, kubectl.cluster().items, kubectl.cluster().text):
        kubectl.answer("/x?limit=500", "The connection to the server 10.0.0.1:6443 was refused")
        with pytest.raises(ClusterError, match="refused") as caught:
            call("/x")
        assert caught.value.reason == "Unreachable"


@pytest.mark.parametrize("reason", ["InternalError", "ServiceUnavailable", "Timeout", "TooManyRequests"])
def test_failing_server_is_an_error(kubectl: FakeKubectl, reason: str) -> None:
    """Nobody knows then what is there."""
    kubectl.answer("/x", f"Error from server ({reason}): try later")
    with pytest.raises(ClusterError, match="try later"):
        kubectl.cluster().look("/x")


def test_missing_kubectl_is_said(kubectl: FakeKubectl) -> None:
    """Without kubectl nothing works; the text says what to do."""
    assert kubectl.program
    with pytest.raises(UserError, match="put it on PATH"):
        Cluster("/nowhere/kubectl").get("/x")


def test_long_lists_are_read_page_by_page(kubectl: FakeKubectl) -> None:
    """The token of a page leads to the next."""
    one, two = build_key("one"), build_key("two")
    kubectl.answer("/keys?limit=500", {"items": [one], "metadata": {"continue": "abc"}})
    kubectl.answer("/keys?limit=500&continue=abc", {"items": [two], "metadata": {}})
    assert kubectl.cluster().items("/keys") == [one, two]


def test_first_of_several_errors_is_told() -> None:
    """``kubectl get secrets a b`` has one error for each."""
    text = "Error from server (Forbidden): a is\n forbidden\nError from server (Forbidden): b is forbidden\n"
    error = build_cluster_error(text)
    assert (error.reason, error.message) == ("Forbidden", "a is forbidden")


def test_only_the_table_of_secrets_is_asked_for(kubectl: FakeKubectl) -> None:
    """The API server makes the table, so that no data of a Secret ever comes here."""
    kubectl.answer(
        "secrets", build_secret_line("orders", "orders") + build_secret_line("other", "", "Opaque")
    )
    rows = kubectl.cluster().secrets("shop", "orders", "other")
    assert rows == [
        SecretRow("orders", "datakeys.dev/encrypted-data-key", "orders"),
        SecretRow("other", "Opaque", ""),
    ]
    (words,) = kubectl.calls
    assert not {"-o", "--output", "--raw", "--template"} & set(words)


def test_secrets_of_all_namespaces_carry_theirs() -> None:
    """Two namespaces may have a Secret of one name."""
    table = "shop  orders  t  4  5m  orders\nweb  orders  t  4  5m  <none>\n"
    assert parse_secret_table(table, with_namespace=True) == [
        SecretRow("shop/orders", "t", "orders"),
        SecretRow("web/orders", "t", ""),
    ]


def test_default_namespace_is_the_context_s(kubectl: FakeKubectl) -> None:
    """As kubectl itself has it; without a kubeconfig it is default."""
    assert kubectl.cluster().default_namespace() == "default"
    kubectl.answer("json", {"contexts": [{"context": {"namespace": "shop"}}]})
    assert kubectl.cluster().default_namespace() == "shop"


def test_error_of_one_of_many_calls_is_raised(kubectl: FakeKubectl) -> None:
    """Nothing is shown as complete that isn't."""
    kubectl.answer("/a", {})
    cluster = kubectl.cluster()
    with pytest.raises(ClusterError):
        fetch_all({"a": lambda: cluster.get("/a"), "b": lambda: cluster.get("/b")})


def test_names_can_t_leave_their_place_in_a_path() -> None:
    """A name with a slash would be another path."""
    assert build_path("/api/v1", "pods", "a/b", "../x") == "/api/v1/namespaces/a%2Fb/pods/..%2Fx"
