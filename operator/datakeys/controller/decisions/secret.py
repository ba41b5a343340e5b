"""The Secret that carries an encrypted data key: how it is built and how it is recognised.

Zone: ciphertext only, no I/O.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from datakeys.contract.arn import Arn
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.identity import (
    API_VERSION,
    LABEL_MANAGED_BY,
    LABEL_REQUEST,
    MANAGED_BY,
    SECRET_TYPE,
)
from datakeys.controller.decisions.data_key_versions import DataKeyVersion
from datakeys.controller.decisions.request_view import RequestView


@dataclass(frozen=True, slots=True)
class SecretView:
    """A Secret of a name that a request wants, whoever made it.

    Attributes:
        uid: Its UID: a Secret of the same name that was made anew has another one.
        owner_uid: UID of the controlling DataKeyRequest, or None.
        digest: SHA-256 over the data, so that contents can be compared without being kept.
        encrypted: The parsed content; None if it can't be parsed, or in the watch's memory, which drops it.
    """

    name: str
    uid: str
    resource_version: str
    owner_uid: str | None
    digest: bytes
    encrypted: EncryptedDataKey | None


def build_secret(request: RequestView, version: DataKeyVersion) -> dict[str, Any]:
    """Return the Secret of one version; the same arguments give the same object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": version.secret_name,
            "namespace": request.key.namespace,
            "labels": {LABEL_REQUEST: request.key.name, LABEL_MANAGED_BY: MANAGED_BY},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "DataKeyRequest",
                    "name": request.key.name,
                    "uid": request.uid,
                    "controller": True,
                }
            ],
        },
        "type": SECRET_TYPE,
        "immutable": True,
        "data": version.encrypted.to_secret_data(),
    }


def parse_secret(body: Mapping[str, Any], *, with_content: bool = True) -> SecretView:
    """Return the view of any Secret; its content is untrusted, and parsed only if it is wanted."""
    metadata, data = body["metadata"], body.get("data") or {}
    return SecretView(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        resource_version=metadata["resourceVersion"],
        owner_uid=find_owner_uid(metadata),
        digest=digest_of(data),
        encrypted=_parse_content(body, data) if with_content else None,
    )


def find_owner_uid(metadata: Mapping[str, Any]) -> str | None:
    """Return the UID of the DataKeyRequest that controls an object, or None."""
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller") and (owner.get("apiVersion"), owner.get("kind")) == (
            API_VERSION,
            "DataKeyRequest",
        ):
            return str(owner.get("uid"))
    return None


def digest_of(data: Mapping[str, str]) -> bytes:
    """Return 32 bytes that stand for a Secret's ``data``."""
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).digest()


def _parse_content(body: Mapping[str, Any], data: Mapping[str, str]) -> EncryptedDataKey | None:
    if body.get("type") != SECRET_TYPE:
        return None
    try:
        encrypted = EncryptedDataKey.from_secret_data(data)
        Arn.parse(encrypted.key_arn)
    except ValueError:
        return None
    return encrypted
