"""What a workload's annotations ask for, and the names that come of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.workload import (
    AnnotationError,
    DeletionPolicy,
    Scope,
    Workload,
    build_request_name,
    find_ordinal,
    is_object_name,
    parse_workload_wish,
)

pytestmark = pytest.mark.unit

KEY = "datakeys.dev/key"


def test_key_alone_is_enough() -> None:
    """Everything else has a default that suits most workloads."""
    wish = parse_workload_wish({KEY: "alias/payments"})
    assert wish is not None
    assert (wish.key_id, wish.key_ref) == ("alias/payments", None)
    assert (wish.key_spec, wish.number_of_bytes, wish.key_name) == ("AES_256", None, "data-key")
    assert (wish.scope, wish.deletion_policy) == (Scope.WORKLOAD, DeletionPolicy.RETAIN)
    assert wish.encryption_context == {}


def test_without_the_key_nothing_is_asked_for() -> None:
    """The other annotations alone mean nothing."""
    assert parse_workload_wish({"datakeys.dev/scope": "pod"}) is None


def test_the_name_of_a_kmskey_is_taken_as_a_reference() -> None:
    """Whoever made a KmsKey knows its name, not its id."""
    wish = parse_workload_wish({KEY: "orders", "datakeys.dev/number-of-bytes": "64"})
    assert wish is not None
    assert (wish.key_id, wish.key_ref, wish.key_spec, wish.number_of_bytes) == (None, "orders", None, 64)


def test_encryption_context_is_parsed_as_pairs() -> None:
    """Blanks around names and values don't count; a value may hold an equals sign."""
    wish = parse_workload_wish({KEY: "k", "datakeys.dev/encryption-context": "purpose=disk, tenant = a=b"})
    assert wish is not None
    assert wish.encryption_context == {"purpose": "disk", "tenant": "a=b"}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("key", ""),
        ("key", "alias/"),
        ("key", "Not A Name"),
        ("key", "a" * 3000),
        ("key-spec", "AES_512"),
        ("number-of-bytes", "0"),
        ("number-of-bytes", "1025"),
        ("number-of-bytes", "1e3"),
        ("number-of-bytes", "9" * 5000),
        ("encryption-context", "purpose"),
        ("encryption-context", "=disk"),
        ("encryption-context", "a=1,a=2"),
        ("encryption-context", "Datakeys.dev/namespace=other"),
        ("encryption-context", "a=" + "b" * 9000),
        ("key-name", "../etc"),
        ("key-name", ""),
        ("scope", "Pod"),
        ("deletion-policy", "delete"),
    ],
)
def test_malformed_annotation_is_named(annotation: str, value: str) -> None:
    """Whoever wrote it learns which annotation is wrong."""
    with pytest.raises(AnnotationError, match=f"annotation datakeys.dev/{annotation}: "):
        parse_workload_wish({KEY: "alias/payments", f"datakeys.dev/{annotation}": value})


def test_spec_and_number_of_bytes_exclude_each_other() -> None:
    """As in the KMS API."""
    with pytest.raises(AnnotationError, match="not both"):
        parse_workload_wish(
            {KEY: "k", "datakeys.dev/key-spec": "AES_128", "datakeys.dev/number-of-bytes": "16"}
        )


def test_request_name_tells_workload_ordinal_and_kind() -> None:
    """People find the request of a workload by its name."""
    assert build_request_name(Workload("Deployment", "orders")) == "orders.deployment"
    assert build_request_name(Workload("StatefulSet", "db"), 3) == "db-3.statefulset"


@given(
    name=st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True), ordinal=st.integers(0, 9999)
)
def test_every_request_name_is_valid(name: str, ordinal: int) -> None:
    """However long the workload's name is, and two long names stay different."""
    if not is_object_name(name):
        return
    made = build_request_name(Workload("StatefulSet", name), ordinal)
    assert len(made) <= 63
    assert is_object_name(made)
    assert made != build_request_name(Workload("StatefulSet", name), ordinal + 1)
    assert made != build_request_name(Workload("Deployment", name), ordinal)


@pytest.mark.parametrize(
    ("pod", "ordinal"),
    [("db-0", 0), ("db-12", 12), ("db", None), ("db-x", None), ("db-01", None), ("web-1", None)],
)
def test_ordinal_is_read_from_the_pods_name(pod: str, ordinal: int | None) -> None:
    """Only a name that the StatefulSet itself gives counts."""
    assert find_ordinal(Workload("StatefulSet", "db"), pod) == ordinal


@pytest.mark.parametrize(
    "text", ["", "Deployment", "Deployment/", "/x", "De ploy/x", "Deployment/X_1", "a/b/c"]
)
def test_malformed_workload_is_refused(text: str) -> None:
    """The annotation is written by anybody."""
    with pytest.raises(ValueError, match="Kind/name"):
        Workload.parse(text)
    assert str(Workload.parse("CronJob/nightly")) == "CronJob/nightly"
