"""GenerateDataKeyWithoutPlaintext, GenerateDataKey, Encrypt: answers, errors, and the order of checks."""

import base64
from typing import Any

import pytest

from datakeys.contract.errors import (
    AccessDeniedError,
    DryRunOperationError,
    InvalidGrantTokenError,
    InvalidKeyUsageError,
    KeyDisabledError,
    KeyStateError,
    KmsError,
    NotFoundError,
    SerializationError,
    ValidationError,
)
from keyservice_rig import Rig, account, b64, bound, pod

WITHOUT = "GenerateDataKeyWithoutPlaintext"


def body(key_arn: str, **members: Any) -> dict[str, Any]:
    return {"KeyId": key_arn, "KeySpec": "AES_256", "EncryptionContext": bound(), **members}


def test_answer_without_plaintext(rig: Rig) -> None:
    """The answer has exactly three members, and none of them is Plaintext."""
    arn = rig.create_key()
    answer = rig.call(WITHOUT, body(arn))
    assert set(answer) == {"CiphertextBlob", "KeyId", "KeyMaterialId"}
    assert answer["KeyId"] == arn
    assert len(answer["KeyMaterialId"]) == 64
    assert 1 <= len(base64.b64decode(answer["CiphertextBlob"])) <= 6144


@pytest.mark.parametrize(
    ("size", "length"),
    [({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 1024}, 1024)],
)
def test_length_of_the_data_key(rig: Rig, size: dict[str, Any], length: int) -> None:
    """KeySpec or NumberOfBytes decide how many bytes the pod gets."""
    arn = rig.create_key()
    answer = rig.call(WITHOUT, {"KeyId": arn, "EncryptionContext": bound(), **size})
    opened = rig.call(
        "Decrypt", {"CiphertextBlob": answer["CiphertextBlob"], "EncryptionContext": bound()}, by=pod()
    )
    assert len(base64.b64decode(opened["Plaintext"])) == length


@pytest.mark.parametrize("size", [{}, {"KeySpec": "AES_256", "NumberOfBytes": 32}])
def test_exactly_one_size(rig: Rig, size: dict[str, Any]) -> None:
    """None or both of the two sizes is a validation error."""
    with pytest.raises(ValidationError, match="either number of bytes or key spec"):
        rig.call(WITHOUT, {"KeyId": rig.create_key(), "EncryptionContext": bound(), **size})


@pytest.mark.parametrize(
    ("members", "texts"),
    [
        ({"KeyId": None}, ["1 validation error detected", "Value null at 'keyId'"]),
        ({"KeyId": ""}, ["'keyId'", "length greater than or equal to 1"]),
        ({"KeyId": "x" * 2049}, ["'keyId'", "length less than or equal to 2048"]),
        ({"KeySpec": "AES_192"}, ["'keySpec'", "enum value set: [AES_256, AES_128]"]),
        ({"NumberOfBytes": 0}, ["'numberOfBytes'", "greater than or equal to 1"]),
        ({"NumberOfBytes": 1025}, ["'numberOfBytes'", "less than or equal to 1024"]),
        ({"GrantTokens": ["t"] * 11}, ["'grantTokens'", "less than or equal to 10"]),
        ({"GrantTokens": [""]}, ["'grantTokens'", "greater than or equal to 1"]),
        ({"Recipient": {}}, ["'recipient'"]),
        ({"EncryptionContext": {"k": "v" * 8192}}, ["'encryptionContext'", "8192"]),
        ({"EncryptionContext": {"k": "\ud800"}}, ["'encryptionContext'"]),
        ({"KeyId": "", "NumberOfBytes": 0}, ["2 validation errors detected", "; ", "keyId", "numberOfBytes"]),
    ],
)
def test_broken_constraints(rig: Rig, members: dict[str, Any], texts: list[str]) -> None:
    """Every broken constraint names its member; several are collected in one error."""
    with pytest.raises(ValidationError) as caught:
        rig.call(WITHOUT, body(rig.create_key(), **members))
    for text in texts:
        assert text in caught.value.message


@pytest.mark.parametrize(
    "members",
    [
        {"KeyId": 5},
        {"KeySpec": 5},
        {"NumberOfBytes": "32"},
        {"NumberOfBytes": 32.0},
        {"NumberOfBytes": True},
        {"EncryptionContext": []},
        {"EncryptionContext": {"k": 5}},
        {"EncryptionContext": {"k": None}},
        {"GrantTokens": "t"},
        {"GrantTokens": [5]},
        {"DryRun": "true"},
    ],
)
def test_wrong_json_types(rig: Rig, members: dict[str, Any]) -> None:
    """A member of another JSON type is a serialization error, never converted."""
    with pytest.raises(SerializationError):
        rig.call(WITHOUT, body(rig.create_key(), **members))


