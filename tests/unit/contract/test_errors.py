"""Errors of the protocol and their codes."""

import pytest

from datakeys.contract.errors import (
    InternalError,
    KeyDisabledError,
    KmsError,
    NotFoundError,
    RequestError,
    ServiceError,
    all_error_types,
    error_from_code,
)


@pytest.mark.parametrize("error_type", all_error_types())
def test_every_error_says_whose_fault_it_is(error_type: type[KmsError]) -> None:
    """A caller's error is a 400, ours a 500."""
    assert issubclass(error_type, (RequestError, ServiceError))
    assert error_type.http_status == (400 if issubclass(error_type, RequestError) else 500)


@pytest.mark.parametrize(
    "code", ["NotFoundException", "com.amazonaws#NotFoundException", "NotFoundException:http://x"]
)
def test_code_on_the_wire_gives_the_class(code: str) -> None:
    """Namespace and URL around the name are ignored, as SDKs do."""
    error = error_from_code(code, "gone")
    assert isinstance(error, NotFoundError)
    assert error.message == "gone"


def test_unknown_code_is_a_retryable_internal_error() -> None:
    """A newer key service must not make an older controller give up."""
    error = error_from_code("BrandNewException", "x")
    assert isinstance(error, InternalError)
    assert error.retryable


def test_reason_is_the_kms_name() -> None:
    """Conditions show the name that AWS users know."""
    assert KeyDisabledError("x").reason == "DisabledException"
