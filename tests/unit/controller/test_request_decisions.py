"""What a DataKeyRequest needs next, as a table."""

import base64
import copy
from dataclasses import replace
from typing import Any

import pytest

from controller_fakes import KEY_ARN, MATERIAL, NAMESPACE, NOW, build_request_body
from datakeys.contract.conditions import Condition
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.controller.decisions.data_key_versions import DataKeyVersion
from datakeys.controller.decisions.keys import KeyResolution, ResolvedKey, UnresolvedKey
from datakeys.controller.decisions.request_action import (
    Action,
    Adopt,
    CheckDryRun,
    DoNothing,
    Generate,
    Refuse,
    RestoreSecret,
    WriteReady,
    decide_request_action,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView, parse_request
from datakeys.controller.decisions.secret import SecretView, build_secret, parse_secret
from datakeys.controller.decisions.status import build_condition_status, build_ready_status, is_reported

KEY = ResolvedKey(KEY_ARN)
NO_KEY = UnresolvedKey("NotFoundException", "no key")
CONTEXT = {
    "tenant": "a",
    "datakeys.dev/namespace": NAMESPACE,
    "datakeys.dev/request": "orders",
    "datakeys.dev/service-account": "app",
}
ISSUED = EncryptedDataKey(b"\x01\x02", KEY_ARN, MATERIAL, CONTEXT)
FIRST = DataKeyVersion(1, "orders", ISSUED)
OTHER = EncryptedDataKey(b"\x03", KEY_ARN, MATERIAL, CONTEXT)
OTHER_CONTEXT = EncryptedDataKey(b"\x01\x02", KEY_ARN, MATERIAL, {**CONTEXT, "datakeys.dev/request": "x"})


def request(status: dict[str, Any] | None = None, **spec: Any) -> RequestView:
    """Return a request with a status."""
    body = build_request_body(encryptionContext={"tenant": "a"}, **spec)
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 1}
    if status is not None:
        body["status"] = status
    return parse_request(body)


def issued_request(**status: Any) -> RequestView:
    """Return a request whose status is complete, apart from what is given."""
    return request({**build_ready_status(request(), [FIRST], NOW), **status})


def secret(encrypted: EncryptedDataKey = ISSUED, **changes: Any) -> SecretView:
    """Return the Secret of the request, changed."""
    body = copy.deepcopy(build_secret(request(), DataKeyVersion(1, "orders", encrypted)))
    body["metadata"]["resourceVersion"] = "3"
    for name, value in changes.items():
        if name in body["metadata"]:
            body["metadata"][name] = value
        else:
            body[name] = value
    return parse_secret(body)


def owner(**changes: Any) -> list[dict[str, Any]]:
    """Return an ownerReference, changed."""
    return [{**build_secret(request(), FIRST)["metadata"]["ownerReferences"][0], **changes}]


DRY_RUN_DONE = build_condition_status(
    request(dryRun=True), Condition("DryRun", "True", "DryRunOperationException", ""), NOW
)

Case = tuple[RequestView, SecretView | None, KeyResolution, Action]
Refusal = tuple[RequestView, SecretView | None, KeyResolution, str, str]

CASES: dict[str, Case] = {
    "new: generate": (request(), None, KEY, Generate(KEY_ARN, 1)),
    "being deleted: nothing": (replace(request(), deleting=True), None, KEY, DoNothing()),
    "own Secret, no status: adopt": (request(), secret(), KEY, Adopt(FIRST)),
    "own Secret, no key needed: adopt": (request(), secret(), NO_KEY, Adopt(FIRST)),
    "all there: nothing": (issued_request(), secret(), KEY, DoNothing()),
    "all there but the condition: write it": (
        issued_request(conditions=[]),
        secret(),
        KEY,
        WriteReady(),
    ),
    "condition says False: write it": (
        issued_request(conditions=[{"type": "Ready", "status": "False", "reason": "Conflict"}]),
        secret(),
        KEY,
        WriteReady(),
    ),
    "True for another reason: write it": (
        issued_request(conditions=[{"type": "Ready", "status": "True", "reason": "Because"}]),
        secret(),
        KEY,
        WriteReady(),
    ),
    "no secretRef: write it": (
        issued_request(secretRef={}),
        secret(),
        KEY,
        WriteReady(),
    ),
    "old generation: write it": (
        issued_request(observedGeneration=0),
        secret(),
        KEY,
        WriteReady(),
    ),
    "Secret lost: restore": (issued_request(), None, NO_KEY, RestoreSecret(FIRST)),
    "dry run: ask": (request(dryRun=True), None, KEY, CheckDryRun(KEY_ARN)),
    "dry run, done: nothing": (request(DRY_RUN_DONE, dryRun=True), None, KEY, DoNothing()),
    "dry run, done for an older spec: ask": (
        request({**DRY_RUN_DONE, "observedGeneration": 0}, dryRun=True),
        None,
        KEY,
        CheckDryRun(KEY_ARN),
    ),
}