def test_many_bad_items_make_a_short_error(rig: Rig) -> None:
    """A huge list of bad tokens can't make a huge answer."""
    with pytest.raises(ValidationError) as caught:
        rig.call(WITHOUT, body(rig.create_key(), GrantTokens=[""] * 10_000))
    assert len(caught.value.message) < 4096


def test_plaintext_comes_with_generate_data_key(rig: Rig) -> None:
    """A grantee gets plaintext and ciphertext of the same data key."""
    arn = rig.create_key()
    rig.grant(arn, "GenerateDataKey", "Decrypt")
    made = rig.call("GenerateDataKey", {"KeyId": arn, "NumberOfBytes": 24}, by=account())
    assert set(made) == {"CiphertextBlob", "Plaintext", "KeyId", "KeyMaterialId"}
    opened = rig.call("Decrypt", {"CiphertextBlob": made["CiphertextBlob"]}, by=account())
    assert opened["Plaintext"] == made["Plaintext"]


def test_encrypt(rig: Rig) -> None:
    """What a grantee encrypts it gets back, and the answer names key and algorithm."""
    arn = rig.create_key()
    rig.grant(arn, "Encrypt", "Decrypt")
    made = rig.call("Encrypt", {"KeyId": arn, "Plaintext": b64(b"x" * 4096)}, by=account())
    assert set(made) == {"CiphertextBlob", "KeyId", "EncryptionAlgorithm"}
    assert (made["KeyId"], made["EncryptionAlgorithm"]) == (arn, "SYMMETRIC_DEFAULT")
    opened = rig.call("Decrypt", {"CiphertextBlob": made["CiphertextBlob"]}, by=account())
    assert base64.b64decode(opened["Plaintext"]) == b"x" * 4096


@pytest.mark.parametrize(
    ("plaintext", "error"),
    [
        (None, ValidationError),
        ("", ValidationError),
        (b64(b"x" * 4097), ValidationError),
        ("%%%", SerializationError),
        ("YQ", SerializationError),
        ("YQ==\n", SerializationError),
        (5, SerializationError),
    ],
)
def test_encrypt_checks_the_plaintext(rig: Rig, plaintext: Any, error: type[KmsError]) -> None:
    """1..4096 bytes of strict base64; the error never quotes them."""
    with pytest.raises(error) as caught:
        rig.call("Encrypt", {"KeyId": "alias/x", "Plaintext": plaintext}, by=account())
    assert "eHh4" not in caught.value.message


@pytest.mark.parametrize("operation", ["GenerateDataKey", "Encrypt"])
@pytest.mark.parametrize("key", ["datakeys.dev/namespace", "datakeys.dev/other", "DataKeys.dev/request"])
def test_nobody_but_the_controller_binds(rig: Rig, operation: str, key: str) -> None:
    """A grantee can't make ciphertext that looks bound to a workload, in any spelling."""
    arn = rig.create_key()
    rig.grant(arn, "GenerateDataKey", "Encrypt")
    members = {"KeyId": arn, "EncryptionContext": {key: "team-b"}}
    size = {"NumberOfBytes": 16} if operation == "GenerateDataKey" else {"Plaintext": b64(b"x")}
    with pytest.raises(AccessDeniedError):
        rig.call(operation, {**members, **size}, by=account())


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"a": "b"},
        {key: value for key, value in bound().items() if not key.endswith("request")},
        bound(**{"datakeys.dev/extra": "x"}),
        bound(namespace="team-b"),
    ],
)
def test_controller_must_bind_to_its_account(rig: Rig, context: dict[str, str]) -> None:
    """Exactly the three reserved pairs, and the namespace is the account in the header."""
    with pytest.raises(AccessDeniedError):
        rig.call(WITHOUT, body(rig.create_key(), EncryptionContext=context))


@pytest.mark.parametrize("spec", ["RSA_2048", "RSA_4096"])
def test_rsa_keys_for_encryption_make_no_data_keys(rig: Rig, spec: str) -> None:
    """The usage fits, the key spec does not."""
    arn = rig.create_key(KeySpec=spec, KeyUsage="ENCRYPT_DECRYPT")
    with pytest.raises(InvalidKeyUsageError, match=spec):
        rig.call(WITHOUT, body(arn))


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("RSA_2048", "SIGN_VERIFY"),
        ("ECC_NIST_P256", "KEY_AGREEMENT"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE"),
        ("ML_DSA_65", "SIGN_VERIFY"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
    ],
)
def test_other_keys_make_no_data_keys(rig: Rig, spec: str, usage: str) -> None:
    """Asymmetric and HMAC keys answer InvalidKeyUsage."""
    with pytest.raises(InvalidKeyUsageError):
        rig.call(WITHOUT, body(rig.create_key(KeySpec=spec, KeyUsage=usage)))


@pytest.mark.parametrize("origin", ["AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"])
def test_custom_key_stores_make_no_data_keys(rig: Rig, origin: str) -> None:
    """A key in a custom key store answers InvalidKeyUsage."""
    arn = rig.create_key(Origin=origin, CustomKeyStoreId="cks-1")
    with pytest.raises(InvalidKeyUsageError, match="custom key store"):
        rig.call(WITHOUT, body(arn))


