"""Key material: sealed, hidden, bound to what it belongs to."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from datakeys.contract.errors import IntegrityError, InvalidCiphertextError
from datakeys.keyservice.material.backing_key import BackingKey, SealBinding, SealedBackingKey
from datakeys.keyservice.material.ciphertext_blob import build_header_prefix, parse_blob
from datakeys.keyservice.material.data_key import generate_data_key, generate_data_key_without_plaintext
from datakeys.keyservice.material.derive import KeyDeriver, build_prefix, derive_key
from datakeys.keyservice.material.encryption import EncryptionKey
from datakeys.keyservice.material.identifiers import new_key_id, new_material_id
from datakeys.keyservice.material.root_key import RootKey

KEY_ID = "00112233-4455-4677-8899-aabbccddeeff"
MATERIAL_ID = "ab" * 32
BINDING = SealBinding(KEY_ID, MATERIAL_ID, "team-a", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS")
EMPTY = bytes(4)


def count_up(size: int) -> bytes:
    """Return 0, 1, 2, …: randomness for known answers."""
    return bytes(index % 256 for index in range(size))


def encryption_key() -> EncryptionKey:
    return EncryptionKey(KEY_ID, MATERIAL_ID, BackingKey(b"k" * 32))


@pytest.mark.parametrize("context", [b"", b"c", b"c" * 64, bytes(300)])
def test_derivation_equals_the_library(context: bytes) -> None:
    """One HMAC call gives what the cryptography library's counter-mode KDF gives."""
    library = KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=32,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=b"label",
        context=context,
        fixed=None,
    )
    expected = library.derive(b"s" * 32)
    assert derive_key(b"s" * 32, b"label", context) == expected
    assert KeyDeriver(b"s" * 32, b"label").derive(context) == expected


@pytest.mark.parametrize("label", [b"", b"a\x00b"])
def test_ambiguous_labels_are_refused(label: bytes) -> None:
    """A label that could run into the context is a programmer's error."""
    with pytest.raises(ValueError, match="label"):
        build_prefix(label)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_have_32_bytes(size: int) -> None:
    """Neither a backing key nor a root key takes another length."""
    with pytest.raises(ValueError, match="32 bytes"):
        BackingKey(bytes(size))
    with pytest.raises(ValueError, match="32 bytes"):
        RootKey(bytes(size))


def test_keys_hide_their_bytes() -> None:
    """No repr shows material, and nothing can be pickled or copied."""
    secret = b"CANARY-CANARY-CANARY-CANARY-1234"
    for key in (BackingKey(secret), RootKey(secret), EncryptionKey(KEY_ID, MATERIAL_ID, BackingKey(secret))):
        assert "CANARY" not in repr(key)
        assert secret.hex() not in repr(key)
    for key in (BackingKey(secret), RootKey(secret), EncryptionKey(KEY_ID, MATERIAL_ID, BackingKey(secret))):
        with pytest.raises(TypeError):
            pickle.dumps(key)
        with pytest.raises(TypeError):
            copy.deepcopy(key)


def test_backing_keys_compare_but_do_not_hash() -> None:
    """Equal material is equal; a backing key is no dictionary key."""
    assert BackingKey(b"a" * 32) == BackingKey(b"a" * 32)
    assert BackingKey(b"a" * 32) != BackingKey(b"b" * 32)
    assert BackingKey(b"a" * 32) != b"a" * 32
    with pytest.raises(TypeError):
        hash(BackingKey(b"a" * 32))


def test_only_material_reveals_a_backing_key() -> None:
    """No module outside of material asks a backing key for its bytes."""
    room = Path(__file__).parents[3] / "operator" / "datakeys" / "keyservice"
    callers = [path for path in room.rglob("*.py") if ".reveal(" in path.read_text()]
    assert {path.parent.name for path in callers} == {"material"}


def test_sealed_key_opens_with_its_binding() -> None:
    """Unsealing under the same root key and binding gives the same backing key."""
    root, key = RootKey(b"r" * 32), BackingKey.generate(count_up)
    sealed = SealedBackingKey.from_bytes(root.seal(key, BINDING, count_up).to_bytes())
    assert root.unseal(sealed, BINDING) == key


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SealBinding)])
def test_sealed_key_does_not_open_for_another_record(field: str) -> None:
    """Every single field of the binding is authenticated."""
    root = RootKey(b"r" * 32)
    sealed = root.seal(BackingKey(b"k" * 32), BINDING, count_up)
    with pytest.raises(IntegrityError):
        root.unseal(sealed, dataclasses.replace(BINDING, **{field: "other"}))


def test_binding_has_no_two_readings() -> None:
    """Characters can't move from one field into its neighbour."""
    left = dataclasses.replace(BINDING, account="ab", key_spec="c")
    right = dataclasses.replace(BINDING, account="a", key_spec="bc")
    assert left.to_aad() != right.to_aad()


