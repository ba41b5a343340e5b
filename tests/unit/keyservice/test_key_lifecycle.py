"""CreateKey, DescribeKey, EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion."""

from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DependencyTimeoutError,
    KeyStateError,
    KmsError,
    LimitExceededError,
    MalformedPolicyDocumentError,
    NotFoundError,
    SerializationError,
    TagError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.contract.key_types import ALLOWED_USAGES, KeySpec, KeyUsage
from datakeys.keyservice.operations import create_key as create_key_module
from keyservice_rig import START, Rig, account, pod

DAY = 86_400
#: Keys that the cryptography library can't make.
NOT_OFFERED = (KeySpec.SM2, KeySpec.ML_KEM_512)


def metadata(rig: Rig, arn: str) -> dict[str, Any]:
    found: dict[str, Any] = rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]
    return found


def test_metadata_of_a_new_key(rig: Rig) -> None:
    """A default key is symmetric, enabled, of this service, and says so in the shape of the API."""
    made = rig.call("CreateKey", {"Description": "text"})["KeyMetadata"]
    assert made == {
        "AWSAccountId": "team-a",
        "KeyId": made["Arn"].rpartition("/")[2],
        "Arn": made["Arn"],
        "CreationDate": START,
        "Enabled": True,
        "Description": "text",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "MultiRegion": False,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "CurrentKeyMaterialId": made["CurrentKeyMaterialId"],
    }
    assert metadata(rig, made["Arn"]) == made


@pytest.mark.parametrize(
    ("spec", "usage"),
    [(spec, usage) for spec in KeySpec for usage in sorted(ALLOWED_USAGES[spec]) if spec not in NOT_OFFERED],
)
def test_every_allowed_pair_exists(rig: Rig, spec: KeySpec, usage: KeyUsage) -> None:
    """Every key spec can be created with each of its usages, and names algorithms of that usage only."""
    made = rig.call("CreateKey", {"KeySpec": spec, "KeyUsage": usage})["KeyMetadata"]
    assert (made["KeySpec"], made["CustomerMasterKeySpec"], made["KeyUsage"]) == (spec, spec, usage)
    names = {name for name in made if name.endswith("Algorithms")}
    assert (
        names
        == {
            KeyUsage.ENCRYPT_DECRYPT: {"EncryptionAlgorithms"},
            KeyUsage.SIGN_VERIFY: {"SigningAlgorithms"},
            KeyUsage.GENERATE_VERIFY_MAC: {"MacAlgorithms"},
            KeyUsage.KEY_AGREEMENT: {"KeyAgreementAlgorithms"},
            KeyUsage.ENCAPSULATE_DECAPSULATE: {"EncapsulationAlgorithms"},
        }[usage]
    )
    assert ("CurrentKeyMaterialId" in made) == (spec is KeySpec.SYMMETRIC_DEFAULT)


@pytest.mark.parametrize(
    ("spec", "usage"),
    [(spec, usage) for spec in KeySpec for usage in KeyUsage if usage not in ALLOWED_USAGES[spec]],
)
def test_every_other_pair_is_refused(rig: Rig, spec: KeySpec, usage: KeyUsage) -> None:
    """A key spec takes no usage that it can't do."""
    with pytest.raises(ValidationError):
        rig.call("CreateKey", {"KeySpec": spec, "KeyUsage": usage})


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"KeySpec": "RSA_2048"}, ValidationError),
        ({"KeySpec": "HMAC_256"}, ValidationError),
        ({"KeySpec": "AES_256"}, ValidationError),
        ({"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"}, ValidationError),
        ({"KeyUsage": "NONE"}, ValidationError),
        ({"Origin": "NONE"}, ValidationError),
        ({"Description": "x" * 8193}, ValidationError),
        ({"Description": 5}, SerializationError),
        ({"CustomKeyStoreId": "x" * 65}, ValidationError),
        ({"MultiRegion": True}, UnsupportedOperationError),
        ({"MultiRegion": "true"}, SerializationError),
        ({"Policy": "{}"}, MalformedPolicyDocumentError),
        (
            {"Origin": "AWS_CLOUDHSM", "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
            UnsupportedOperationError,
        ),
        ({"Tags": "x"}, SerializationError),
        *(
            ({"KeySpec": spec, "KeyUsage": usage}, UnsupportedOperationError)
            for spec in NOT_OFFERED
            for usage in sorted(ALLOWED_USAGES[spec])
        ),
        ({"Tags": ["x"]}, SerializationError),
        ({"Tags": [{"TagKey": "", "TagValue": ""}]}, ValidationError),
        ({"Tags": [{"TagKey": "k", "TagValue": "v" * 257}]}, ValidationError),
        ({"Tags": [{"TagKey": "k", "TagValue": ""}] * 2}, TagError),
        ({"Tags": [{"TagKey": str(n), "TagValue": ""} for n in range(51)]}, LimitExceededError),
    ],
)
def test_errors_of_create_key(rig: Rig, members: dict[str, Any], error: type[KmsError]) -> None:
    """Each fault of the request has its error, and no key is made."""
    with pytest.raises(error):
        rig.call("CreateKey", members)
    assert rig.store.count_keys("team-a") == 0


