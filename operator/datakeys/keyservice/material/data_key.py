"""Data keys: random bytes that are unrelated to caller and KMS key.

Zone: plaintext. Source: AWS KMS API, GenerateDataKey and GenerateDataKeyWithoutPlaintext.
"""

from datakeys.contract.key_types import MAX_DATA_KEY_BYTES, MIN_DATA_KEY_BYTES
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.encryption import EncryptionKey


def generate_data_key(
    key: EncryptionKey, number_of_bytes: int, context_bytes: bytes, random: RandomSource
) -> tuple[bytes, bytes]:
    """Return a new data key: plaintext and ciphertext blob.

    Args:
        key: What encrypts it.
        number_of_bytes: 1..1024.
        context_bytes: The canonical bytes of the encryption context, authenticated with the blob.
        random: Gives the data key, the nonce and the IV.

    Raises:
        ValueError: The length is out of bounds.
    """
    if not MIN_DATA_KEY_BYTES <= number_of_bytes <= MAX_DATA_KEY_BYTES:
        raise ValueError("a data key has 1..1024 bytes")
    plaintext = random(number_of_bytes)
    return plaintext, key.encrypt(plaintext, context_bytes, random)


def generate_data_key_without_plaintext(
    key: EncryptionKey, number_of_bytes: int, context_bytes: bytes, random: RandomSource
) -> bytes:
    """Return only the ciphertext blob of a new data key; its plaintext is gone when this returns.

    Raises:
        ValueError: The length is out of bounds.
    """
    return generate_data_key(key, number_of_bytes, context_bytes, random)[1]
