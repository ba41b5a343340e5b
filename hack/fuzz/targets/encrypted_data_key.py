"""The files of a Secret (here JSON of texts) as the sidecar reads them: an encrypted data key, or refused."""

import json
from collections.abc import Iterator

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from fuzz.target import Target, require

_KEY = EncryptedDataKey(b"blob", "arn:k8s:kms:c:team-a:key/1", "ab" * 32, {"purpose": "é", "": ""})


class EncryptedDataKeyTarget(Target):
    """``EncryptedDataKey.from_fields`` and ``from_secret_data``."""

    max_bytes = 8192
    words = tuple(_KEY.to_fields())
    has_json = True

    def seeds(self) -> Iterator[bytes]:
        """Return the fields of a good one."""
        yield b"fields\n" + json.dumps({n: v.decode() for n, v in _KEY.to_fields().items()}).encode()
        yield b"secret\n" + json.dumps(_KEY.to_secret_data()).encode()

    def run(self, data: bytes) -> None:
        """Parse the fields; what is parsed is written as it was read."""
        kind, _, raw = data.partition(b"\n")
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError):
            return
        if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
            return
        try:
            if kind == b"secret":
                parsed = EncryptedDataKey.from_secret_data(fields)
            else:
                raws = {name: value.encode("utf-8", "surrogatepass") for name, value in fields.items()}
                parsed = EncryptedDataKey.from_fields(raws)
        except ValueError:
            return
        try:
            written = parsed.to_fields()
        except UnicodeEncodeError:  # a lone surrogate can be spelled in JSON, but isn't a text
            return
        require(EncryptedDataKey.from_fields(written) == parsed, "it doesn't survive", parsed)


def build() -> EncryptedDataKeyTarget:
    """Return the target."""
    return EncryptedDataKeyTarget()
