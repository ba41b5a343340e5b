"""GetParametersForImport, ImportKeyMaterial, DeleteImportedKeyMaterial, and expiry."""

import base64
import hmac
import json
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import (
    AccessDeniedError,
    ExpiredImportTokenError,
    IncorrectKeyError,
    IncorrectKeyMaterialError,
    InvalidCiphertextError,
    InvalidImportTokenError,
    KeyDisabledError,
    KeyStateError,
    NotFoundError,
    SerializationError,
    UnsupportedOperationError,
    ValidationError,
)
from keyservice_rig import START, Rig, account, b64, bound, pod
from material_rig import (
    DAY,
    FOREVER,
    Replica,
    build_import,
    create_external_key,
    decrypt,
    fetch_parameters,
    import_material,
    key_state,
    make_task,
    rotations,
    set_state,
)

ONE, TWO = b"1" * 32, b"2" * 32
NEW = {"ImportType": "NEW_KEY_MATERIAL"}
EXISTING = {"ImportType": "EXISTING_KEY_MATERIAL"}
IMPORT_OPERATIONS = ("GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial")


def metadata(rig: Rig, arn: str) -> dict[str, Any]:
    return dict(rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"])


def delete(rig: Rig, arn: str, **members: str) -> dict[str, Any]:
    return rig.call("DeleteImportedKeyMaterial", {"KeyId": arn, **members})


def body_of(operation: str, arn: str) -> dict[str, Any]:
    """Return a body that passes validation."""
    if operation == "GetParametersForImport":
        return {"KeyId": arn, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    if operation == "ImportKeyMaterial":
        return {"KeyId": arn, "ImportToken": b64(b"t"), "EncryptedKeyMaterial": b64(b"m"), **FOREVER}
    return {"KeyId": arn}


class TestParameters:
    """GetParametersForImport."""

    def test_answer(self, rig: Rig) -> None:
        """Key ARN, a public key, a token of at most 6144 bytes, valid for 24 hours."""
        arn = create_external_key(rig)
        answer = fetch_parameters(rig, arn)
        assert set(answer) == {"KeyId", "PublicKey", "ImportToken", "ParametersValidTo"}
        assert answer["KeyId"] == arn
        assert answer["ParametersValidTo"] == START + DAY
        assert len(base64.b64decode(answer["ImportToken"])) <= 6144
        assert len(base64.b64decode(answer["PublicKey"])) <= 4096

    @pytest.mark.parametrize(
        ("algorithm", "spec"),
        [
            ("RSAES_PKCS1_V1_5", "RSA_2048"),
            ("SM2PKE", "SM2"),
            ("RSAES_OAEP_SHA_256", "SM2"),
            ("SM2PKE", "RSA_2048"),
        ],
    )
    def test_unsupported_wrapping(self, rig: Rig, algorithm: str, spec: str) -> None:
        """What the API names but the service doesn't offer."""
        with pytest.raises(UnsupportedOperationError):
            fetch_parameters(rig, create_external_key(rig), algorithm, spec)

    @pytest.mark.parametrize(
        ("members", "name"),
        [
            ({"WrappingAlgorithm": None}, "wrappingAlgorithm"),
            ({"WrappingKeySpec": None}, "wrappingKeySpec"),
            ({"WrappingAlgorithm": "ROT13"}, "wrappingAlgorithm"),
            ({"WrappingKeySpec": "RSA_1024"}, "wrappingKeySpec"),
            ({"KeyId": ""}, "keyId"),
        ],
    )
    def test_bad_members(self, rig: Rig, members: dict[str, Any], name: str) -> None:
        """The message names the member."""
        body = body_of("GetParametersForImport", create_external_key(rig))
        with pytest.raises(ValidationError, match=name):
            rig.call("GetParametersForImport", {**body, **members})


class TestImport:
    """ImportKeyMaterial of the first material."""

    def test_makes_the_key_usable(self, rig: Rig) -> None:
        """PendingImport becomes Enabled, and data keys can be made and opened."""
        arn = create_external_key(rig)
        assert key_state(rig, arn) == "PendingImport"
        assert not metadata(rig, arn)["Enabled"]
        answer = rig.call("ImportKeyMaterial", build_import(arn, fetch_parameters(rig, arn), ONE))
        assert answer["KeyId"] == arn
        facts = metadata(rig, arn)
        assert facts["KeyState"] == "Enabled"
        assert facts["Origin"] == "EXTERNAL"
        assert facts["CurrentKeyMaterialId"] == answer["KeyMaterialId"]
        assert facts["ExpirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
        assert "ValidTo" not in facts
        assert decrypt(rig, rig.data_key(arn))["KeyMaterialId"] == answer["KeyMaterialId"]

    @pytest.mark.parametrize(
        "algorithm",
        ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"],
    )
    def test_every_algorithm(self, rig: Rig, algorithm: str) -> None:
        """Each way of wrapping brings the same material."""
        arn = create_external_key(rig)
        first = import_material(rig, arn, ONE)
        body = build_import(arn, fetch_parameters(rig, arn, algorithm), ONE, algorithm)
        assert rig.call("ImportKeyMaterial", body)["KeyMaterialId"] == first

    def test_the_key_id_is_enough(self, rig: Rig) -> None:
        """A key id works in place of the ARN; the answer has the ARN."""
        arn = create_external_key(rig)
        body = build_import(arn, fetch_parameters(rig, arn), ONE)
        assert rig.call("ImportKeyMaterial", {**body, "KeyId": arn.rpartition("/")[2]})["KeyId"] == arn

    def test_the_same_bytes_in_two_keys(self, rig: Rig) -> None:
        """Two keys with the same bytes have other ids and fingerprints, and don't open each other's blobs."""
        arns = [create_external_key(rig) for _ in range(2)]
        ids = {import_material(rig, arn, ONE) for arn in arns}
        assert len(ids) == 2
        records = [rig.store.find_key(arn.rpartition("/")[2]) for arn in arns]
        assert len({record.materials[0].fingerprint for record in records if record}) == 2
        blob = rig.data_key(arns[0])
        body = {"CiphertextBlob": blob, "EncryptionContext": bound(), "KeyId": arns[1]}
        with pytest.raises(IncorrectKeyError):
            rig.call("Decrypt", body, by=pod())

    def test_a_disabled_key_stays_disabled(self, rig: Rig) -> None:
        """Bringing back what is there doesn't enable a key."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        rig.call("DisableKey", {"KeyId": arn})
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Disabled"

    def test_a_token_may_be_used_again(self, rig: Rig) -> None:
        """A repeated call (a client's retry) succeeds and changes nothing but the expiry."""
        arn = create_external_key(rig)
        body = build_import(arn, fetch_parameters(rig, arn), ONE)
        assert rig.call("ImportKeyMaterial", body) == rig.call("ImportKeyMaterial", body)
        assert len(rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")) == 1


class TestTokenErrors:
    """ImportToken and EncryptedKeyMaterial that don't fit."""

    def test_token_of_another_key(self, rig: Rig) -> None:
        """A token is for the key that it was made for."""
        one, two = create_external_key(rig), create_external_key(rig)
        body = build_import(one, fetch_parameters(rig, one), ONE)
        with pytest.raises(InvalidImportTokenError):
            rig.call("ImportKeyMaterial", {**body, "KeyId": two})
        assert key_state(rig, two) == "PendingImport"

    def test_token_is_no_token(self, rig: Rig) -> None:
        """Any bytes are refused as a token."""
        arn = create_external_key(rig)
        for token in (b"x", bytes(100), bytes(6144)):
            body = {**body_of("ImportKeyMaterial", arn), "ImportToken": b64(token)}
            with pytest.raises(InvalidImportTokenError):
                rig.call("ImportKeyMaterial", body)

    @pytest.mark.parametrize(("seconds", "works"), [(DAY - 1, True), (DAY, False), (2 * DAY, False)])
    def test_token_expires(self, rig: Rig, seconds: float, *, works: bool) -> None:
        """After 24 hours new parameters are needed."""
        arn = create_external_key(rig)
        body = build_import(arn, fetch_parameters(rig, arn), ONE)
        rig.clock.now += seconds
        if works:
            rig.call("ImportKeyMaterial", body)
            return
        with pytest.raises(ExpiredImportTokenError):
            rig.call("ImportKeyMaterial", body)

    def test_public_key_of_other_parameters(self, rig: Rig) -> None:
        """Public key and token belong together."""
        arn = create_external_key(rig)
        one, two = fetch_parameters(rig, arn), fetch_parameters(rig, arn)
        body = build_import(arn, {**one, "ImportToken": two["ImportToken"]}, ONE)
        with pytest.raises(InvalidCiphertextError):
            rig.call("ImportKeyMaterial", body)
        assert key_state(rig, arn) == "PendingImport"

    @pytest.mark.parametrize("length", [1, 16, 31, 33, 64])
    def test_material_of_another_length(self, rig: Rig, length: int) -> None:
        """A symmetric key has 32 bytes."""
        arn = create_external_key(rig)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, b"x" * length)
        assert key_state(rig, arn) == "PendingImport"

    @pytest.mark.parametrize(
        ("members", "error"),
        [
            ({"ImportToken": None}, ValidationError),
            ({"ImportToken": ""}, ValidationError),
            ({"ImportToken": b64(bytes(6145))}, ValidationError),
            ({"ImportToken": "%"}, SerializationError),
            ({"ImportToken": 1}, SerializationError),
            ({"EncryptedKeyMaterial": None}, ValidationError),
            ({"EncryptedKeyMaterial": b64(bytes(6145))}, ValidationError),
            ({"ExpirationModel": "NEVER"}, ValidationError),
            ({"ImportType": "OLD"}, ValidationError),
            ({"KeyMaterialId": "ab"}, ValidationError),
            ({"KeyMaterialId": "G" * 64}, ValidationError),
            ({"KeyMaterialId": "a" * 64, "ImportType": "NEW_KEY_MATERIAL"}, ValidationError),
            ({"KeyMaterialId": "a" * 64}, ValidationError),
            ({"KeyMaterialDescription": "x" * 257}, ValidationError),
            ({"KeyMaterialDescription": "<b>"}, ValidationError),
            ({"KeyMaterialDescription": "\u00a0"}, ValidationError),
        ],
    )
    def test_bad_members(self, rig: Rig, members: dict[str, Any], error: type[Exception]) -> None:
        """Bad members give their error, and nothing is imported."""
        arn = create_external_key(rig)
        body = build_import(arn, fetch_parameters(rig, arn), ONE)
        with pytest.raises(error):
            rig.call("ImportKeyMaterial", {**body, **members})
        assert key_state(rig, arn) == "PendingImport"


class TestExpirationModel:
    """ExpirationModel and ValidTo."""

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"ExpirationModel": "KEY_MATERIAL_EXPIRES"},
            {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE", "ValidTo": START + DAY},
            {"ValidTo": START},
            {"ValidTo": START - 1},
            {"ValidTo": 0},
            {"ValidTo": -1},
            {"ValidTo": START + 365 * DAY + 1},
        ],
    )
    def test_refused(self, rig: Rig, members: dict[str, Any]) -> None:
        """The default model needs ValidTo, in the future and at most 365 days away; the other forbids it."""
        arn = create_external_key(rig)
        body = build_import(arn, fetch_parameters(rig, arn), ONE, ValidTo=1)
        del body["ValidTo"]
        with pytest.raises(ValidationError, match="ValidTo"):
            rig.call("ImportKeyMaterial", {**body, **members})

    @pytest.mark.parametrize("value", ["2027-01-01", True, [1], 10**400, 1e300, -1e300])
    def test_no_timestamp(self, rig: Rig, value: object) -> None:
        """A timestamp is a number within bounds."""
        body = body_of("ImportKeyMaterial", create_external_key(rig))
        with pytest.raises(SerializationError, match="ValidTo"):
            rig.call("ImportKeyMaterial", {**body, "ValidTo": value})

    @pytest.mark.parametrize("valid_to", [START + 0.5, START + DAY, int(START) + 365 * DAY])
    def test_shown_in_metadata(self, rig: Rig, valid_to: float) -> None:
        """DescribeKey shows model and date."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, ValidTo=valid_to)
        facts = metadata(rig, arn)
        assert (facts["ExpirationModel"], facts["ValidTo"]) == ("KEY_MATERIAL_EXPIRES", valid_to)

    def test_importing_again_changes_it(self, rig: Rig) -> None:
        """The same bytes with another date, or without one."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, ValidTo=START + DAY)
        import_material(rig, arn, ONE, ValidTo=START + 2 * DAY)
        assert metadata(rig, arn)["ValidTo"] == START + 2 * DAY
        import_material(rig, arn, ONE)
        assert metadata(rig, arn)["ExpirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
        rig.clock.now += 3 * DAY
        assert key_state(rig, arn) == "Enabled"

    def test_the_earliest_date_is_shown(self, rig: Rig) -> None:
        """Of several materials the first to expire counts; one that waits for its rotation doesn't."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, ValidTo=START + 9 * DAY)
        import_material(rig, arn, TWO, ValidTo=START + DAY, **NEW)
        assert metadata(rig, arn)["ValidTo"] == START + 9 * DAY
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        assert metadata(rig, arn)["ValidTo"] == START + DAY

    def test_no_other_key_has_these_members(self, rig: Rig) -> None:
        """A key whose material the service made shows neither."""
        assert not {"ValidTo", "ExpirationModel"} & set(metadata(rig, rig.create_key()))


class TestImportType:
    """NEW_KEY_MATERIAL, EXISTING_KEY_MATERIAL, KeyMaterialId, KeyMaterialDescription."""

    def test_other_bytes_do_not_replace(self, rig: Rig) -> None:
        """By default a later import brings back; other bytes are incorrect, and nothing changes."""
        arn = create_external_key(rig)
        first = import_material(rig, arn, ONE)
        for members in ({}, EXISTING, {"KeyMaterialId": first}):
            with pytest.raises(IncorrectKeyMaterialError):
                import_material(rig, arn, TWO, **members)
        delete(rig, arn)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, TWO)
        assert key_state(rig, arn) == "PendingImport"

    def test_existing_before_the_first(self, rig: Rig) -> None:
        """Nothing can come back before something was there."""
        arn = create_external_key(rig)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, ONE, **EXISTING)

    def test_new_that_is_known(self, rig: Rig) -> None:
        """Known bytes aren't new, also after they were deleted."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, **NEW)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, ONE, **NEW)
        delete(rig, arn)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, ONE, **NEW)

    def test_one_waits_at_a_time(self, rig: Rig) -> None:
        """A second new material is refused until the first is rotated to, or deleted."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        waiting = import_material(rig, arn, TWO, **NEW)
        with pytest.raises(KeyStateError, match="PENDING_ROTATION"):
            import_material(rig, arn, b"3" * 32, **NEW)
        assert delete(rig, arn, KeyMaterialId=waiting)["KeyMaterialId"] == waiting
        assert key_state(rig, arn) == "Enabled"
        assert len(rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")) == 1
        import_material(rig, arn, b"3" * 32, **NEW)

    def test_key_material_id(self, rig: Rig) -> None:
        """With an id, bytes and id must belong together."""
        arn = create_external_key(rig)
        one = import_material(rig, arn, ONE)
        two = import_material(rig, arn, TWO, **NEW)
        assert import_material(rig, arn, TWO, KeyMaterialId=two) == two
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, TWO, KeyMaterialId=one)
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, ONE, KeyMaterialId="0" * 64)

    def test_description_is_retained(self, rig: Rig) -> None:
        """Without a new description the last one stays, also over a deletion."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, KeyMaterialDescription="from the vault: 1/2")
        delete(rig, arn)
        import_material(rig, arn, ONE)
        entry = rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")[0]
        assert entry["KeyMaterialDescription"] == "from the vault: 1/2"
        import_material(rig, arn, ONE, KeyMaterialDescription="other")
        entry = rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")[0]
        assert entry["KeyMaterialDescription"] == "other"

    def test_all_materials_are_needed(self, rig: Rig) -> None:
        """A rotated key is usable only with all its materials; each comes back by its own bytes."""
        arn = create_external_key(rig)
        one = import_material(rig, arn, ONE)
        old = rig.data_key(arn)
        import_material(rig, arn, TWO, **NEW)
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        delete(rig, arn)
        delete(rig, arn, KeyMaterialId=one)
        import_material(rig, arn, TWO)
        assert key_state(rig, arn) == "PendingImport"
        with pytest.raises(KeyStateError, match="pending import"):
            rig.data_key(arn)
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Enabled"
        assert decrypt(rig, old)["KeyMaterialId"] == one


class TestDelete:
    """DeleteImportedKeyMaterial."""

    @pytest.mark.parametrize("disabled", [False, True])
    def test_pending_import_until_the_same_bytes_come_back(self, rig: Rig, *, disabled: bool) -> None:
        """Enabled or disabled, the key waits then; old ciphertext opens again afterwards."""
        arn = create_external_key(rig)
        first = import_material(rig, arn, ONE)
        blob = rig.data_key(arn)
        if disabled:
            rig.call("DisableKey", {"KeyId": arn})
        assert delete(rig, arn) == {"KeyId": arn, "KeyMaterialId": first}
        assert key_state(rig, arn) == "PendingImport"
        assert metadata(rig, arn)["CurrentKeyMaterialId"] == first
        assert "ExpirationModel" not in metadata(rig, arn)
        with pytest.raises(KeyStateError, match="pending import"):
            decrypt(rig, blob)
        assert import_material(rig, arn, ONE) == first
        assert decrypt(rig, blob)["KeyMaterialId"] == first

    def test_repeated_and_without_material(self, rig: Rig) -> None:
        """No effect before the first import and after a deletion."""
        arn = create_external_key(rig)
        assert delete(rig, arn) == {"KeyId": arn}
        first = import_material(rig, arn, ONE)
        for _ in range(2):
            assert delete(rig, arn) == {"KeyId": arn, "KeyMaterialId": first}

    def test_unknown_material(self, rig: Rig) -> None:
        """An id that the key doesn't have."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        with pytest.raises(NotFoundError):
            delete(rig, arn, KeyMaterialId="0" * 64)
        with pytest.raises(ValidationError, match="keyMaterialId"):
            delete(rig, arn, KeyMaterialId="0")
        assert key_state(rig, arn) == "Enabled"

    def test_nothing_is_left(self, rig: Rig) -> None:
        """Neither the store nor memory keeps the material."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        rig.data_key(arn)
        delete(rig, arn)
        record = rig.store.find_key(arn.rpartition("/")[2])
        assert record is not None
        assert [material.sealed for material in record.materials] == [b""]
        assert not rig.keyring._opened

    def test_pending_deletion_stays(self, rig: Rig) -> None:
        """The state stays; when the deletion is cancelled, the key lacks its material."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        rig.call("ScheduleKeyDeletion", {"KeyId": arn})
        delete(rig, arn)
        assert key_state(rig, arn) == "PendingDeletion"
        rig.call("CancelKeyDeletion", {"KeyId": arn})
        assert key_state(rig, arn) == "PendingImport"

    def test_cancelling_with_material(self, rig: Rig) -> None:
        """With its material a key is Disabled after the cancellation."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        rig.call("ScheduleKeyDeletion", {"KeyId": arn})
        rig.call("CancelKeyDeletion", {"KeyId": arn})
        assert key_state(rig, arn) == "Disabled"


class TestExpiry:
    """Material is gone at ValidTo, whether or not the task has run."""

    @pytest.fixture
    def arn(self, rig: Rig) -> str:
        """Return a key whose material expires after a day."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, ValidTo=START + DAY)
        return arn

    def test_exactly_at_valid_to(self, rig: Rig, arn: str) -> None:
        """A moment before everything works, at the date nothing does."""
        blob = rig.data_key(arn)
        rig.clock.now = START + DAY - 0.001
        decrypt(rig, blob)
        assert key_state(rig, arn) == "Enabled"
        rig.clock.now = START + DAY
        assert key_state(rig, arn) == "PendingImport"
        with pytest.raises(KeyStateError, match="pending import"):
            decrypt(rig, blob)
        with pytest.raises(KeyStateError, match="pending import"):
            rig.data_key(arn)

    def test_writes_see_it_too(self, rig: Rig, arn: str) -> None:
        """EnableKey, DisableKey and RotateKeyOnDemand are refused before the task has run."""
        rig.clock.now = START + DAY
        for operation in ("EnableKey", "DisableKey", "RotateKeyOnDemand"):
            with pytest.raises(KeyStateError, match="pending import"):
                rig.call(operation, {"KeyId": arn})

    def test_a_disabled_key_expires(self, rig: Rig, arn: str) -> None:
        """A disabled key becomes PendingImport as well."""
        rig.call("DisableKey", {"KeyId": arn})
        rig.clock.now = START + DAY
        make_task(rig).perform_due()
        assert key_state(rig, arn) == "PendingImport"

    def test_the_task_writes_it(self, rig: Rig, arn: str, caplog: pytest.LogCaptureFixture) -> None:
        """The sealed bytes leave the store and memory; one log line, one count; the same bytes come back."""
        blob, task = rig.data_key(arn), make_task(rig)
        rig.clock.now = START + DAY - 1
        assert task.perform_due() == 0
        assert task._sleep_seconds() == 1
        rig.clock.now += 1
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                assert task.perform_due() == 0
        record = rig.store.find_key(arn.rpartition("/")[2])
        assert record is not None
        assert (record.state, record.materials[0].sealed) == ("PendingImport", b"")
        assert not rig.keyring._opened
        assert task.counts == {"destruction": 0, "expiry": 1, "rotation": 0}
        lines = [it for it in caplog.records if it.getMessage() == "key material expired"]
        assert [vars(line)["key_id"] for line in lines] == [arn.rpartition("/")[2]]
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Enabled"
        decrypt(rig, blob)

    def test_import_of_expired_material_before_the_task(self, rig: Rig, arn: str) -> None:
        """The same bytes may come back at once; the task then leaves them alone."""
        rig.clock.now = START + 2 * DAY
        import_material(rig, arn, ONE)
        make_task(rig).perform_due()
        assert key_state(rig, arn) == "Enabled"

    def test_pending_deletion_stays(self, rig: Rig, arn: str) -> None:
        """Material expires during the waiting period; a cancelled deletion then shows that it is gone."""
        rig.call("ScheduleKeyDeletion", {"KeyId": arn})
        rig.clock.now = START + 2 * DAY
        assert key_state(rig, arn) == "PendingDeletion"
        rig.call("CancelKeyDeletion", {"KeyId": arn})
        assert key_state(rig, arn) == "PendingImport"

    def test_one_of_several(self, rig: Rig) -> None:
        """Any needed material that expires makes the key PendingImport."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE, ValidTo=START + DAY)
        import_material(rig, arn, TWO, **NEW)
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        rig.clock.now = START + DAY
        assert key_state(rig, arn) == "PendingImport"
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Enabled"

    def test_material_that_waits_goes_quietly(self, rig: Rig) -> None:
        """Material that waits for its rotation isn't part of the key yet: the key stays usable."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        import_material(rig, arn, TWO, ValidTo=START + DAY, **NEW)
        rig.clock.now = START + DAY
        assert key_state(rig, arn) == "Enabled"
        rig.data_key(arn)
        with pytest.raises(KeyStateError, match="PENDING_ROTATION"):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
        make_task(rig).perform_due()
        assert len(rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL")) == 1
        import_material(rig, arn, TWO, **NEW)


class TestOtherKeySpecs:
    """Asymmetric and HMAC keys take one material, and the same again."""

    def test_hmac_key(self, rig: Rig) -> None:
        """It works after the import, not after a deletion, and again when the same bytes are back."""
        arn = create_external_key(rig, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Enabled"
        body = build_import(arn, fetch_parameters(rig, arn), ONE)
        assert rig.call("ImportKeyMaterial", body) == {"KeyId": arn}
        assert delete(rig, arn) == {"KeyId": arn}
        assert key_state(rig, arn) == "PendingImport"
        with pytest.raises(IncorrectKeyMaterialError):
            import_material(rig, arn, TWO)
        import_material(rig, arn, ONE)
        assert key_state(rig, arn) == "Enabled"
        record = rig.store.find_key(arn.rpartition("/")[2])
        assert record is not None
        assert rig.keyring.open_mac_key(record).compute(b"x") == hmac.digest(ONE, b"x", "sha256")

    def test_private_key(self, rig: Rig) -> None:
        """An imported private key is the customer's own: its signature verifies with their public key."""
        key = ec.generate_private_key(ec.SECP256R1())
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        arn = create_external_key(rig, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        import_material(rig, arn, der, ValidTo=START + DAY)
        record = rig.store.find_key(arn.rpartition("/")[2])
        assert record is not None
        signature = rig.keyring.open_private_key(record).sign("ECDSA_SHA_256", b"x", "RAW")
        key.public_key().verify(signature, b"x", ec.ECDSA(hashes.SHA256()))
        assert metadata(rig, arn)["ValidTo"] == START + DAY
        rig.clock.now += DAY
        assert key_state(rig, arn) == "PendingImport"

    @pytest.mark.parametrize(
        "members",
        [{"ImportType": "NEW_KEY_MATERIAL"}, {"KeyMaterialId": "a" * 64}, {"KeyMaterialDescription": "x"}],
    )
    def test_members_of_symmetric_keys_only(self, rig: Rig, members: dict[str, str]) -> None:
        """What only symmetric encryption keys have is refused."""
        arn = create_external_key(rig, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
        with pytest.raises(ValidationError, match="ImportType"):
            import_material(rig, arn, ONE, **members)

    @pytest.mark.parametrize(
        ("spec", "usage"),
        [("SM2", "SIGN_VERIFY"), ("ML_DSA_44", "SIGN_VERIFY"), ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE")],
    )
    def test_specs_that_take_no_import(self, rig: Rig, spec: str, usage: str) -> None:
        """They are told so before a wrapping key is made."""
        arn = create_external_key(rig, KeySpec=spec, KeyUsage=usage)
        with pytest.raises(UnsupportedOperationError):
            fetch_parameters(rig, arn)


class TestStatesAndRefusals:
    """The table of key states, and who is refused."""

    @pytest.mark.parametrize(
        ("operation", "row"),
        [
            ("GetParametersForImport", "ok ok S ok"),
            ("ImportKeyMaterial", "ok ok S ok"),
            ("DeleteImportedKeyMaterial", "ok ok ok ok"),
        ],
    )
    def test_states(self, rig: Rig, operation: str, row: str) -> None:
        """Each reachable state of a key with imported material."""
        for state, cell in zip(
            ["Enabled", "Disabled", "PendingDeletion", "PendingImport"], row.split(), strict=True
        ):
            arn = create_external_key(rig)
            import_material(rig, arn, ONE)
            body = body_of(operation, arn)
            if operation == "ImportKeyMaterial":
                body = build_import(arn, fetch_parameters(rig, arn), ONE)
            set_state(rig, arn, state)
            if cell == "ok":
                rig.call(operation, body)
                continue
            with pytest.raises(KeyStateError, match="pending deletion"):
                rig.call(operation, body)

    @pytest.mark.parametrize("operation", IMPORT_OPERATIONS)
    @pytest.mark.parametrize("state", ["Enabled", "Disabled", "PendingDeletion"])
    def test_material_that_the_service_made(self, rig: Rig, operation: str, state: str) -> None:
        """Only keys of origin EXTERNAL take imports; this is tested before the state."""
        arn = rig.create_key()
        set_state(rig, arn, state)
        with pytest.raises(UnsupportedOperationError):
            rig.call(operation, body_of(operation, arn))

    @pytest.mark.parametrize("operation", IMPORT_OPERATIONS)
    def test_custom_key_store(self, rig: Rig, operation: str) -> None:
        """A key of a custom key store takes no import."""
        arn = rig.create_key(Origin="AWS_CLOUDHSM", CustomKeyStoreId="cks-1")
        with pytest.raises(UnsupportedOperationError):
            rig.call(operation, body_of(operation, arn))

    @pytest.mark.parametrize("operation", IMPORT_OPERATIONS)
    def test_names_and_callers(self, rig: Rig, operation: str) -> None:
        """No alias, no unknown key, no other account, nobody without a right."""
        arn = create_external_key(rig)
        rig.call("CreateAlias", {"AliasName": "alias/x", "TargetKeyId": arn})
        for missing in ("alias/x", "00000000-0000-4000-8000-000000000000"):
            with pytest.raises(NotFoundError):
                rig.call(operation, body_of(operation, missing))
        with pytest.raises(AccessDeniedError):
            rig.call(operation, body_of(operation, arn), account="team-b")
        for nobody in (account(), pod()):
            with pytest.raises(AccessDeniedError):
                rig.call(operation, body_of(operation, arn), by=nobody)

    def test_disabled_key_is_still_disabled_for_data_keys(self, rig: Rig) -> None:
        """Imported material changes nothing about Disabled."""
        arn = create_external_key(rig)
        import_material(rig, arn, ONE)
        rig.call("DisableKey", {"KeyId": arn})
        with pytest.raises(KeyDisabledError):
            rig.data_key(arn)


def test_another_replica_imports_and_expires(rig: Rig, api: FakeClusterApi) -> None:
    """Parameters of one replica are good on another; expiry is written once."""
    one, two = Replica(rig, api), Replica(rig, api)
    rig.service = one.service
    arn = create_external_key(rig)
    parameters = fetch_parameters(rig, arn)
    two.watcher.list_all()
    rig.service = two.service
    rig.call("ImportKeyMaterial", build_import(arn, parameters, ONE, ValidTo=START + DAY))
    one.watcher.list_all()
    rig.service = one.service
    assert key_state(rig, arn) == "Enabled"
    rig.clock.now = START + DAY
    assert key_state(rig, arn) == "PendingImport"
    assert [replica.task.perform_due() for replica in (two, one)] == [0, 0]
    assert (one.task.counts["expiry"], two.task.counts["expiry"]) == (0, 1)


def test_material_shows_nowhere(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """No log line, answer, error or stored record holds imported bytes."""
    material = bytes(range(100, 132))
    arn = create_external_key(rig)
    with caplog.at_level(logging.DEBUG):
        answers: list[Any] = [fetch_parameters(rig, arn)]
        answers.append(
            rig.call("ImportKeyMaterial", build_import(arn, answers[0], material, ValidTo=START + 1))
        )
        with pytest.raises(IncorrectKeyMaterialError) as caught:
            import_material(rig, arn, material, **NEW)
        rig.clock.now += 1
        make_task(rig).perform_due()
    stored = [record.to_json() for record in rig.store.index._keys.values()]
    logs = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    text = json.dumps([answers, stored, logs, caught.value.message])
    for needle in (material.hex(), b64(material).rstrip("="), material.decode("latin-1")):
        assert needle not in text
