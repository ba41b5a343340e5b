"""Wrapping keys and import tokens: what the customer wraps arrives, and nothing else does."""

import base64
import copy
import os
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from datakeys.contract.errors import (
    ExpiredImportTokenError,
    IncorrectKeyMaterialError,
    IntegrityError,
    InvalidCiphertextError,
    InvalidImportTokenError,
)
from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.backing_key import BackingKey
from datakeys.keyservice.material.import_wrapping import (
    IMPORTABLE,
    WrappingAlgorithm,
    WrappingKey,
    WrappingKeySpec,
    parse_material,
)
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.import_tokens import (
    MAX_TOKEN_BYTES,
    ImportParameters,
    build_import_token,
    open_import_token,
)
from material_rig import wrap

KEY_ID = "00112233-4455-4677-8899-aabbccddeeff"
OTHER_ID = "00112233-4455-4677-8899-aabbccddee00"
MATERIAL = bytes(range(32))
ROOT = RootKey(b"r" * 32)
NOW = 1_800_000_000.0
SYMMETRIC = KeySpec.SYMMETRIC_DEFAULT

ALGORITHMS = list(WrappingAlgorithm)
TWO_STEPS = [it for it in ALGORITHMS if it.startswith("RSA_AES")]


@pytest.fixture(scope="module")
def pair() -> tuple[WrappingKey, bytes]:
    return WrappingKey.generate(WrappingKeySpec.RSA_2048)


@pytest.fixture(scope="module")
def largest() -> tuple[WrappingKey, bytes]:
    return WrappingKey.generate(WrappingKeySpec.RSA_4096)


def make_token(key: WrappingKey, valid_to: float = NOW + 60, key_id: str = KEY_ID) -> bytes:
    parameters = ImportParameters(WrappingAlgorithm.RSAES_OAEP_SHA_256, key)
    return build_import_token(ROOT, key_id, parameters, valid_to, os.urandom)


class TestUnwrap:
    """`WrappingKey.unwrap` against the cryptography library and openssl."""

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("spec", list(WrappingKeySpec)[:2])
    def test_round_trip(self, algorithm: WrappingAlgorithm, spec: WrappingKeySpec) -> None:
        """Material comes back byte for byte."""
        private, public = WrappingKey.generate(spec)
        assert private.unwrap(algorithm, wrap(public, algorithm, MATERIAL), SYMMETRIC) == BackingKey(MATERIAL)

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_round_trip_with_the_largest_key(
        self, largest: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm
    ) -> None:
        """Material comes back byte for byte."""
        private, public = largest
        assert private.unwrap(algorithm, wrap(public, algorithm, MATERIAL), SYMMETRIC) == BackingKey(MATERIAL)

    @pytest.mark.parametrize("spec", list(WrappingKeySpec)[:2])
    def test_public_key_has_the_right_size(self, spec: WrappingKeySpec) -> None:
        """The public half is an RSA key of the size that the spec says, exponent 65537."""
        public = serialization.load_der_public_key(WrappingKey.generate(spec)[1])
        assert isinstance(public, rsa.RSAPublicKey)
        assert public.key_size == int(spec[4:])
        assert public.public_numbers().e == 65537

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
    @pytest.mark.parametrize("digest", ["sha1", "sha256"])
    def test_openssl_wraps(self, pair: tuple[WrappingKey, bytes], tmp_path: Path, digest: str) -> None:
        """What the openssl program wraps as AWS's guide says is unwrapped."""
        private, public = pair
        (tmp_path / "public.der").write_bytes(public)
        (tmp_path / "material").write_bytes(MATERIAL)
        command = ["openssl", "pkeyutl", "-encrypt", "-in", "material", "-out", "wrapped"]
        command += ["-inkey", "public.der", "-keyform", "DER", "-pubin"]
        for option in ("rsa_padding_mode:oaep", f"rsa_oaep_md:{digest}", f"rsa_mgf1_md:{digest}"):
            command += ["-pkeyopt", option]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
        algorithm = WrappingAlgorithm(f"RSAES_OAEP_SHA_{digest[3:]}")
        assert private.unwrap(algorithm, (tmp_path / "wrapped").read_bytes(), SYMMETRIC) == BackingKey(
            MATERIAL
        )

    @pytest.mark.parametrize("used", ALGORITHMS)
    @pytest.mark.parametrize("claimed", ALGORITHMS)
    def test_another_algorithm(
        self, pair: tuple[WrappingKey, bytes], used: WrappingAlgorithm, claimed: WrappingAlgorithm
    ) -> None:
        """Only the agreed algorithm opens it."""
        private, public = pair
        if used == claimed:
            return
        with pytest.raises(InvalidCiphertextError):
            private.unwrap(claimed, wrap(public, used, MATERIAL), SYMMETRIC)

    def test_pkcs1_padding(self, pair: tuple[WrappingKey, bytes]) -> None:
        """The old padding is no OAEP."""
        private, public = pair
        loaded = serialization.load_der_public_key(public)
        assert isinstance(loaded, rsa.RSAPublicKey)
        wrapped = loaded.encrypt(MATERIAL, padding.PKCS1v15())
        for algorithm in ALGORITHMS:
            with pytest.raises(InvalidCiphertextError):
                private.unwrap(algorithm, wrapped, SYMMETRIC)

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_another_key(self, pair: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm) -> None:
        """What is wrapped for another pair doesn't open."""
        other = WrappingKey.generate(WrappingKeySpec.RSA_2048)[1]
        with pytest.raises(InvalidCiphertextError):
            pair[0].unwrap(algorithm, wrap(other, algorithm, MATERIAL), SYMMETRIC)

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
    def test_wrong_length(
        self, pair: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm, length: int
    ) -> None:
        """Material that hasn't 32 bytes is incorrect; the text quotes none of it."""
        private, public = pair
        if length == 0 and algorithm in TWO_STEPS:
            return  # RFC 5649 wraps at least one byte
        with pytest.raises(IncorrectKeyMaterialError) as caught:
            private.unwrap(algorithm, wrap(public, algorithm, b"\x5a" * length), SYMMETRIC)
        assert "32 bytes" in caught.value.message
        assert "Z" not in caught.value.message

    @pytest.mark.parametrize("algorithm", TWO_STEPS)
    @pytest.mark.parametrize("aes_key_bytes", [16, 24])
    def test_short_aes_key(
        self, pair: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm, aes_key_bytes: int
    ) -> None:
        """The key in between is an AES-256 key."""
        private, public = pair
        with pytest.raises(InvalidCiphertextError):
            private.unwrap(
                algorithm, wrap(public, algorithm, MATERIAL, aes_key_bytes=aes_key_bytes), SYMMETRIC
            )

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_damage(self, pair: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm) -> None:
        """A cut, longer or flipped ciphertext is one error, without a cause that could tell more."""
        private, public = pair
        good = wrap(public, algorithm, MATERIAL)
        damaged = [good[:n] for n in (1, 16, 255, 256, len(good) - 1) if n < len(good)] + [good + b"x"]
        damaged += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (0, 100, len(good) - 1)]
        for wrapped in damaged:
            with pytest.raises(InvalidCiphertextError) as caught:
                private.unwrap(algorithm, wrapped, SYMMETRIC)
            assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_the_private_key_hides(self, pair: tuple[WrappingKey, bytes]) -> None:
        """Neither repr nor a copy gives the bytes."""
        private = pair[0]
        assert repr(private) == "WrappingKey(hidden)"
        with pytest.raises(TypeError):
            pickle.dumps(private)
        with pytest.raises(TypeError):
            copy.copy(private)


