"""Every bit of a ciphertext blob, flipped, and every cut: one error, one body, byte for byte."""

import base64
from typing import Any

import pytest

from kms_cases import CONTEXT
from kms_endpoint import RawConnection


@pytest.fixture(scope="module")
def blob(client: Any) -> bytes:
    """Return the ciphertext of a short text."""
    arn = client.create_key()["KeyMetadata"]["Arn"]
    sealed: bytes = client.encrypt(KeyId=arn, Plaintext=b"t", EncryptionContext=CONTEXT)["CiphertextBlob"]
    return sealed


def outcomes(raw: RawConnection, blobs: list[bytes]) -> set[tuple[int, bytes]]:
    """Return the different answers to the blobs."""
    found = set()
    for changed in blobs:
        body = {"CiphertextBlob": base64.b64encode(changed).decode(), "EncryptionContext": CONTEXT}
        answer = raw.post("Decrypt", body)
        found.add((answer.status, answer.raw))
    return found


EXPECTED = {(400, b'{"__type": "InvalidCiphertextException", "message": ""}')}


def test_unchanged_blob_opens(raw: RawConnection, blob: bytes) -> None:
    """The base of the others."""
    ((status, _),) = outcomes(raw, [blob])
    assert status == 200


def test_every_flipped_bit(raw: RawConnection, blob: bytes) -> None:
    """No bit is without its guard, and none can be told from another."""
    flipped = []
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << (bit % 8)
        flipped.append(bytes(changed))
    assert outcomes(raw, flipped) == EXPECTED


def test_every_cut(raw: RawConnection, blob: bytes) -> None:
    """Any number of bytes missing at either end, or one in the middle."""
    lengths = range(1, len(blob))
    cuts = [blob[:n] for n in lengths] + [blob[n:] for n in lengths]
    cuts += [blob[:n] + blob[n + 1 :] for n in range(len(blob))]
    assert outcomes(raw, cuts) == EXPECTED
