"""Settings as texts of the environment."""

import pytest

from datakeys.contract.environment import Address, read_address, read_flag, read_required

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8443", Address("0.0.0.0", 8443)),  # noqa: S104 - nothing listens
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_address_is_host_and_port(text: str, address: Address) -> None:
    """An IPv6 host stands in brackets."""
    assert read_address({"LISTEN": text}, "LISTEN", "h:1") == address


@pytest.mark.parametrize("text", ["8443", ":8443", "h:", "h:b", "h:-1", "h:65536", "h:\u0661"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    """The process would start and listen nowhere."""
    with pytest.raises(ValueError, match=r"^LISTEN: .* isn't host:port$"):
        read_address({"LISTEN": text}, "LISTEN", "h:1")


def test_empty_variable_counts_as_absent() -> None:
    """Charts write an empty text where a value isn't given."""
    empty = {"X": ""}
    assert read_address(empty, "X", "h:1") == Address("h", 1)
    assert read_flag(empty, "X", default=True)
    with pytest.raises(ValueError, match=r"^X must be set$"):
        read_required(empty, "X")
    assert read_required({"X": "y"}, "X") == "y"


def test_flag_is_true_or_false() -> None:
    """In any spelling, and nothing else: a typing error must not switch anything off."""
    assert read_flag({"X": "True"}, "X", default=False)
    assert not read_flag({"X": "FALSE"}, "X", default=True)
    assert not read_flag({}, "X", default=False)
    with pytest.raises(ValueError, match=r"^X must be true or false$"):
        read_flag({"X": "1"}, "X", default=False)
