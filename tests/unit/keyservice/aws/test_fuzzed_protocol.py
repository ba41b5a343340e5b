"""A bounded run of the protocol's fuzzer; `hack/fuzz_protocol.py` is the long one."""

from fuzz_protocol import fuzz

REQUESTS = 3000


def test_no_request_breaks_the_service() -> None:
    """Good, nearly good and garbage requests: each is answered, none with a fault or a foreign error."""
    report = fuzz(REQUESTS, seed=4)
    assert report.findings == []
    assert report.count == REQUESTS
    assert report.answers["200"] > REQUESTS / 10
    assert len(report.answers) > 15
