"""What a later version has written: told by its version, never changed or dropped; the rest is served on."""

import base64
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import (
    IntegrityError,
    InvalidCiphertextError,
    InvalidGrantTokenError,
    InvalidImportTokenError,
)
from datakeys.keyservice.authz.principal import Principal
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.local.data_directory import DataDirectoryError
from datakeys.keyservice.local.sqlite_store import SqliteStore
from datakeys.keyservice.material.backing_key import SealedBackingKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.grant_tokens import parse_grant_token
from datakeys.keyservice.operations.import_tokens import open_import_token
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.operations.table import VERBS
from datakeys.keyservice.store import format_version
from datakeys.keyservice.store.kubernetes_store import KubernetesStore
from datakeys.keyservice.store.objects_api import ObjectsApi
from datakeys.keyservice.store.root_key_provider import RootKeyError, check_root_key
from datakeys.keyservice.store.watcher import Watcher
from keyservice_rig import CONTROLLER, REGION, Clock, Rig, b64, bound, pod

ROOT = b"r" * 32
NEWER = "format version 2, this key service reads version 1 only: run the version that wrote it"


class Replica:
    """A key service that has just read the Secrets of a cluster in memory."""

    def __init__(self, api: FakeClusterApi) -> None:
        objects, root_key = ObjectsApi(api, "datakey-system"), RootKey(ROOT)
        self.store = KubernetesStore(objects, root_key)
        self.service = Service(Realm(REGION), self.store, root_key, Keyring(root_key), Clock(), os.urandom)
        Watcher(objects, self.store.cache, Clock(0)).list_all()
        self.last: Call | None = None

    def call(
        self, operation: str, by: Principal = CONTROLLER, object_name: str = "", **members: Any
    ) -> dict[str, Any]:
        """Run an operation for team-a."""
        self.last = Call(by, "team-a", members, object_name)
        answer: dict[str, Any] = VERBS[operation].run(self.service, self.last)
        return answer

    def create_key(self, object_name: str = "") -> str:
        """Make a key and return its id."""
        return str(self.call("CreateKey", object_name=object_name)["KeyMetadata"]["KeyId"])

    def encrypt(self, key_id: str) -> str:
        """Return a new encrypted data key."""
        operation = "GenerateDataKeyWithoutPlaintext"
        answer = self.call(operation, KeyId=key_id, KeySpec="AES_256", EncryptionContext=bound())
        return str(answer["CiphertextBlob"])

    def decrypt(self, blob: str) -> bytes:
        """Return a data key, as a pod gets it."""
        answer = self.call("Decrypt", pod(), CiphertextBlob=blob, EncryptionContext=bound())
        return base64.b64decode(answer["Plaintext"])


def rewrite(secret: dict[str, Any], **members: Any) -> None:
    """Change members of a record as a later version would: with its MAC."""
    record = {**read(secret), **members}
    name, raw = secret["metadata"]["name"], json.dumps(record, sort_keys=True).encode()
    mac = RootKey(ROOT).mac_record(len(name).to_bytes(4, "big") + name.encode() + raw)
    secret["data"] = {"record.json": b64(raw), "mac": b64(mac)}


