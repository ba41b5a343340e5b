"""Data keys: random bytes that are unrelated to caller and KMS key.

Zone: plaintext. Source: AWS KMS API, GenerateDataKey and GenerateDataKeyWithoutPlaintext.
"""

from datakeys.contract.encryption_context import EncryptionContext
from datakeys.contract.key_types import MAX_DATA_KEY_BYTES, MIN_DATA_KEY_BYTES
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.encryption import EncryptionKey


def generate_data_key(
    key: EncryptionKey, number_of_bytes: int, context: EncryptionContext, random: RandomSource
) -> tuple[bytes, bytes]:
    """Return a new data key: plaintext and ciphertext blob.

    Args:
        key: What encrypts it.
        number_of_bytes: 1..1024.
        context: Authenticated with the blob.
        random: Gives the data key, the nonce and the IV.

    Raises:
        ValueError: The length is out of bounds.
        ValidationError: The context isn't valid Unicode.
    """
    if not MIN_DATA_KEY_BYTES <= number_of_bytes <= MAX_DATA_KEY_BYTES:
        raise ValueError("a data key has 1..1024 bytes")
    plaintext = random(number_of_bytes)
    return plaintext, key.encrypt(plaintext, context, random)


def generate_data_key_without_plaintext(
    key: EncryptionKey, number_of_bytes: int, context: EncryptionContext, random: RandomSource
) -> bytes:
    """Return only the ciphertext blob of a new data key; its plaintext is gone when this returns.

    Raises:
        ValueError: The length is out of bounds.
        ValidationError: The context isn't valid Unicode.
    """
    return generate_data_key(key, number_of_bytes, context, random)[1]
