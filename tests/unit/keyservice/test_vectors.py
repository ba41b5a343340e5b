"""Known answers. Format version 1 is kept for ever: what was sealed or encrypted once must always open."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datakeys.contract.encryption_context import canonical_bytes
from datakeys.keyservice.material.backing_key import BackingKey, SealBinding, SealedBackingKey
from datakeys.keyservice.material.ciphertext_blob import parse_blob
from datakeys.keyservice.material.derive import derive_key
from datakeys.keyservice.material.encryption import EncryptionKey
from datakeys.keyservice.material.root_key import RootKey

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> list[Any]:
    cases: list[Any] = json.loads((VECTORS / name).read_text())["cases"]
    return cases


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("*.json")))
def test_vectors_name_their_source(name: str) -> None:
    """Every file of known answers says where they come from."""
    assert json.loads((VECTORS / name).read_text())["source"]


@pytest.mark.parametrize("case", load("aes-256-gcm.json"), ids=lambda case: case["name"])
def test_aes_256_gcm(case: Any) -> None:
    """The library's AES-256-GCM gives the published answers."""
    unhex = {name: bytes.fromhex(value) for name, value in case.items() if name != "name"}
    sealed = AESGCM(unhex["key"]).encrypt(unhex["iv"], unhex["plaintext"], unhex["aad"])
    assert sealed == unhex["ciphertext"] + unhex["tag"]


@pytest.mark.parametrize("case", load("derive-v1.json"), ids=lambda case: case["label"])
def test_derived_keys_of_format_v1(case: Any) -> None:
    """Every label derives the key it has always derived."""
    derived = derive_key(
        bytes.fromhex(case["secret"]), case["label"].encode(), bytes.fromhex(case["context"])
    )
    assert derived.hex() == case["derived"]


@pytest.mark.parametrize("case", load("ciphertext-blob-v1.json"), ids=lambda case: case["name"])
def test_blobs_of_format_v1(case: Any) -> None:
    """A blob of format version 1 decrypts, and the same randomness makes the same blob."""
    key = EncryptionKey(case["keyId"], case["materialId"], BackingKey(bytes.fromhex(case["backingKey"])))
    context = canonical_bytes(case["context"])
    blob = bytes.fromhex(case["blob"])
    assert key.decrypt(parse_blob(blob), context).hex() == case["plaintext"]
    random = bytes.fromhex(case["random"])
    assert key.encrypt(bytes.fromhex(case["plaintext"]), context, lambda size: random[:size]) == blob


@pytest.mark.parametrize("case", load("sealed-key-v1.json"), ids=lambda case: case["name"])
def test_sealed_keys_of_format_v1(case: Any) -> None:
    """A backing key that was sealed in format version 1 opens."""
    root = RootKey(bytes.fromhex(case["rootKey"]))
    sealed = SealedBackingKey.from_bytes(bytes.fromhex(case["sealed"]))
    opened = root.unseal(sealed, SealBinding(**case["binding"]))
    assert opened == BackingKey(bytes.fromhex(case["backingKey"]))
