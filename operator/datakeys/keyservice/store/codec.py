"""Records as Secrets of the system namespace: names, labels, JSON and its MAC.

Zone: sealed material; the root key is an opaque handle. The MAC covers the Secret's name and the whole JSON,
so an edited or swapped record fails. (An older version of the same record can't be told from the newest: who
can restore Secrets can undo a change, not read a key.) Names: docs/architecture.md, "Objects in the system
namespace".
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from datakeys.contract.errors import IntegrityError
from datakeys.contract.identity import GROUP, LABEL_MANAGED_BY
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.records import AliasRecord, KeyRecord, Record

LABEL_RECORD: Final = f"{GROUP}/record"
LABEL_KEY_ID: Final = f"{GROUP}/key-id"
RECORD_TYPE: Final = f"{GROUP}/record"
FIELD_RECORD: Final = "record.json"
FIELD_MAC: Final = "mac"
MANAGED_BY: Final = "datakeys-keyservice"
KIND_KEY: Final = "key"
KIND_ALIAS: Final = "alias"
KIND_GRANT: Final = "grant"
_HASH_DIGITS: Final = 32


def build_name(record: Record) -> str:
    """Return the name of the Secret that holds a record; what must be unique is in the name."""
    if isinstance(record, KeyRecord):
        if record.object_name:
            return f"kmskey-n-{_hash(f'{record.account}/{record.object_name}')}"
        return f"kmskey-{record.key_id}"
    if isinstance(record, AliasRecord):
        return build_alias_name(record.account, record.name)
    return build_grant_name(record.key_id, record.grant_id)


def build_alias_name(account: str, name: str) -> str:
    """Return the name of an alias's Secret."""
    return f"kmsalias-{_hash(f'{account}/{name}')}"


def build_grant_name(key_id: str, grant_id: str) -> str:
    """Return the name of a grant's Secret."""
    return f"kmsgrant-{_hash(f'{key_id}/{grant_id}')}"


def encode(root_key: RootKey, record: Record, namespace: str) -> dict[str, Any]:
    """Return the Secret of a record."""
    name = build_name(record)
    raw = json.dumps(record.to_json(), sort_keys=True).encode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": RECORD_TYPE,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                LABEL_MANAGED_BY: MANAGED_BY,
                LABEL_RECORD: _kind(record),
                LABEL_KEY_ID: record.key_id,
            },
        },
        "data": {
            FIELD_RECORD: base64.b64encode(raw).decode(),
            FIELD_MAC: base64.b64encode(root_key.mac_record(_mac_message(name, raw))).decode(),
        },
    }


def decode(root_key: RootKey, secret: Mapping[str, Any]) -> Record:
    """Return the record of a Secret.

    Raises:
        IntegrityError: It isn't an authentic record of this name.
    """
    try:
        name = str(secret["metadata"]["name"])
        kind = secret["metadata"]["labels"][LABEL_RECORD]
        raw = base64.b64decode(secret["data"][FIELD_RECORD], validate=True)
        mac = base64.b64decode(secret["data"][FIELD_MAC], validate=True)
        if not hmac.compare_digest(mac, root_key.mac_record(_mac_message(name, raw))):
            raise IntegrityError("a stored record fails authentication")
        record = _parse(kind, json.loads(raw))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise IntegrityError("a stored record is malformed") from None
    if build_name(record) != name:
        raise IntegrityError("a stored record is under a wrong name")
    return record


def _parse(kind: object, data: Mapping[str, Any]) -> Record:
    if kind == KIND_KEY:
        return KeyRecord.from_json(data)
    if kind == KIND_ALIAS:
        return AliasRecord.from_json(data)
    if kind == KIND_GRANT:
        return GrantRecord.from_json(data)
    raise ValueError("unknown kind of record")


def _kind(record: Record) -> str:
    if isinstance(record, KeyRecord):
        return KIND_KEY
    return KIND_ALIAS if isinstance(record, AliasRecord) else KIND_GRANT


def _mac_message(name: str, raw: bytes) -> bytes:
    return len(name).to_bytes(4, "big") + name.encode() + raw


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
