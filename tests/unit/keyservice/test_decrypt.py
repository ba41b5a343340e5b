"""Decrypt: for the bound pod and for grantees; everything else learns nothing."""

import base64
import os
from typing import Any
from uuid import UUID

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    IncorrectKeyError,
    InvalidCiphertextError,
    KeyDisabledError,
    KeyStateError,
    KmsError,
    NotFoundError,
    SerializationError,
    ValidationError,
)
from datakeys.keyservice.authz.principal import Principal
from datakeys.keyservice.material.backing_key import BackingKey
from datakeys.keyservice.material.encryption import EncryptionKey
from keyservice_rig import CONTROLLER, Rig, account, b64, bound, pod


def decrypt(rig: Rig, blob: str, *, by: Principal | None = None, **members: Any) -> dict[str, Any]:
    body = {"CiphertextBlob": blob, "EncryptionContext": bound(), **members}
    return rig.call("Decrypt", body, by=by or pod())


def changed(blob: str, position: int) -> str:
    raw = bytearray(base64.b64decode(blob))
    raw[position] ^= 1
    return b64(bytes(raw))


def test_bound_pod_gets_its_key(rig: Rig) -> None:
    """The pod whose namespace and ServiceAccount the context names gets the plaintext."""
    arn = rig.create_key()
    answer = decrypt(rig, rig.data_key(arn))
    assert set(answer) == {"KeyId", "Plaintext", "EncryptionAlgorithm", "KeyMaterialId"}
    assert answer["KeyId"] == arn
    assert len(base64.b64decode(answer["Plaintext"])) == 32


@pytest.mark.parametrize(
    "by",
    [
        pod(service_account="other"),
        pod(namespace="team-b"),
        account(),
        CONTROLLER,
    ],
    ids=["other ServiceAccount", "other namespace", "no pod", "controller"],
)
def test_nobody_else_gets_it(rig: Rig, by: Principal) -> None:
    """Another pod, a token bound to no pod, and the controller are denied."""
    with pytest.raises(AccessDeniedError):
        decrypt(rig, rig.data_key(rig.create_key()), by=by)


def test_pod_can_not_name_itself_in_a_foreign_context(rig: Rig) -> None:
    """Writing its own names into the context doesn't open what was bound to another."""
    blob = rig.data_key(rig.create_key())
    other = pod(service_account="other")
    with pytest.raises(InvalidCiphertextError):
        decrypt(rig, blob, by=other, EncryptionContext=bound(service_account="other"))


def test_no_grant_opens_foreign_bound_ciphertext(rig: Rig) -> None:
    """A grant can't override the binding."""
    arn = rig.create_key()
    rig.grant(arn, "Decrypt", to="other")
    for by in (pod(service_account="other"), account(service_account="other")):
        with pytest.raises(AccessDeniedError):
            decrypt(rig, rig.data_key(arn), by=by)


def test_pod_needs_a_key_of_its_own_namespace(rig: Rig) -> None:
    """A matching context under another namespace's key doesn't help."""
    key = rig.create_key(account="team-b")
    rig.call(
        "CreateGrant",
        {
            "KeyId": key,
            "GranteePrincipal": "system:serviceaccount:team-a:maker",
            "Operations": ["Encrypt"],
        },
        account="team-b",
    )
    made = rig.call("Encrypt", {"KeyId": key, "Plaintext": b64(b"x")}, by=account(service_account="maker"))
    with pytest.raises(AccessDeniedError):
        decrypt(rig, made["CiphertextBlob"])


@pytest.mark.parametrize(
    "context",
    [
        {},
        bound(extra="x"),
        {**bound(), "datakeys.dev/request": "other"},
        {key.upper() if key == "a" else key: value for key, value in bound().items()} | {"a": ""},
    ],
)
def test_any_other_context_fails_alike(rig: Rig, context: dict[str, str]) -> None:
    """More, fewer or other pairs: refused, with no hint on what was wrong."""
    with pytest.raises((InvalidCiphertextError, AccessDeniedError)) as caught:
        decrypt(rig, rig.data_key(rig.create_key()), EncryptionContext=context)
    if isinstance(caught.value, InvalidCiphertextError):
        assert caught.value.message == ""


def test_order_of_pairs_has_no_meaning(rig: Rig) -> None:
    """The same pairs in another order decrypt."""
    blob = rig.data_key(rig.create_key(), bound(b="2", a="1"))
    assert decrypt(rig, blob, EncryptionContext=dict(reversed(bound(b="2", a="1").items())))["Plaintext"]