def read(secret: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a record."""
    found: dict[str, Any] = json.loads(base64.b64decode(secret["data"]["record.json"]))
    return found


def test_record_of_a_later_version_is_told_and_left_alone(api: FakeClusterApi) -> None:
    """Neither use, change, recreation nor destruction touches it; other keys are served; it opens later."""
    first = Replica(api)
    newer, other = first.create_key("orders"), first.create_key()
    blobs = [first.encrypt(newer), first.encrypt(other)]
    (name,) = [name for name in api.names() if name.startswith("kmskey-n-")]
    rewrite(api.secret(name), formatVersion=2, purpose="unheard of")
    before = json.dumps(api.secret(name))

    replica = Replica(api)
    assert len(replica.decrypt(blobs[1])) == 32
    for act in (
        lambda: replica.decrypt(blobs[0]),
        lambda: replica.encrypt(newer),
        lambda: replica.call("DisableKey", KeyId=newer),
        lambda: replica.call("ScheduleKeyDeletion", KeyId=newer),
        lambda: replica.create_key("orders"),
    ):
        with pytest.raises(IntegrityError, match=NEWER):
            act()
    assert json.dumps(api.secret(name)) == before

    rewrite(api.secret(name), formatVersion=1)
    assert len(Replica(api).decrypt(blobs[0])) == 32


def test_all_records_of_a_later_version_refuse_the_start(api: FakeClusterApi) -> None:
    """The root key is not to blame, and the text says what is; one of many is no reason not to serve."""
    Replica(api).create_key()
    (name,) = api.names()
    rewrite(api.secret(name), formatVersion=2)
    cache = Replica(api).store.cache
    with pytest.raises(RootKeyError, match="1 stored records have a later format version"):
        check_root_key(cache.record_count, cache.broken_count, cache.newer_count)
    check_root_key(1, 1, 1)


@pytest.mark.parametrize("version", [None, "1", 0, [], 2, 1.5])
def test_only_the_number_one_is_version_one(version: Any) -> None:
    with pytest.raises(format_version.NewerFormatError):
        format_version.check_format_version({"formatVersion": version})


def test_members_that_are_not_known_outlive_a_change_by_this_version(api: FakeClusterApi) -> None:
    """A replica of this version, beside a later one or after it, doesn't drop what the other has added."""
    replica = Replica(api)
    key_id = replica.create_key()
    replica.call("CreateAlias", AliasName="alias/orders", TargetKeyId=key_id)
    grantee = "system:serviceaccount:team-a:app"
    replica.call("CreateGrant", KeyId=key_id, GranteePrincipal=grantee, Operations=["Decrypt"])
    for name in api.names():
        record = read(api.secret(name))
        materials = [{**material, "new": 1} for material in record.get("materials", ())]
        rewrite(api.secret(name), new={"a": [None]}, **({"materials": materials} if materials else {}))
        api.secret(name)["metadata"]["resourceVersion"] = "9999"

    later = Replica(api)
    assert later.store.cache.broken_count == 0
    later.call("DisableKey", KeyId=key_id)
    later.call("UpdateAlias", AliasName="alias/orders", TargetKeyId=later.create_key())
    key = read(api.secret(f"kmskey-{key_id}"))
    (alias,) = [read(api.secret(name)) for name in api.names() if name.startswith("kmsalias")]
    assert (key["state"], key["new"], key["materials"][0]["new"]) == ("Disabled", {"a": [None]}, 1)
    assert (alias["keyId"] != key_id, alias["new"]) == (True, {"a": [None]})
    (grant,) = later.store.list_grants(key_id)
    assert grant.to_json()["new"] == {"a": [None]}


def test_members_that_are_known_are_those_that_are_written(api: FakeClusterApi) -> None:
    """A member that is added to a record, but not to the list of the known ones, would come twice."""
    replica = Replica(api)
    key_id = replica.create_key()
    replica.call("CreateAlias", AliasName="alias/orders", TargetKeyId=key_id)
    grantee = "system:serviceaccount:team-a:app"
    replica.call("CreateGrant", KeyId=key_id, GranteePrincipal=grantee, Operations=["Decrypt"])
    records = {name[:8]: read(api.secret(name)) for name in api.names()}
    assert records["kmskey-" + key_id[0]].keys() == format_version.KEY_MEMBERS
    assert records["kmskey-" + key_id[0]]["materials"][0].keys() == format_version.MATERIAL_MEMBERS
    assert records["kmsalias"].keys() == format_version.ALIAS_MEMBERS
    assert records["kmsgrant"].keys() == format_version.GRANT_MEMBERS


def test_sealed_material_of_a_later_version_is_told() -> None:
    with pytest.raises(IntegrityError, match=NEWER):
        SealedBackingKey.from_bytes(b"\x02" + bytes(76))


def test_blob_of_a_later_version_is_told_to_the_auditor_only(rig: Rig) -> None:
    """The caller gets the one error of all bad ciphertexts."""
    blob = bytearray(base64.b64decode(rig.data_key(rig.create_key())))
    blob[0] = 2
    with pytest.raises(InvalidCiphertextError) as caught:
        rig.call("Decrypt", {"CiphertextBlob": b64(bytes(blob)), "EncryptionContext": bound()}, by=pod())
    assert caught.value.message == ""
    assert rig.last is not None
    assert rig.last.audit.reason == "the ciphertext blob has the unknown format version 2"


def test_grant_token_of_a_later_version_is_told(rig: Rig) -> None:
    """Only a genuine one: of a forged one nothing is believed."""
    content = b"\x02" + bytes(64)
    token = base64.urlsafe_b64encode(content + rig.root_key.mac_grant_token(content)).decode().rstrip("=")
    with pytest.raises(InvalidGrantTokenError, match="format version 2, this key service reads 1 only"):
        parse_grant_token(rig.root_key, token)
    forged = base64.urlsafe_b64encode(content + bytes(32)).decode().rstrip("=")
    with pytest.raises(InvalidGrantTokenError, match="is not valid"):
        parse_grant_token(rig.root_key, forged)


def test_import_token_of_a_later_version_is_told(rig: Rig) -> None:
    key_id = rig.create_key(Origin="EXTERNAL").rpartition("/")[2]
    members = {"KeyId": key_id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    token = base64.b64decode(rig.call("GetParametersForImport", members)["ImportToken"])
    assert open_import_token(rig.root_key, key_id, token, rig.clock())
    with pytest.raises(InvalidImportTokenError, match="format version 2, this key service reads 1 only"):
        open_import_token(rig.root_key, key_id, b"\x02" + token[1:], rig.clock())


def test_database_of_a_later_version_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "here.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (name TEXT)")
        database.execute("PRAGMA user_version = 2")
    database.close()
    before = path.read_bytes()
    with pytest.raises(DataDirectoryError, match="has format 2; this version reads format 1 only"):
        SqliteStore(path, RootKey(ROOT))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["here.sqlite"]


def test_database_with_records_of_a_later_version_only_is_told(tmp_path: Path) -> None:
    path = tmp_path / "here.sqlite"
    store = SqliteStore(path, RootKey(ROOT))
    Rig(store=store, root_secret=ROOT).create_key()
    store.close()
    with sqlite3.connect(path) as database:
        ((body,),) = database.execute("SELECT body FROM records").fetchall()
        secret = json.loads(body)
        rewrite(secret, formatVersion=2)
        database.execute("UPDATE records SET body = ?", (json.dumps(secret),))
    database.close()
    with pytest.raises(DataDirectoryError, match="have a later format version"):
        SqliteStore(path, RootKey(ROOT))
