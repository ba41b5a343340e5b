"""The other floor: the cryptography of each operation alone, with nothing around it."""

import hmac
import os
import statistics
import timeit

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BACKING_KEY = os.urandom(32)
CONTEXT = b'{"purpose":"benchmark","tenant":"blue"}'
NUMBER = 20_000


def encrypt(plaintext=bytes(32)):
    nonce = os.urandom(28)
    key = hmac.digest(BACKING_KEY, nonce[:16], "sha256")
    return nonce, AESGCM(key).encrypt(nonce[16:], plaintext, CONTEXT)


def generate():
    return encrypt(os.urandom(32))


def time_cryptography():
    """Return the microseconds of each operation, the median of five runs."""
    nonce, sealed = encrypt()

    def decrypt():
        return AESGCM(hmac.digest(BACKING_KEY, nonce[:16], "sha256")).decrypt(nonce[16:], sealed, CONTEXT)

    works = {"GenerateDataKeyWithoutPlaintext": generate, "Decrypt": decrypt, "Encrypt": encrypt}
    return {
        name: statistics.median(timeit.repeat(work, number=NUMBER, repeat=5)) / NUMBER * 1e6
        for name, work in works.items()
    }
