"""The canonical bytes of an encryption context, and the reserved pairs."""

import pytest

from datakeys.contract.encryption_context import build_bound_context, canonical_bytes, check_size
from datakeys.contract.errors import ValidationError


def test_known_bytes() -> None:
    """The layout is part of format version 1 and can't change: old ciphertext must decrypt."""
    assert canonical_bytes({}) == bytes(4)
    assert canonical_bytes({"b": "2", "a": "é"}) == (
        b"\0\0\0\2" + b"\0\0\0\1a" + b"\0\0\0\2\xc3\xa9" + b"\0\0\0\1b" + b"\0\0\0\0012"
    )


def test_joining_is_not_ambiguous() -> None:
    """Moving a letter from the key to the value gives other bytes."""
    assert canonical_bytes({"ab": "c"}) != canonical_bytes({"a": "bc"})


def test_unicode_is_not_normalised() -> None:
    """Composed and decomposed forms are different contexts."""
    assert canonical_bytes({"k": "\u00e9"}) != canonical_bytes({"k": "e\u0301"})


def test_lone_surrogate_is_refused() -> None:
    """JSON can smuggle in a string that has no UTF-8 form."""
    with pytest.raises(ValidationError, match="encryptionContext"):
        canonical_bytes({"k": "\ud800"})


def test_size_limit() -> None:
    """8192 characters in all are allowed, one more isn't."""
    check_size({"k": "v" * 8191})
    with pytest.raises(ValidationError, match="encryptionContext"):
        check_size({"k": "v" * 8192})


def test_bound_context_holds_user_and_reserved_pairs() -> None:
    """The three reserved pairs name the workload."""
    bound = build_bound_context({"purpose": "disk"}, namespace="ns", request="r", service_account="sa")
    assert bound == {
        "purpose": "disk",
        "datakeys.dev/namespace": "ns",
        "datakeys.dev/request": "r",
        "datakeys.dev/service-account": "sa",
    }


@pytest.mark.parametrize("key", ["datakeys.dev/namespace", "datakeys.dev/x", "DATAKEYS.dev/Namespace"])
def test_user_pair_with_reserved_prefix_is_refused(key: str) -> None:
    """A user can't bind a data key to somebody else."""
    with pytest.raises(ValidationError, match="reserved prefix"):
        build_bound_context({key: "x"}, namespace="ns", request="r", service_account="sa")
