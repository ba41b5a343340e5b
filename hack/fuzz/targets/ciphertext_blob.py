"""Ciphertext blobs, as anybody may send them to Decrypt: nothing but a blob of the service ever opens."""

import base64
import zlib
from collections.abc import Iterator
from typing import Final

from datakeys.contract.errors import InternalError, InvalidCiphertextError, KmsError
from datakeys.keyservice.material.ciphertext_blob import (
    CHECKSUM_START,
    NONCE_START,
    build_header_prefix,
    parse_blob,
)
from fuzz.target import ROOT_SECRET, FixedRandom, Target, require
from keyservice_rig import Rig, b64, bound, pod

_SIZES: Final = (1, 16, 32, 1024)


class CiphertextBlobTarget(Target):
    """``parse_blob`` and Decrypt."""

    max_bytes = 2048

    def __init__(self) -> None:
        self._rig = Rig(random=FixedRandom(), root_secret=ROOT_SECRET)
        arn = self._rig.create_key()
        self._blobs = [_decode(self._rig.data_key(arn, KeySpec=None, NumberOfBytes=size)) for size in _SIZES]
        self._rig.call("RotateKeyOnDemand", {"KeyId": arn})
        self._blobs.append(_decode(self._rig.data_key(arn)))

    def seeds(self) -> Iterator[bytes]:
        """Return blobs of two versions of a key's material."""
        yield from self._blobs

    def run(self, data: bytes) -> None:
        """Decrypt the input, and the same with the right checksum."""
        self._decrypt(data)
        prefix = data[:CHECKSUM_START]
        self._decrypt(prefix + zlib.crc32(prefix).to_bytes(4, "big") + data[NONCE_START:])

    def _decrypt(self, raw: bytes) -> None:
        try:
            blob = parse_blob(raw)
        except InvalidCiphertextError:
            return
        require(blob.header + blob.payload == raw, "the parts aren't the whole")
        prefix = build_header_prefix(blob.key_id, blob.material_id)
        require(raw.startswith(prefix), "the ids aren't those of the blob", blob.key_id)
        body = {"CiphertextBlob": b64(raw), "EncryptionContext": bound()}
        try:
            self._rig.call("Decrypt", body, by=pod())
        except KmsError as error:
            require(not isinstance(error, InternalError), "an internal error")
        else:
            require(raw in self._blobs, "a forged blob was decrypted")


def _decode(text: str) -> bytes:
    return base64.b64decode(text)


def build() -> CiphertextBlobTarget:
    """Return the target."""
    return CiphertextBlobTarget()