def test_old_name_of_the_key_spec(rig: Rig) -> None:
    """CustomerMasterKeySpec alone still works."""
    made = rig.call("CreateKey", {"CustomerMasterKeySpec": "HMAC_512", "KeyUsage": "GENERATE_VERIFY_MAC"})
    assert made["KeyMetadata"]["MacAlgorithms"] == ["HMAC_SHA_512"]


def test_tags_are_kept(rig: Rig) -> None:
    """Tags are part of the record."""
    arn = rig.create_key(Tags=[{"TagKey": "k", "TagValue": "v"}])
    record = rig.store.find_key(arn.rpartition("/")[2])
    assert record is not None
    assert record.tags == (("k", "v"),)


@pytest.mark.parametrize("by", [pod(), account()])
def test_only_the_controller_creates(rig: Rig, by: Any) -> None:
    """Pods and ServiceAccounts can't make keys."""
    with pytest.raises(AccessDeniedError):
        rig.call("CreateKey", by=by)


def test_quota_of_keys(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account has a limited number of keys; another account isn't touched."""
    monkeypatch.setattr(create_key_module, "MAX_KEYS_PER_ACCOUNT", 1)
    rig.create_key()
    with pytest.raises(LimitExceededError):
        rig.create_key()
    rig.create_key(account="team-b")


def test_same_object_same_key(rig: Rig) -> None:
    """CreateKey for the same namespace and object again answers the same key."""
    first = rig.call("CreateKey", object_name="main")
    assert rig.call("CreateKey", object_name="main") == first
    assert rig.call("CreateKey", object_name="other") != first
    assert rig.call("CreateKey", object_name="main", account="team-b") != first
    assert rig.call("CreateKey") != rig.call("CreateKey")


def test_object_made_again_gets_its_key_back(rig: Rig) -> None:
    """If the object's key is pending deletion, the deletion is cancelled and the key enabled."""
    arn = rig.call("CreateKey", object_name="main")["KeyMetadata"]["Arn"]
    rig.call("ScheduleKeyDeletion", {"KeyId": arn})
    again = rig.call("CreateKey", object_name="main")["KeyMetadata"]
    assert (again["Arn"], again["KeyState"]) == (arn, "Enabled")
    assert "DeletionDate" not in again


def test_imported_object_made_again_waits_for_its_material(rig: Rig) -> None:
    """A key without material is pending import again."""
    arn = rig.call("CreateKey", {"Origin": "EXTERNAL"}, object_name="main")["KeyMetadata"]["Arn"]
    rig.call("ScheduleKeyDeletion", {"KeyId": arn})
    again = rig.call("CreateKey", {"Origin": "EXTERNAL"}, object_name="main")["KeyMetadata"]
    assert again["KeyState"] == "PendingImport"


def test_object_made_again_in_another_shape(rig: Rig) -> None:
    """The old key isn't passed off as one of another spec."""
    rig.call("CreateKey", object_name="main")
    with pytest.raises(AlreadyExistsError):
        rig.call("CreateKey", {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, object_name="main")


def test_object_whose_key_is_being_destroyed(rig: Rig) -> None:
    """From the deletion date on the old key can't come back; the caller tries again."""
    arn = rig.call("CreateKey", object_name="main")["KeyMetadata"]["Arn"]
    rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 7})
    rig.clock.now += 7 * DAY
    with pytest.raises(DependencyTimeoutError):
        rig.call("CreateKey", object_name="main")


