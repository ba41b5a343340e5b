"""Whatever is encrypted comes back, and only whole, only under its context, only under its key."""

import base64
import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datakeys.contract.encryption_context import canonical_bytes
from datakeys.contract.errors import IntegrityError, InvalidCiphertextError
from datakeys.keyservice.material.backing_key import BackingKey, SealBinding, SealedBackingKey
from datakeys.keyservice.material.ciphertext_blob import parse_blob
from datakeys.keyservice.material.encryption import EncryptionKey
from datakeys.keyservice.material.identifiers import new_key_id, new_material_id
from datakeys.keyservice.material.root_key import RootKey
from keyservice_rig import Rig, b64, bound, pod

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CONTEXTS = st.dictionaries(TEXT, TEXT, max_size=5)
PLAINTEXTS = st.binary(min_size=1, max_size=4096)
RIG = Rig()
ARN = RIG.create_key()
BLOB = RIG.data_key(ARN)
KEY = EncryptionKey(new_key_id(os.urandom), new_material_id(os.urandom), BackingKey(os.urandom(32)))


def fails(raw: bytes, context: dict[str, str]) -> None:
    """Check that a blob is refused with the one error that has no text."""
    with pytest.raises(InvalidCiphertextError) as caught:
        KEY.decrypt(parse_blob(raw), canonical_bytes(context))
    assert caught.value.message == ""
    assert caught.value.args == ("",)


@given(PLAINTEXTS, CONTEXTS)
def test_round_trip(plaintext: bytes, context: dict[str, str]) -> None:
    """Decrypt gives back what Encrypt got; the blob fits the limit."""
    blob = KEY.encrypt(plaintext, canonical_bytes(context), os.urandom)
    assert len(blob) == len(plaintext) + 97 <= 6144
    assert KEY.decrypt(parse_blob(blob), canonical_bytes(context)) == plaintext


@given(PLAINTEXTS, CONTEXTS, st.data())
def test_any_flipped_bit_fails(plaintext: bytes, context: dict[str, str], data: st.DataObject) -> None:
    """One bit anywhere, header included."""
    raw = bytearray(KEY.encrypt(plaintext, canonical_bytes(context), os.urandom))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    fails(bytes(raw), context)


@given(PLAINTEXTS, CONTEXTS, st.data())
def test_any_missing_part_fails(plaintext: bytes, context: dict[str, str], data: st.DataObject) -> None:
    """Bytes cut out of the blob, wherever."""
    raw = KEY.encrypt(plaintext, canonical_bytes(context), os.urandom)
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    fails(raw[:start] + raw[end:], context)


@given(PLAINTEXTS, CONTEXTS, st.binary(min_size=1, max_size=40))
def test_any_appended_bytes_fail(plaintext: bytes, context: dict[str, str], more: bytes) -> None:
    """Bytes behind the tag."""
    fails(KEY.encrypt(plaintext, canonical_bytes(context), os.urandom) + more, context)


@given(PLAINTEXTS, CONTEXTS, CONTEXTS)
def test_any_other_context_fails(plaintext: bytes, context: dict[str, str], other: dict[str, str]) -> None:
    """Another context, however alike."""
    assume(context != other)
    fails(KEY.encrypt(plaintext, canonical_bytes(context), os.urandom), other)


@given(st.binary(max_size=6200))
def test_random_bytes_are_no_blob(raw: bytes) -> None:
    """Whatever arrives is refused, never another exception."""
    fails(raw, {})
    fails(b"\x01" + raw, {})


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=50)
def test_sealed_key_opens_only_for_its_account(account: str, other: str) -> None:
    """The binding separates every two accounts."""
    try:
        account.encode(), other.encode()
    except UnicodeEncodeError:
        assume(condition=False)
    root, key = RootKey(b"r" * 32), BackingKey(os.urandom(32))
    binding, foreign = (SealBinding("k", "m", name, "s", "u", "o") for name in (account, other))
    sealed = SealedBackingKey.from_bytes(root.seal(key, binding, os.urandom).to_bytes())
    assert root.unseal(sealed, binding) == key
    if account != other:
        with pytest.raises(IntegrityError):
            root.unseal(sealed, foreign)


@given(st.data())
def test_any_flipped_bit_has_one_answer(data: st.DataObject) -> None:
    """Through the whole operation, with and without KeyId: InvalidCiphertext, nothing else."""
    raw = bytearray(base64.b64decode(BLOB))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    members = data.draw(st.sampled_from([{}, {"KeyId": ARN}]))
    body = {"CiphertextBlob": b64(bytes(raw)), "EncryptionContext": bound(), **members}
    with pytest.raises(InvalidCiphertextError) as caught:
        RIG.call("Decrypt", body, by=pod())
    assert caught.value.message == ""
