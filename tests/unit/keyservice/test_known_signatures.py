"""Signatures and MACs have the values that their standards say."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.mac_key import MAC_KEY_BYTES, MacKey
from datakeys.keyservice.material.private_key import PrivateKey

VECTORS = Path(__file__).parents[2] / "vectors"


def load(name: str) -> list[Any]:
    cases: list[Any] = json.loads((VECTORS / name).read_text())["cases"]
    return cases


@pytest.mark.parametrize("case", load("ed25519.json"), ids=lambda case: case["name"])
def test_ed25519_gives_the_signatures_of_its_rfc(case: Any) -> None:
    """A published private key has the published public key and signs as published."""
    seed = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["secret"]))
    der = seed.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key = PrivateKey.from_der(KeySpec.ECC_NIST_EDWARDS25519, der)
    message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
    assert key.public_der().hex().endswith(case["public"])
    assert key.sign("ED25519_SHA_512", message, "RAW") == signature
    key.verify("ED25519_SHA_512", message, "RAW", signature)


def hmac_by_definition(digest: str, key: bytes, message: bytes) -> bytes:
    """Return the MAC as RFC 2104, section 2, defines it: two hashes, nothing else."""
    padded = key.ljust(hashlib.new(digest).block_size, b"\x00")
    inner = hashlib.new(digest, bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.new(digest, bytes(byte ^ 0x5C for byte in padded) + inner).digest()


@pytest.mark.parametrize("spec", MAC_KEY_BYTES)
@pytest.mark.parametrize("size", [1, 64, 4096])
def test_macs_are_what_the_rfc_defines(spec: KeySpec, size: int) -> None:
    """Each HMAC key spec uses the hash of its name, with a key as long as the hash's output."""
    digest = spec.replace("HMAC_", "sha")
    secret = bytes(range(MAC_KEY_BYTES[spec]))
    mac = MacKey(spec, secret).compute(b"m" * size)
    assert mac == hmac_by_definition(digest, secret, b"m" * size)
    assert len(mac) == len(secret) == hashlib.new(digest).digest_size
