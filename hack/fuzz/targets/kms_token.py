"""Grant tokens and import tokens, as anybody may send them: only the service's own are taken.

The first line says what the rest is: ``grant`` (a token's text), ``content`` (of a grant token, to which the
right MAC is put), or ``import`` (a token's bytes).
"""

import base64
import os
from collections.abc import Iterator
from typing import Final

from datakeys.contract.errors import (
    ExpiredImportTokenError,
    InvalidGrantTokenError,
    InvalidImportTokenError,
)
from datakeys.keyservice.material.import_wrapping import WrappingAlgorithm, WrappingKey, WrappingKeySpec
from datakeys.keyservice.material.root_key import MAC_BYTES, RootKey
from datakeys.keyservice.operations.grant_tokens import build_grant_token, parse_grant_token
from datakeys.keyservice.operations.import_tokens import (
    ImportParameters,
    build_import_token,
    open_import_token,
)
from fuzz.target import ROOT_SECRET, Finding, FixedRandom, Target, require, split_line
from keyservice_rig import START

_KEY_ID: Final = "1234abcd-12ab-34cd-56ef-1234567890ab"
_GRANT_ID: Final = "ab" * 32
_IMPORT_HEADER_BYTES: Final = 26


class KmsTokenTarget(Target):
    """``parse_grant_token`` and ``open_import_token``."""

    max_bytes = 3072

    def __init__(self) -> None:
        self._root = RootKey(ROOT_SECRET)

    def seeds(self) -> Iterator[bytes]:
        """Return a token of each kind."""
        token = build_grant_token(self._root, _KEY_ID, _GRANT_ID, FixedRandom())
        yield b"grant\n" + token.encode()
        yield b"content\n" + _decode(token)[:-MAC_BYTES]
        wrapping_key, _ = WrappingKey.generate(WrappingKeySpec.RSA_2048)
        for algorithm in WrappingAlgorithm:
            for valid_to in (START + 1, START - 1):
                parameters = ImportParameters(algorithm, wrapping_key)
                yield b"import\n" + build_import_token(self._root, _KEY_ID, parameters, valid_to, os.urandom)

    def run(self, data: bytes) -> None:
        """Parse a token."""
        kind, raw = split_line(data)
        if kind == "import":
            self._open(raw)
        elif kind == "content":
            whole = raw + self._root.mac_grant_token(raw)
            self._parse(base64.urlsafe_b64encode(whole).decode().rstrip("="))
        else:
            self._parse(raw.decode("latin-1"))

    def _parse(self, token: str) -> None:
        try:
            key_id, grant_id = parse_grant_token(self._root, token)
        except InvalidGrantTokenError:
            return
        raw = _decode(token)
        require(
            raw[-MAC_BYTES:] == self._root.mac_grant_token(raw[:-MAC_BYTES]), "a forged grant token", token
        )
        spelled = bytes.fromhex(key_id.replace("-", "") + grant_id)
        require(spelled in raw, "the ids aren't those of the token", key_id, grant_id)

    def _open(self, token: bytes) -> None:
        try:
            open_import_token(self._root, _KEY_ID, token, START)
        except (InvalidImportTokenError, ExpiredImportTokenError):
            return
        # What is genuine is so with every one of its bytes.
        for place in {0, 1, 17, 18, _IMPORT_HEADER_BYTES, len(token) - 1}:
            changed = bytearray(token)
            changed[place] ^= 1
            try:
                open_import_token(self._root, _KEY_ID, bytes(changed), START)
            except (InvalidImportTokenError, ExpiredImportTokenError):
                continue
            raise Finding("a changed import token was taken")


def _decode(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def build() -> KmsTokenTarget:
    """Return the target."""
    return KmsTokenTarget()
