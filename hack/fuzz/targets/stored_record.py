"""Stored records: a Secret's JSON, or (first line ``kind name``) a record's JSON that has the right MAC."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from datakeys.contract.errors import IntegrityError
from datakeys.keyservice.material.backing_key import SealBinding, SealedBackingKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store.codec import (
    FIELD_MAC,
    FIELD_RECORD,
    KIND_ALIAS,
    KIND_GRANT,
    KIND_KEY,
    LABEL_RECORD,
    decode,
    encode,
)
from datakeys.keyservice.store.records import KeyRecord, Record
from fuzz.target import ROOT_SECRET, FixedRandom, Target, require
from keyservice_rig import SYSTEM_NAMESPACE, Rig

_KINDS: Final = (KIND_KEY, KIND_ALIAS, KIND_GRANT)


class StoredRecordTarget(Target):
    """``decode``, and unsealing what it gives."""

    words = ("formatVersion", "materials", "sealed", "tags", "contextEquals", "SYMMETRIC_DEFAULT", "EXTERNAL")
    has_json = True

    def __init__(self) -> None:
        self._root = RootKey(ROOT_SECRET)

    def seeds(self) -> Iterator[bytes]:
        """Return the records of a key with two versions, its alias and its grant."""
        for record in _make_records():
            secret = encode(self._root, record, SYSTEM_NAMESPACE)
            yield b"secret\n" + json.dumps(secret).encode()
            metadata = secret["metadata"]
            head = f"{metadata['labels'][LABEL_RECORD]} {metadata['name']}\n"
            yield head.encode() + base64.b64decode(secret["data"][FIELD_RECORD])

    def run(self, data: bytes) -> None:
        """Decode a record, and write it again."""
        line, _, raw = data.partition(b"\n")
        kind, _, name = line.decode("latin-1").partition(" ")
        secret = _build_secret(self._root, kind, name, raw) if kind in _KINDS else _load(raw)
        if not isinstance(secret, dict):
            return
        try:
            record = decode(self._root, secret)
        except IntegrityError:
            return
        again = decode(self._root, encode(self._root, record, SYSTEM_NAMESPACE))
        before, after = (json.dumps(one.to_json(), sort_keys=True) for one in (record, again))
        require(before == after, "it doesn't survive", record)
        if isinstance(record, KeyRecord):
            self._unseal(record)

    def _unseal(self, record: KeyRecord) -> None:
        for material in record.materials:
            fields = (record.account, record.key_spec, record.key_usage, record.origin)
            binding = SealBinding(record.key_id, material.material_id, *fields)
            try:
                self._root.unseal(SealedBackingKey.from_bytes(material.sealed), binding)
            except IntegrityError:
                continue


def _build_secret(root: RootKey, kind: str, name: str, raw: bytes) -> dict[str, Any]:
    message = len(name).to_bytes(4, "big") + name.encode() + raw
    return {
        "metadata": {"name": name, "labels": {LABEL_RECORD: kind}},
        "data": {
            FIELD_RECORD: base64.b64encode(raw).decode(),
            FIELD_MAC: base64.b64encode(root.mac_record(message)).decode(),
        },
    }


def _load(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _make_records() -> Iterator[Record]:
    rig = Rig(random=FixedRandom(), root_secret=ROOT_SECRET)
    arn = rig.create_key(Description="é", Tags=[{"TagKey": "a", "TagValue": "b"}])
    rig.call("CreateAlias", {"AliasName": "alias/a", "TargetKeyId": arn})
    rig.call("RotateKeyOnDemand", {"KeyId": arn})
    rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
    rig.grant(arn, "Decrypt", "RetireGrant", Constraints={"EncryptionContextSubset": {"a": "b"}})
    key_id = arn.rpartition("/")[2]
    yield from rig.store.list_keys("team-a")
    yield from rig.store.list_aliases("team-a")
    yield from rig.store.list_grants(key_id)


def build() -> StoredRecordTarget:
    """Return the target."""
    return StoredRecordTarget()
