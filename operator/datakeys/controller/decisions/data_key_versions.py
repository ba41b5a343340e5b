"""The versions of a data key as a status holds them. Zone: ciphertext only, no I/O."""

import base64
import binascii
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datakeys.contract.data_key_versions import FIRST_VERSION, build_version_secret_name
from datakeys.contract.encrypted_data_key import EncryptedDataKey


@dataclass(frozen=True, slots=True)
class DataKeyVersion:
    """One version of a data key.

    Attributes:
        number: 1 or more.
        former: The same data key as it was encrypted before the last re-encryption, or None.
    """

    number: int
    secret_name: str
    encrypted: EncryptedDataKey
    former: EncryptedDataKey | None = None

    def re_encrypted(self, encrypted: EncryptedDataKey) -> "DataKeyVersion":
        """Return the version with a new ciphertext of the same data key."""
        return replace(self, encrypted=encrypted, former=self.encrypted)


def parse_versions(
    status: Mapping[str, Any], *, secret_name: str, context: Mapping[str, str]
) -> tuple[DataKeyVersion, ...]:
    """Return the versions that a status holds, in their order; the last one is the current one.

    Args:
        status: The status of a DataKeyRequest.
        secret_name: The Secret of version 1.
        context: The full encryption context, the same for all versions.

    Raises:
        ValueError: It holds something that can't be read; the text never tells what.
    """
    if not status.get("ciphertextBlob"):
        if status.get("previousVersions"):
            raise ValueError("the current version is missing")
        return ()
    current = {**status, "version": status.get("version", FIRST_VERSION)}
    members = [*(status.get("previousVersions") or ()), current]
    versions = tuple(
        sorted((_parse(it, secret_name, context) for it in members), key=lambda version: version.number)
    )
    if [version.number for version in versions] != list(range(FIRST_VERSION, len(versions) + 1)):
        raise ValueError("a version is missing")
    return versions


def build_version_fields(versions: Sequence[DataKeyVersion]) -> dict[str, Any]:
    """Return the fields of a status that hold these versions, at least one; None removes a field."""
    *previous, current = versions
    return {
        "version": current.number,
        **_build(current),
        "secretRef": {"name": current.secret_name},
        "previousVersions": [
            {
                "version": version.number,
                "secretName": version.secret_name,
                **{name: value for name, value in _build(version).items() if value is not None},
            }
            for version in previous
        ]
        or None,
    }


def find_outdated(
    versions: Iterable[DataKeyVersion], *, key_arn: str, material_id: str
) -> tuple[DataKeyVersion, ...]:
    """Return the versions under another material of a KMS key than the given one."""
    return tuple(
        version
        for version in versions
        if version.encrypted.key_arn == key_arn and version.encrypted.key_material_id != material_id
    )


def _parse(member: Mapping[str, Any], secret_name: str, context: Mapping[str, str]) -> DataKeyVersion:
    number, key_arn = int(member["version"]), member.get("keyId")
    encrypted = _parse_encrypted(member.get("ciphertextBlob"), key_arn, member.get("keyMaterialId"), context)
    former = None
    if member.get("formerCiphertextBlob"):
        former = _parse_encrypted(
            member["formerCiphertextBlob"], key_arn, member.get("formerKeyMaterialId"), context
        )
    return DataKeyVersion(number, build_version_secret_name(secret_name, number), encrypted, former)


def _parse_encrypted(
    text: Any,  # noqa: ANN401 - JSON
    key_arn: str | None,
    material_id: str | None,
    context: Mapping[str, str],
) -> EncryptedDataKey:
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError):
        raise ValueError("a ciphertext isn't base64") from None
    if not blob or not key_arn or not material_id:
        raise ValueError("a member is missing")
    # Thousands of requests share the names of few keys.
    return EncryptedDataKey(blob, sys.intern(key_arn), sys.intern(material_id), context)


def _build(version: DataKeyVersion) -> dict[str, Any]:
    encrypted, former = version.encrypted, version.former
    return {
        "ciphertextBlob": base64.b64encode(encrypted.ciphertext_blob).decode(),
        "keyId": encrypted.key_arn,
        "keyMaterialId": encrypted.key_material_id,
        "formerCiphertextBlob": former and base64.b64encode(former.ciphertext_blob).decode(),
        "formerKeyMaterialId": former and former.key_material_id,
    }
