"""The AWS Encryption SDK for Python, unchanged, on this service."""

from typing import Any

import aws_encryption_sdk
import botocore.session
import pytest
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

from kms_endpoint import LocalKms

CONTEXT = {"tenant": "a", "purpose": "conformance"}
TEXT = b"plaintext of more than one frame " * 1000


@pytest.fixture
def provider(
    local_kms: LocalKms, client: Any, monkeypatch: pytest.MonkeyPatch
) -> StrictAwsKmsMasterKeyProvider:
    """Return a master key provider of two keys; the SDK makes its own KMS client from the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", local_kms.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    keys = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    return StrictAwsKmsMasterKeyProvider(key_ids=keys, botocore_session=botocore.session.get_session())


@pytest.fixture
def sdk() -> aws_encryption_sdk.EncryptionSDKClient:
    """Return the SDK's client with its strictest policy."""
    return aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )


def test_round_trip_with_context(sdk: Any, provider: StrictAwsKmsMasterKeyProvider) -> None:
    """What the SDK encrypted under two keys comes back, with its context."""
    sealed, header = sdk.encrypt(source=TEXT, key_provider=provider, encryption_context=CONTEXT)
    assert len(header.encrypted_data_keys) == 2
    text, opened = sdk.decrypt(source=sealed, key_provider=provider)
    assert text == TEXT
    assert opened.encryption_context.items() >= CONTEXT.items()


def test_either_key_opens(sdk: Any, client: Any, provider: StrictAwsKmsMasterKeyProvider) -> None:
    """With the first key disabled the second one still opens the message; with none it stays shut."""
    sealed, header = sdk.encrypt(source=TEXT, key_provider=provider, encryption_context=CONTEXT)
    arns = sorted(key.key_provider.key_info.decode() for key in header.encrypted_data_keys)
    client.disable_key(KeyId=arns[0])
    assert sdk.decrypt(source=sealed, key_provider=provider)[0] == TEXT
    client.disable_key(KeyId=arns[1])
    with pytest.raises(AWSEncryptionSDKClientError):
        sdk.decrypt(source=sealed, key_provider=provider)


def test_another_context_fails(sdk: Any, provider: StrictAwsKmsMasterKeyProvider) -> None:
    """A message whose context was changed can't be opened: the service refuses its data keys."""
    sealed, _ = sdk.encrypt(source=TEXT, key_provider=provider, encryption_context=CONTEXT)
    assert sealed.count(b"conformance") == 1
    with pytest.raises(AWSEncryptionSDKClientError):
        sdk.decrypt(source=sealed.replace(b"conformance", b"Conformance"), key_provider=provider)


def test_required_context_must_match(sdk: Any, client: Any, provider: StrictAwsKmsMasterKeyProvider) -> None:
    """The data key inside the message opens under exactly the message's context."""
    _, header = sdk.encrypt(source=TEXT, key_provider=provider, encryption_context=CONTEXT)
    data_key = next(iter(header.encrypted_data_keys))
    members = {"CiphertextBlob": data_key.encrypted_data_key}
    opened = client.decrypt(**members, EncryptionContext=dict(header.encryption_context))
    assert len(opened["Plaintext"]) == 32
    with pytest.raises(client.exceptions.InvalidCiphertextException):
        client.decrypt(**members, EncryptionContext=CONTEXT)