REFUSALS: dict[str, Refusal] = {
    "no key": (request(), None, NO_KEY, "NotFoundException", "no key"),
    "dry run without a key": (request(dryRun=True), None, NO_KEY, "NotFoundException", "no key"),
    "damaged status": (
        issued_request(ciphertextBlob="%"),
        secret(),
        KEY,
        "Conflict",
        "can't be read",
    ),
    "foreign Secret": (request(), secret(ownerReferences=[]), KEY, "Conflict", "somebody else"),
    "Secret of a former request": (
        request(),
        secret(ownerReferences=owner(uid="u0")),
        KEY,
        "Conflict",
        "somebody else",
    ),
    "owned, but not controlled": (
        request(),
        secret(ownerReferences=owner(controller=False)),
        KEY,
        "Conflict",
        "somebody else",
    ),
    "controlled by another kind": (
        request(),
        secret(ownerReferences=owner(kind="Pod")),
        KEY,
        "Conflict",
        "somebody else",
    ),
    "own Secret without a type": (request(), secret(type="Opaque"), KEY, "Conflict", "doesn't hold"),
    "own Secret with garbage": (request(), secret(data={"a": "b"}), KEY, "Conflict", "doesn't hold"),
    "own Secret with another context": (request(), secret(OTHER_CONTEXT), KEY, "Conflict", "doesn't hold"),
    "own Secret under no key": (
        request(),
        secret(ISSUED._replace(key_arn="x")),
        KEY,
        "Conflict",
        "doesn't hold",
    ),
    "status and a foreign Secret": (
        issued_request(),
        secret(ownerReferences=[]),
        KEY,
        "Conflict",
        "somebody else",
    ),
    "status and another ciphertext": (issued_request(), secret(OTHER), KEY, "Conflict", "another data key"),
    "status and no data at all": (issued_request(), secret(data=None), KEY, "Conflict", "another data key"),
}


@pytest.mark.parametrize("case", CASES)
def test_next_step(case: str) -> None:
    """Each state of request, Secret and key has one next step."""
    view, found, key, expected = CASES[case]
    assert decide_request_action(view, {found.name: found} if found else {}, key) == expected


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    """A state in which nothing may be done is named by its reason and says what to do."""
    view, found, key, reason, text = REFUSALS[case]
    action = decide_request_action(view, {found.name: found} if found else {}, key)
    assert isinstance(action, Refuse)
    assert action.reason == reason
    assert text in action.message


@pytest.mark.parametrize(
    ("status", "damaged"),
    [
        ({}, False),
        ({"ciphertextBlob": ""}, False),
        ({"ciphertextBlob": "AQ=="}, True),
        ({"ciphertextBlob": "AQ==", "keyId": KEY_ARN}, True),
        ({"ciphertextBlob": "!", "keyId": KEY_ARN, "keyMaterialId": MATERIAL}, True),
        ({"ciphertextBlob": "=", "keyId": KEY_ARN, "keyMaterialId": MATERIAL}, True),
    ],
)
def test_damaged_status_is_recognised(status: dict[str, Any], damaged: bool) -> None:
    """A status with a ciphertext that can't be used is damaged, never taken for an empty one."""
    view = request(status)
    assert view.issued is None
    assert view.damaged is damaged


def test_context_with_a_reserved_pair_is_damaged() -> None:
    """A reserved pair that slipped past the schema makes an issued request damaged; nothing crashes."""
    body = build_request_body(encryptionContext={"datakeys.dev/x": "y"})
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
    body["status"] = {"ciphertextBlob": "AQ==", "keyId": KEY_ARN, "keyMaterialId": MATERIAL}
    assert parse_request(body).damaged


def test_view_reads_every_member() -> None:
    """The view has the spec's members, with the defaults that the schema leaves to the controller."""
    view = request(
        keyRef={"name": "main"},
        numberOfBytes=24,
        keySpec=None,
        grantTokens=["t"],
        secretName="other",
        dryRun=True,
    )
    assert view.key == ObjectKey("shop", "orders")
    assert str(view.key) == "shop/orders"
    assert (view.key_id, view.key_ref, view.key_spec, view.number_of_bytes) == (None, "main", None, 24)
    assert (view.grant_tokens, view.secret_name, view.dry_run) == (("t",), "other", True)
    assert view.outcome_condition == "DryRun"
    assert request().secret_name == "orders"
    assert request().bound_context == CONTEXT


def test_secret_is_the_same_for_the_same_arguments() -> None:
    """Building a Secret twice gives the same object, so a restored Secret is identical."""
    built = build_secret(request(), FIRST)
    assert built == build_secret(request(), FIRST)
    assert built["immutable"] is True
    assert built["type"] == "datakeys.dev/encrypted-data-key"
    assert built["metadata"]["labels"]["datakeys.dev/request"] == "orders"
    (reference,) = built["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == ("u1", True)
    assert base64.b64decode(built["data"]["ciphertextBlob"]) == b"\x01\x02"


def test_reported_condition_needs_no_write() -> None:
    """A condition counts as reported only with the same text and the same generation."""
    condition = Condition("Ready", "False", "DisabledException", "off")
    view = request(build_condition_status(request(), condition, NOW))
    assert is_reported(view, condition)
    assert not is_reported(view, replace(condition, message="on"))
    assert not is_reported(replace(view, generation=2), condition)
