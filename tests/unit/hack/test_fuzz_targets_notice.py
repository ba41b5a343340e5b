"""A target that notices nothing guards nothing: faults are planted, and found with the seeds alone."""

from collections.abc import Callable
from typing import Any

import pytest

from datakeys.contract.errors import InvalidCiphertextError
from datakeys.keyservice.authz.key_policy import Verdict
from datakeys.sidecar.streaming_aead import InvalidCiphertextError as InvalidStreamError
from fuzz.target import Finding, load

Plant = Callable[[pytest.MonkeyPatch], None]


def _run_seeds(name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch, *more: bytes) -> None:
    target = load(name)
    seeds = [*target.seeds(), *more]
    plant(monkeypatch)
    try:
        for seed in seeds:
            target.run(seed)
    finally:
        target.close()


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


PLANTED: dict[str, tuple[str, str, Callable[..., Any], bytes, str]] = {
    "an exception behind admission": (
        "admission",
        "datakeys.webhook.admission.build_injection",
        _raise(KeyError("name")),
        b"",
        "an internal error",
    ),
    "an exception behind an operation": (
        "kms-operation",
        "datakeys.keyservice.operations.ciphertext_source.parse_blob",
        _raise(IndexError()),
        b"",
        "an internal error",
    ),
    "an error of another operation": (
        "kms-operation",
        "datakeys.keyservice.operations.aliases._check_quota",
        _raise(InvalidCiphertextError()),
        b"",
        "an error of another operation",
    ),
    "an unreadable policy that allows": (
        "key-policy",
        "fuzz.targets.key_policy.evaluate_policy",
        lambda *_: Verdict.PRINCIPAL,
        b"aws\n{",
        "an unreadable policy must deny",
    ),
    "a signature that isn't compared": (
        "signature-v4",
        "datakeys.keyservice.local.callers.check_signature",
        lambda *_: None,
        b"",
        "a forged signature was taken",
    ),
    "a message that isn't opened": (
        "streaming-ciphertext",
        "datakeys.sidecar.cipher_operations.MessageCipher.opens",
        _raise(InvalidStreamError()),
        b"",
        "another opens it",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Internal errors, errors that don't belong there, wrong decisions, and a difference to the reference."""
    name, place, planted, more, text = PLANTED[fault]
    if name == "signature-v4":
        more = _forge()
    with pytest.raises(Finding, match=text):
        _run_seeds(name, lambda patch: patch.setattr(place, planted), monkeypatch, more)


def _forge() -> bytes:
    """Return a signed request whose body was exchanged."""
    header, date, _ = next(iter(load("signature-v4").seeds())).split(b"\n")
    return b"\n".join([header, date, b'{"KeyId":"alias/other"}'])
