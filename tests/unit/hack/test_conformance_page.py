"""The conformance page says what the tests run on, no more and no less."""

import tomllib
from pathlib import Path

from datakeys.keyservice.operations.table import VERBS
from generate_conformance import PAGE, read_page_sources
from kms_model import operation_names

DIFFERENCES = Path(__file__).parents[3] / "hack" / "conformance_differences.toml"


def test_page_is_up_to_date() -> None:
    """Whoever changes an operation, a case or a difference writes the page again."""
    assert PAGE.read_text() == read_page_sources(), "run: python hack/generate_conformance.py"


def test_every_operation_of_the_model_has_its_row() -> None:
    """None of AWS's operations is passed over in silence."""
    page = PAGE.read_text()
    assert [name for name in operation_names() if f"\n| {name} | " not in page] == []
    assert "MISSING" not in page


def test_differences_are_about_operations_that_are_served_or_not() -> None:
    """A difference of an operation that isn't served, or a reason for one that is, would be a lie."""
    data = tomllib.loads(DIFFERENCES.read_text())
    assert data["operations"].keys() <= VERBS.keys()
    assert data["not_served"].keys() == set(operation_names()) - set(VERBS)