def test_sealed_key_does_not_open_with_another_root_key() -> None:
    """Another root key is an integrity error, with no detail and no cause."""
    sealed = RootKey(b"r" * 32).seal(BackingKey(b"k" * 32), BINDING, count_up)
    with pytest.raises(IntegrityError) as caught:
        RootKey(b"s" * 32).unseal(sealed, BINDING)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("position", range(77))
def test_any_changed_byte_of_a_sealed_key_is_noticed(position: int) -> None:
    """Version, nonce, IV, wrapped key and tag are all authenticated."""
    root = RootKey(b"r" * 32)
    raw = bytearray(root.seal(BackingKey(b"k" * 32), BINDING, count_up).to_bytes())
    raw[position] ^= 1
    with pytest.raises(IntegrityError):
        root.unseal(SealedBackingKey.from_bytes(bytes(raw)), BINDING)


def test_macs_of_different_uses_differ() -> None:
    """A record's MAC is of no use as a grant token's."""
    root = RootKey(b"r" * 32)
    assert root.mac_record(b"m") != root.mac_grant_token(b"m")


def test_blob_layout() -> None:
    """The header holds version, key id, material id, nonce and IV; ciphertext and tag follow."""
    blob = encryption_key().encrypt(b"plaintext", EMPTY, count_up)
    assert blob[:1] == b"\x01"
    assert blob[1:17].hex() == KEY_ID.replace("-", "")
    assert blob[17:49].hex() == MATERIAL_ID
    assert blob[53:81] == count_up(28)
    assert len(blob) == 81 + len(b"plaintext") + 16
    parsed = parse_blob(blob)
    assert (parsed.key_id, parsed.material_id) == (KEY_ID, MATERIAL_ID)
    assert parsed.iv == blob[69:81]


def test_largest_plaintext_fits_into_a_blob() -> None:
    """4096 bytes of plaintext stay below 6144 bytes of ciphertext."""
    key = encryption_key()
    blob = key.encrypt(b"x" * 4096, EMPTY, count_up)
    assert len(blob) <= 6144
    assert key.decrypt(parse_blob(blob), EMPTY) == b"x" * 4096


@pytest.mark.parametrize("size", [0, 4097])
def test_plaintext_sizes_out_of_bounds(size: int) -> None:
    """Zero and more than 4096 bytes are a programmer's error."""
    with pytest.raises(ValueError, match="4096"):
        encryption_key().encrypt(bytes(size), EMPTY, count_up)


@pytest.mark.parametrize("raw", [b"", b"\x01" * 97, b"\x01" * 6145, b"\x00" * 98, b"\x02" * 98])
def test_blobs_of_unknown_format_are_refused(raw: bytes) -> None:
    """Too short, too long and another version are one error with no text."""
    with pytest.raises(InvalidCiphertextError) as caught:
        parse_blob(raw)
    assert caught.value.message == ""


def test_another_context_does_not_decrypt() -> None:
    """The context is authenticated, and the error tells nothing."""
    key = encryption_key()
    blob = parse_blob(key.encrypt(b"p", b"context", count_up))
    with pytest.raises(InvalidCiphertextError) as caught:
        key.decrypt(blob, b"other")
    assert caught.value.message == ""
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("key_id", "material_id"), [("00", MATERIAL_ID), (KEY_ID, "00")])
def test_header_needs_whole_ids(key_id: str, material_id: str) -> None:
    """Ids of another length can't shift the header's layout."""
    with pytest.raises(ValueError, match="16 bytes"):
        build_header_prefix(key_id, material_id)


@pytest.mark.parametrize("size", [1, 16, 32, 1024])
def test_data_key_decrypts_to_its_plaintext(size: int) -> None:
    """The blob of a data key holds exactly the plaintext that came with it."""
    key = encryption_key()
    plaintext, blob = generate_data_key(key, size, EMPTY, count_up)
    assert len(plaintext) == size
    assert key.decrypt(parse_blob(blob), EMPTY) == plaintext


def test_data_key_without_plaintext_is_the_blob_alone() -> None:
    """Only bytes come back, and they hold a key of the asked length."""
    key = encryption_key()
    blob = generate_data_key_without_plaintext(key, 24, EMPTY, count_up)
    assert len(key.decrypt(parse_blob(blob), EMPTY)) == 24


@pytest.mark.parametrize("size", [0, 1025])
def test_data_key_sizes_out_of_bounds(size: int) -> None:
    """Zero and more than 1024 bytes are a programmer's error."""
    with pytest.raises(ValueError, match="1024"):
        generate_data_key(encryption_key(), size, EMPTY, count_up)


def test_identifiers() -> None:
    """Key ids are version-4 UUIDs, material ids 64 hex characters."""
    assert new_key_id(count_up) == "00010203-0405-4607-8809-0a0b0c0d0e0f"
    assert new_material_id(count_up) == count_up(32).hex()