def test_enable_and_disable_may_be_repeated(rig: Rig) -> None:
    """Both answer an empty object, the second time too."""
    arn = rig.create_key()
    for operation, state in (("DisableKey", "Disabled"), ("EnableKey", "Enabled")):
        for _ in range(2):
            assert rig.call(operation, {"KeyId": arn}) == {}
            assert metadata(rig, arn)["KeyState"] == state
            assert metadata(rig, arn)["Enabled"] is (state == "Enabled")


@pytest.mark.parametrize("operation", ["EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"])
def test_management_takes_no_alias(rig: Rig, operation: str) -> None:
    """Alias names, alias ARNs and unknown keys are not found; a missing KeyId is a validation error."""
    rig.call("CreateAlias", {"AliasName": "alias/main", "TargetKeyId": rig.create_key()})
    for key_id in ("alias/main", "arn:k8s:kms:cluster-1:team-a:alias/main", "0" * 8):
        with pytest.raises(NotFoundError, match="Invalid keyId"):
            rig.call(operation, {"KeyId": key_id})
    with pytest.raises(ValidationError):
        rig.call(operation, {})


@pytest.mark.parametrize(
    "operation", ["DescribeKey", "EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"]
)
def test_management_is_the_controllers(rig: Rig, operation: str) -> None:
    """Pods and ServiceAccounts are denied, and nothing changes."""
    arn = rig.create_key()
    for by in (pod(), account()):
        with pytest.raises(AccessDeniedError):
            rig.call(operation, {"KeyId": arn}, by=by)
    assert metadata(rig, arn)["KeyState"] == "Enabled"


@pytest.mark.parametrize(("days", "expected"), [(None, 30), (7, 7), (30, 30)])
def test_schedule_deletion(rig: Rig, days: int | None, expected: int) -> None:
    """The answer has key ARN, date, state and window; the metadata has the date while it is pending."""
    arn = rig.create_key()
    answer = rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": days})
    date = START + expected * DAY
    assert answer == {
        "KeyId": arn,
        "DeletionDate": date,
        "KeyState": "PendingDeletion",
        "PendingWindowInDays": expected,
    }
    assert metadata(rig, arn)["DeletionDate"] == date
    assert rig.call("CancelKeyDeletion", {"KeyId": arn}) == {"KeyId": arn}
    assert metadata(rig, arn)["KeyState"] == "Disabled"
    assert "DeletionDate" not in metadata(rig, arn)


@pytest.mark.parametrize("days", [0, 6, 31, 365])
def test_window_is_7_to_30_days(rig: Rig, days: int) -> None:
    """Any other waiting period is refused."""
    with pytest.raises(ValidationError, match="pendingWindowInDays"):
        rig.call("ScheduleKeyDeletion", {"KeyId": rig.create_key(), "PendingWindowInDays": days})


def test_cancelled_import_waits_again(rig: Rig) -> None:
    """Cancelling the deletion of a key with no material leads back to PendingImport."""
    arn = rig.create_key(Origin="EXTERNAL")
    rig.call("ScheduleKeyDeletion", {"KeyId": arn})
    rig.call("CancelKeyDeletion", {"KeyId": arn})
    assert metadata(rig, arn)["KeyState"] == "PendingImport"


def test_cancel_without_deletion(rig: Rig) -> None:
    """A key that isn't pending deletion has nothing to cancel."""
    with pytest.raises(KeyStateError, match="is not pending deletion"):
        rig.call("CancelKeyDeletion", {"KeyId": rig.create_key()})


def test_custom_key_store_is_named(rig: Rig) -> None:
    """The metadata names the store of a key in one."""
    arn = rig.create_key(Origin="AWS_CLOUDHSM", CustomKeyStoreId="cks-1")
    assert metadata(rig, arn)["CustomKeyStoreId"] == "cks-1"


def test_grantee_describes(rig: Rig) -> None:
    """A grant of DescribeKey is enough, with or without its token."""
    arn = rig.create_key()
    token = rig.grant(arn, "DescribeKey")["GrantToken"]
    for members in ({}, {"GrantTokens": [token]}):
        assert rig.call("DescribeKey", {"KeyId": arn, **members}, by=account())["KeyMetadata"]["Arn"] == arn
