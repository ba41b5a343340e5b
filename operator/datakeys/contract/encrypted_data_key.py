"""The encrypted data key as it travels: in a request's status, in a Secret, in a pod's volume.

Zone: ciphertext only. Controller and webhook write and mount it, the sidecar reads it.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

#: Keys of the Secret's ``data``, and so names of the files in the sidecar's volume.
FIELD_CIPHERTEXT_BLOB: Final = "ciphertextBlob"
FIELD_ENCRYPTION_CONTEXT: Final = "encryptionContext"
FIELD_KEY_ARN: Final = "keyId"
FIELD_KEY_MATERIAL_ID: Final = "keyMaterialId"

MAX_CIPHERTEXT_BYTES: Final = 6144


class EncryptedDataKey(NamedTuple):
    """A data key under a KMS key, and what is needed to ask for its decryption.

    No dataclass: that would load ``inspect``, a quarter of the CPU time in which the sidecar delivers a key.

    Attributes:
        ciphertext_blob: 1..6144 opaque bytes.
        key_arn: ARN of the KMS key that encrypted it.
        key_material_id: 64 hex characters: the material that encrypted it.
        encryption_context: All pairs, the reserved ones included.
    """

    ciphertext_blob: bytes
    key_arn: str
    key_material_id: str
    encryption_context: Mapping[str, str]

    def to_fields(self) -> dict[str, bytes]:
        """Return the fields as bytes: the Secret's decoded ``data``, the files of the volume."""
        context = json.dumps(dict(self.encryption_context), sort_keys=True, ensure_ascii=False)
        return {
            FIELD_CIPHERTEXT_BLOB: self.ciphertext_blob,
            FIELD_ENCRYPTION_CONTEXT: context.encode(),
            FIELD_KEY_ARN: self.key_arn.encode(),
            FIELD_KEY_MATERIAL_ID: self.key_material_id.encode(),
        }

    def to_secret_data(self) -> dict[str, str]:
        """Return the Secret's ``data``: every field in base64."""
        return {name: base64.b64encode(value).decode() for name, value in self.to_fields().items()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, bytes]) -> Self:
        """Parse untrusted fields.

        Raises:
            ValueError: A field is missing or malformed; the text names the field, never its value.
        """
        try:
            blob = fields[FIELD_CIPHERTEXT_BLOB]
            raw_context = fields[FIELD_ENCRYPTION_CONTEXT]
            key_arn = fields[FIELD_KEY_ARN].decode()
            key_material_id = fields[FIELD_KEY_MATERIAL_ID].decode()
        except KeyError as missing:
            raise ValueError(f"field {missing} is missing") from None
        except UnicodeDecodeError:
            raise ValueError(f"field {FIELD_KEY_ARN} or {FIELD_KEY_MATERIAL_ID} isn't UTF-8") from None
        if not 1 <= len(blob) <= MAX_CIPHERTEXT_BYTES:
            raise ValueError(f"field {FIELD_CIPHERTEXT_BLOB} must have 1..{MAX_CIPHERTEXT_BYTES} bytes")
        return cls(blob, key_arn, key_material_id, _parse_context(raw_context))

    @classmethod
    def from_secret_data(cls, data: Mapping[str, str]) -> Self:
        """Parse a Secret's ``data``.

        Raises:
            ValueError: A field is missing or malformed.
        """
        try:
            fields = {name: base64.b64decode(value, validate=True) for name, value in data.items()}
        except (binascii.Error, ValueError, TypeError):
            raise ValueError("a field isn't base64") from None
        return cls.from_fields(fields)


def _parse_context(raw: bytes) -> dict[str, str]:
    try:
        context = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError(f"field {FIELD_ENCRYPTION_CONTEXT} isn't JSON") from None
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise ValueError(f"field {FIELD_ENCRYPTION_CONTEXT} must map strings to strings")
    return context
