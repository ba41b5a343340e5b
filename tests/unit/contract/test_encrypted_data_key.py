"""The encrypted data key in Secrets and volumes."""

import pytest

from datakeys.contract.encrypted_data_key import EncryptedDataKey

KEY = EncryptedDataKey(b"\x01\xff", "arn:k8s:kms:c:ns:key/x", "ab" * 32, {"a": "é"})


def test_secret_data_parses_back() -> None:
    """What the controller writes is what the sidecar reads."""
    assert EncryptedDataKey.from_secret_data(KEY.to_secret_data()) == KEY


@pytest.mark.parametrize("field", ["ciphertextBlob", "encryptionContext", "keyId", "keyMaterialId"])
def test_missing_field_is_named(field: str) -> None:
    """A Secret that was edited gives an error that names the field."""
    fields = KEY.to_fields()
    del fields[field]
    with pytest.raises(ValueError, match=field):
        EncryptedDataKey.from_fields(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ciphertextBlob", b""),
        ("ciphertextBlob", b"x" * 6145),
        ("encryptionContext", b"{"),
        ("encryptionContext", b"[]"),
        ("encryptionContext", b'{"a": 1}'),
        ("encryptionContext", b"[" * 100_000),
        ("keyId", b"\xff"),
    ],
)
def test_malformed_field_is_named_but_not_quoted(field: str, value: bytes) -> None:
    """The error never repeats the bytes."""
    with pytest.raises(ValueError, match=field) as caught:
        EncryptedDataKey.from_fields({**KEY.to_fields(), field: value})
    assert "xxxx" not in str(caught.value)


def test_bad_base64_is_refused() -> None:
    """A Secret's data must be base64."""
    with pytest.raises(ValueError, match="base64"):
        EncryptedDataKey.from_secret_data({"ciphertextBlob": "§"})
