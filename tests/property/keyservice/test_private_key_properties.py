"""Signatures, MACs and sealed keys of every kind: whatever is changed, it is noticed."""

import os
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datakeys.contract.errors import IntegrityError, KmsInvalidSignatureError
from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.backing_key import BackingKey, SealBinding, SealedBackingKey
from datakeys.keyservice.material.mac_key import MAC_KEY_BYTES, MacKey
from datakeys.keyservice.material.private_key import PrivateKey
from datakeys.keyservice.material.root_key import RootKey

ALGORITHMS = {
    KeySpec.RSA_2048: "RSASSA_PKCS1_V1_5_SHA_256",
    KeySpec.ECC_NIST_P256: "ECDSA_SHA_256",
    KeySpec.ECC_NIST_P521: "ECDSA_SHA_512",
    KeySpec.ECC_SECG_P256K1: "ECDSA_SHA_256",
    KeySpec.ECC_NIST_EDWARDS25519: "ED25519_SHA_512",
    KeySpec.ML_DSA_44: "ML_DSA_SHAKE_256",
}
ROOT = RootKey(bytes(32))
MESSAGES = st.binary(min_size=1, max_size=256)


@cache
def private_key(spec: KeySpec) -> PrivateKey:
    return PrivateKey.generate(spec)


def binding(spec: KeySpec, material_id: str = "ab" * 32) -> SealBinding:
    return SealBinding("key-1", material_id, "team-a", spec, "SIGN_VERIFY", "AWS_KMS")


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


@settings(max_examples=60, deadline=None)
@given(spec=st.sampled_from(list(ALGORITHMS)), message=MESSAGES, bit=st.integers(0, 1 << 16))
def test_a_changed_message_or_signature_never_verifies(spec: KeySpec, message: bytes, bit: int) -> None:
    """The signature verifies; with any one bit of it or of the message flipped it doesn't."""
    key, algorithm = private_key(spec), ALGORITHMS[spec]
    signature = key.sign(algorithm, message, "RAW")
    key.verify(algorithm, message, "RAW", signature)
    for changed, given_signature in ((flip(message, bit), signature), (message, flip(signature, bit))):
        with pytest.raises(KmsInvalidSignatureError):
            key.verify(algorithm, changed, "RAW", given_signature)


@settings(max_examples=60, deadline=None)
@given(spec=st.sampled_from(list(ALGORITHMS)), message=MESSAGES, garbage=st.binary(min_size=1, max_size=600))
def test_garbage_is_no_signature(spec: KeySpec, message: bytes, garbage: bytes) -> None:
    """Bytes of any length and shape are an invalid signature, never another failure."""
    with pytest.raises(KmsInvalidSignatureError):
        private_key(spec).verify(ALGORITHMS[spec], message, "RAW", garbage)


@given(
    spec=st.sampled_from(list(MAC_KEY_BYTES)),
    message=MESSAGES,
    bit=st.integers(0, 1 << 16),
    cut=st.integers(0, 63),
)
def test_a_changed_mac_never_matches(spec: KeySpec, message: bytes, bit: int, cut: int) -> None:
    """Neither a flipped bit nor a cut MAC matches, nor a changed message, nor another key."""
    key = MacKey.generate(spec, os.urandom)
    mac = key.compute(message)
    assert key.matches(message, mac)
    assert not key.matches(message, flip(mac, bit))
    assert not key.matches(flip(message, bit), mac)
    assert not key.matches(message, mac[: cut % len(mac)])
    assert not MacKey.generate(spec, os.urandom).matches(message, mac)


@settings(max_examples=80, deadline=None)
@given(
    spec=st.sampled_from([*ALGORITHMS, *MAC_KEY_BYTES, KeySpec.SYMMETRIC_DEFAULT]),
    bit=st.integers(0, 1 << 16),
)
def test_sealed_keys_open_only_unchanged(spec: KeySpec, bit: int) -> None:
    """Material of every kind comes back from its seal; changed, cut or swapped it doesn't."""
    key: BackingKey | MacKey | PrivateKey
    if spec in ALGORITHMS:
        key = private_key(spec)
    elif spec in MAC_KEY_BYTES:
        key = MacKey.generate(spec, os.urandom)
    else:
        key = BackingKey.generate(os.urandom)

    def unseal(raw: bytes, bound: SealBinding) -> bytes:
        sealed = SealedBackingKey.from_bytes(raw)
        if spec in ALGORITHMS:
            return ROOT.unseal_private_key(sealed, bound, spec).reveal()
        if spec in MAC_KEY_BYTES:
            return ROOT.unseal_mac_key(sealed, bound, spec).reveal()
        return ROOT.unseal(sealed, bound).reveal()

    raw = ROOT.seal(key, binding(spec), os.urandom).to_bytes()
    assert unseal(raw, binding(spec)) == key.reveal()
    assert key.reveal() not in raw
    for damaged in (flip(raw, bit), raw[:-1], raw + b"\x00", raw[:45], b""):
        with pytest.raises(IntegrityError):
            unseal(damaged, binding(spec))
    with pytest.raises(IntegrityError):
        unseal(raw, binding(spec, "cd" * 32))