@pytest.mark.parametrize("position", [0, *range(17, 109)])
def test_any_changed_byte_behind_the_key_id(rig: Rig, position: int) -> None:
    """Version, material id, nonce, IV, ciphertext or tag: one error with no text."""
    blob = rig.data_key(rig.create_key(), KeySpec="AES_128")
    with pytest.raises(InvalidCiphertextError) as caught:
        decrypt(rig, changed(blob, position))
    assert caught.value.message == ""


@pytest.mark.parametrize("byte", range(0, 113, 7))
@pytest.mark.parametrize("named", [True, False])
def test_any_damage_is_one_same_error(rig: Rig, byte: int, named: bool) -> None:
    """A changed header answers like a changed body, with or without a KeyId: one error with no text."""
    arn = rig.create_key()
    blob = changed(rig.data_key(arn), byte)
    members: dict[str, Any] = {"KeyId": arn} if named else {}
    with pytest.raises(InvalidCiphertextError) as caught:
        decrypt(rig, blob, **members)
    assert caught.value.message == ""


def test_whole_blob_of_an_unknown_key(rig: Rig) -> None:
    """With no KeyId the caller is denied; with one the key is incorrect."""
    arn = rig.create_key()
    stranger = EncryptionKey(str(UUID(int=7)), "ab" * 32, BackingKey(bytes(32)))
    blob = b64(stranger.encrypt(b"x", b"", os.urandom))
    with pytest.raises(AccessDeniedError):
        decrypt(rig, blob)
    with pytest.raises(IncorrectKeyError):
        decrypt(rig, blob, KeyId=arn)


@pytest.mark.parametrize("blob", ["AA==", b64(b"\x01" * 93), b64(b"\x09" * 200)])
def test_malformed_blobs(rig: Rig, blob: str) -> None:
    """What isn't a blob at all is the same error."""
    with pytest.raises(InvalidCiphertextError) as caught:
        decrypt(rig, blob)
    assert caught.value.message == ""


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"CiphertextBlob": None}, ValidationError),
        ({"CiphertextBlob": ""}, ValidationError),
        ({"CiphertextBlob": b64(bytes(6145))}, ValidationError),
        ({"CiphertextBlob": "%"}, SerializationError),
        ({"CiphertextBlob": "\u00e4"}, SerializationError),
        ({"KeyId": ""}, ValidationError),
        ({"EncryptionAlgorithm": "ROT13"}, ValidationError),
        ({"Recipient": {"AttestationDocument": "AA=="}}, ValidationError),
        ({"DryRun": True}, DryRunOperationError),
        ({"EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, ValidationError),
        ({"KeyId": "alias/none"}, NotFoundError),
    ],
)
def test_errors(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Each member's fault has its error."""
    with pytest.raises(error):
        decrypt(rig, rig.data_key(rig.create_key()), **members)


def test_key_id_of_another_key(rig: Rig) -> None:
    """KeyId and blob must name the same key; this is told before rights are checked."""
    blob = rig.data_key(rig.create_key())
    with pytest.raises(IncorrectKeyError):
        decrypt(rig, blob, KeyId=rig.create_key())


@pytest.mark.parametrize("operation", ["DisableKey", "ScheduleKeyDeletion"])
def test_state_is_told_before_the_tag(rig: Rig, operation: str) -> None:
    """A key out of use reports its state even for a corrupt body with a legible header."""
    arn = rig.create_key()
    blob = rig.data_key(arn)
    rig.call(operation, {"KeyId": arn})
    with pytest.raises((KeyDisabledError, KeyStateError)):
        decrypt(rig, changed(blob, 100))


def test_tag_is_not_told_to_the_unauthorised(rig: Rig) -> None:
    """Who has no rights gets the same error for a right and a wrong tag."""
    blob = rig.data_key(rig.create_key())
    for candidate in (blob, changed(blob, 100)):
        with pytest.raises(AccessDeniedError):
            decrypt(rig, candidate, by=pod(service_account="other"))


def test_key_is_usable_again_after_its_deletion_was_cancelled(rig: Rig) -> None:
    """Disable, enable, schedule and cancel leave the material as it was."""
    arn = rig.create_key()
    blob = rig.data_key(arn)
    before = decrypt(rig, blob)["Plaintext"]
    for operation in ("DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "EnableKey"):
        rig.call(operation, {"KeyId": arn})
    assert decrypt(rig, blob)["Plaintext"] == before


def test_due_key_is_gone_before_it_is_destroyed(rig: Rig) -> None:
    """From the deletion date on the key opens nothing, even if the task hasn't run."""
    arn = rig.create_key()
    blob = rig.data_key(arn)
    rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 7})
    rig.clock.now += 7 * 86400
    with pytest.raises(AccessDeniedError):
        decrypt(rig, blob)
    with pytest.raises(NotFoundError):
        rig.call("CancelKeyDeletion", {"KeyId": arn})