def test_dry_run_makes_nothing(rig: Rig) -> None:
    """DryRun of a request that would succeed is its own error."""
    with pytest.raises(DryRunOperationError):
        rig.call(WITHOUT, body(rig.create_key(), DryRun=True))


def test_dry_run_reports_the_real_error(rig: Rig) -> None:
    """DryRun of a request that would fail fails alike."""
    arn = rig.create_key()
    rig.call("DisableKey", {"KeyId": arn})
    with pytest.raises(KeyDisabledError, match="is disabled"):
        rig.call(WITHOUT, body(arn, DryRun=True))


def test_imported_key_without_material(rig: Rig) -> None:
    """A key that waits for its import is in the wrong state."""
    with pytest.raises(KeyStateError, match="is pending import"):
        rig.call(WITHOUT, body(rig.create_key(Origin="EXTERNAL")))


def test_unknown_keys(rig: Rig) -> None:
    """Unknown id, unknown alias, another Region and a wrong form are not found."""
    unknown = "11111111-2222-4333-8444-555555555555"
    for key_id in (
        unknown,
        f"arn:k8s:kms:cluster-1:team-a:key/{unknown}",
        "alias/none",
        f"arn:k8s:kms:other:team-a:key/{unknown}",
        "none",
    ):
        with pytest.raises(NotFoundError):
            rig.call(WITHOUT, body(key_id))


def test_keys_of_other_accounts_do_not_leak(rig: Rig) -> None:
    """Whether a key or alias of another account exists, the answer is the same."""
    existing = rig.create_key(account="team-b")
    rig.call("CreateAlias", {"AliasName": "alias/b", "TargetKeyId": existing}, account="team-b")
    texts = set()
    for key_id in (
        existing,
        existing[:-12] + "000000000000",
        "arn:k8s:kms:cluster-1:team-b:alias/b",
        "arn:k8s:kms:cluster-1:team-b:alias/none",
    ):
        with pytest.raises(AccessDeniedError) as caught:
            rig.call(WITHOUT, body(key_id))
        texts.add(caught.value.message)
    assert len(texts) == 1


def test_short_id_of_another_account_is_not_found(rig: Rig) -> None:
    """A key id alone resolves in the caller's account only."""
    short = rig.create_key(account="team-b").rpartition("/")[2]
    with pytest.raises(NotFoundError):
        rig.call(WITHOUT, body(short))


def test_all_four_forms_of_a_key_id(rig: Rig) -> None:
    """Key id, key ARN, alias name and alias ARN name the same key; the answer has its ARN."""
    arn = rig.create_key()
    rig.call("CreateAlias", {"AliasName": "alias/main", "TargetKeyId": arn})
    forms = (arn, arn.rpartition("/")[2], "alias/main", "arn:k8s:kms:cluster-1:team-a:alias/main")
    assert {rig.call(WITHOUT, body(form))["KeyId"] for form in forms} == {arn}


def test_order_validation_before_lookup(rig: Rig) -> None:
    """A broken member wins over an unknown key."""
    with pytest.raises(ValidationError):
        rig.call(WITHOUT, body("alias/none", NumberOfBytes=0))


def test_order_lookup_before_grant_tokens(rig: Rig) -> None:
    """An unknown key wins over a bad grant token."""
    with pytest.raises(NotFoundError):
        rig.call(WITHOUT, body("alias/none", GrantTokens=["bad"]))


def test_order_grant_tokens_before_authorisation(rig: Rig) -> None:
    """A bad grant token wins over missing rights."""
    with pytest.raises(InvalidGrantTokenError):
        rig.call(WITHOUT, body(rig.create_key(), GrantTokens=["bad"]), by=account())


def test_order_authorisation_before_state(rig: Rig) -> None:
    """Who has no rights doesn't learn the key's state."""
    arn = rig.create_key()
    rig.call("DisableKey", {"KeyId": arn})
    with pytest.raises(AccessDeniedError):
        rig.call(WITHOUT, body(arn), by=account())


def test_order_state_before_usage(rig: Rig) -> None:
    """A disabled key of the wrong usage answers DisabledException."""
    arn = rig.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    rig.call("DisableKey", {"KeyId": arn})
    with pytest.raises(KeyDisabledError):
        rig.call(WITHOUT, body(arn))


def test_order_usage_before_dry_run(rig: Rig) -> None:
    """A key of the wrong usage wins over DryRun."""
    arn = rig.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    with pytest.raises(InvalidKeyUsageError):
        rig.call(WITHOUT, body(arn, DryRun=True))


def test_unknown_members_are_ignored(rig: Rig) -> None:
    """A member that the model doesn't have changes nothing."""
    assert rig.call(WITHOUT, body(rig.create_key(), Later="x"))["CiphertextBlob"]