def private_der(spec: str) -> bytes:
    """Return a new private key as a customer has it, PKCS #8 in DER."""
    curves: dict[str, Any] = {
        "P256": ec.SECP256R1,
        "P384": ec.SECP384R1,
        "P521": ec.SECP521R1,
        "P256K1": ec.SECP256K1,
    }
    key: Any
    if spec.startswith("RSA"):
        key = rsa.generate_private_key(65537, int(spec[4:]))
    elif spec.endswith("25519"):
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = ec.generate_private_key(curves[spec.rpartition("_")[2]]())
    return bytes(
        key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


PRIVATE = ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1"]
PRIVATE += ["ECC_NIST_EDWARDS25519"]
MAC = {"HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64}


class TestOtherKeySpecs:
    """Material of asymmetric and HMAC keys."""

    @pytest.mark.parametrize("spec", PRIVATE)
    @pytest.mark.parametrize("algorithm", TWO_STEPS)
    def test_private_keys(
        self, pair: tuple[WrappingKey, bytes], algorithm: WrappingAlgorithm, spec: str
    ) -> None:
        """A wrapped private key arrives, and only as a key of its own spec."""
        private, public = pair
        der = private_der(spec)
        wrapped = wrap(public, algorithm, der)
        assert private.unwrap(algorithm, wrapped, KeySpec(spec)).reveal() == der
        for other in IMPORTABLE - {KeySpec(spec), *map(KeySpec, MAC)}:  # those take any bytes
            with pytest.raises(IncorrectKeyMaterialError):
                private.unwrap(algorithm, wrapped, other)

    @pytest.mark.parametrize("spec", MAC)
    def test_hmac_keys(self, spec: str) -> None:
        """An HMAC key has as many bytes as its hash."""
        secret = os.urandom(MAC[spec])
        assert parse_material(secret, KeySpec(spec)).reveal() == secret
        for length in {0, 1, *MAC.values()} - {MAC[spec]}:
            with pytest.raises(IncorrectKeyMaterialError):
                parse_material(bytes(length), KeySpec(spec))

    @pytest.mark.parametrize("spec", PRIVATE)
    def test_no_private_key(self, spec: str) -> None:
        """Cut, longer, random and public keys are refused; the text quotes nothing of them."""
        der = private_der(spec)
        key = serialization.load_der_private_key(der, None)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for bad in (b"", der[:-1], der[1:], der[: len(der) // 2], os.urandom(64), public):
            with pytest.raises(IncorrectKeyMaterialError) as caught:
                parse_material(bad, KeySpec(spec))
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
            assert len(caught.value.message) < 80

    def test_an_rsa_key_that_is_none(self) -> None:
        """A private key whose numbers don't belong together is refused."""
        der = private_der("RSA_2048")
        for at in range(60, len(der), 130):
            with pytest.raises(IncorrectKeyMaterialError):
                parse_material(der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :], KeySpec.RSA_2048)


class TestTokens:
    """Import tokens."""

    def test_round_trip_on_another_replica(self, pair: tuple[WrappingKey, bytes]) -> None:
        """Who has the root key opens the token; nothing else is needed."""
        private, public = pair
        opened = open_import_token(RootKey(b"r" * 32), KEY_ID, make_token(private), NOW)
        assert opened.algorithm is WrappingAlgorithm.RSAES_OAEP_SHA_256
        wrapped = wrap(public, opened.algorithm, MATERIAL)
        assert opened.wrapping_key.unwrap(opened.algorithm, wrapped, SYMMETRIC) == BackingKey(MATERIAL)

    def test_the_largest_fits(self, largest: tuple[WrappingKey, bytes]) -> None:
        """A token of an RSA_4096 key has at most 6144 bytes, and shows nothing of the private key."""
        token = make_token(largest[0])
        assert len(token) <= MAX_TOKEN_BYTES
        secret = largest[0].reveal()
        for start in range(0, len(secret) - 16, 16):
            assert secret[start : start + 16] not in token
            assert base64.b64encode(secret[start : start + 15]) not in token

    def test_another_key(self, pair: tuple[WrappingKey, bytes]) -> None:
        """A token is for one KMS key."""
        with pytest.raises(InvalidImportTokenError):
            open_import_token(ROOT, OTHER_ID, make_token(pair[0]), NOW)

    def test_another_root_key(self, pair: tuple[WrappingKey, bytes]) -> None:
        """A token of another service is none."""
        with pytest.raises(InvalidImportTokenError):
            open_import_token(RootKey(b"x" * 32), KEY_ID, make_token(pair[0]), NOW)

    @pytest.mark.parametrize(("late", "expired"), [(-0.001, False), (0, True), (1, True), (1e9, True)])
    def test_expiry(self, pair: tuple[WrappingKey, bytes], late: float, *, expired: bool) -> None:
        """It is valid up to its time, not at it."""
        token = make_token(pair[0], NOW)
        if not expired:
            open_import_token(ROOT, KEY_ID, token, NOW + late)
            return
        with pytest.raises(ExpiredImportTokenError):
            open_import_token(ROOT, KEY_ID, token, NOW + late)

    def test_any_flipped_byte(self, pair: tuple[WrappingKey, bytes]) -> None:
        """Key id, algorithm, time and sealed key are authenticated: an edited token is invalid."""
        token = make_token(pair[0])
        for at in [*range(64), len(token) // 2, len(token) - 1]:
            edited = token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :]
            with pytest.raises(InvalidImportTokenError):
                open_import_token(ROOT, KEY_ID, edited, NOW)

    @pytest.mark.parametrize("length", [0, 1, 25, 26, 27, 42, 53, 54, 70])
    def test_cut(self, pair: tuple[WrappingKey, bytes], length: int) -> None:
        """A cut token is invalid."""
        with pytest.raises(InvalidImportTokenError):
            open_import_token(ROOT, KEY_ID, make_token(pair[0])[:length], NOW)

    def test_the_key_of_another_token(self, pair: tuple[WrappingKey, bytes]) -> None:
        """The sealed part of one token doesn't fit the header of another."""
        one, two = make_token(pair[0]), make_token(pair[0], key_id=OTHER_ID)
        with pytest.raises(InvalidImportTokenError):
            open_import_token(ROOT, OTHER_ID, two[:26] + one[26:], NOW)

    def test_sealed_with_other_data(self, pair: tuple[WrappingKey, bytes]) -> None:
        """A wrapping key opens only with what it was bound to."""
        sealed = ROOT.seal_wrapping_key(pair[0], b"a", os.urandom)
        with pytest.raises(IntegrityError):
            ROOT.unseal_wrapping_key(sealed, b"b")


class TestFingerprint:
    """`RootKey.fingerprint_import`."""

    def test_same_bytes_same_key(self) -> None:
        """It depends on bytes and key id, and on nothing else; it is no plain hash."""
        one = ROOT.fingerprint_import(KEY_ID, BackingKey(MATERIAL))
        assert one == RootKey(b"r" * 32).fingerprint_import(KEY_ID, BackingKey(MATERIAL))
        assert len(bytes.fromhex(one)) == 32
        others = {
            ROOT.fingerprint_import(OTHER_ID, BackingKey(MATERIAL)),
            ROOT.fingerprint_import(KEY_ID, BackingKey(MATERIAL[::-1])),
            RootKey(b"x" * 32).fingerprint_import(KEY_ID, BackingKey(MATERIAL)),
        }
        assert len({one, *others}) == 4
