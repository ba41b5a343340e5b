"""What the key service has stored and given out works for ever: records, tokens, databases, certificates.

The vectors are made by hack/generate_vectors.py, once for each format.
"""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.keyservice.authz.rbac import FixedAuthorizer
from datakeys.keyservice.local.data_directory import DataDirectory
from datakeys.keyservice.local.sqlite_store import SqliteStore
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.grant_tokens import parse_grant_token
from datakeys.keyservice.pki.authority import Lifetimes
from datakeys.keyservice.pki.certificates import Certificates
from datakeys.keyservice.store import codec
from datakeys.keyservice.store.memory import MemoryStore
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi
from datakeys.keyservice.store.records import KeyRecord
from keyservice_rig import Clock, Rig, account

VECTORS: Final = Path(__file__).parents[2] / "vectors"
STORED: Final = json.loads((VECTORS / "keyservice-v1.json").read_text())
ROOT_SECRET: Final = bytes.fromhex(STORED["rootKey"])
USER: Final = account()
READER: Final = account(service_account="reader")


def build_rig(store: MemoryStore) -> Rig:
    """Return the operations on stored records, at the time at which they were made."""
    rig = Rig(store=store, root_secret=ROOT_SECRET, clock=Clock(STORED["now"]))
    rig.service = replace(rig.service, authorizer=FixedAuthorizer(allowed=True))
    return rig


def read_records() -> MemoryStore:
    """Return the records as a replica reads them from a cluster's Secrets."""
    store = MemoryStore()
    for secret in STORED["secrets"]:
        store.index.put(codec.decode(RootKey(ROOT_SECRET), secret))
    return store


def open_database(tmp_path: Path) -> MemoryStore:
    """Return the records as the local mode reads them from its data directory."""
    folder = tmp_path / "local"
    shutil.copytree(VECTORS / "local-v1", folder)
    (folder / "root.key").chmod(0o600)
    directory = DataDirectory(folder)
    root_key = directory.load_root_key(lambda _: b"")
    (region,) = directory.list_regions()
    return SqliteStore(directory.database(region), root_key)


@pytest.fixture(params=["secrets", "database"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Return the operations on stored records."""
    return build_rig(read_records() if request.param == "secrets" else open_database(tmp_path))


def decrypt(rig: Rig, case: dict[str, str]) -> bytes:
    """Return a plaintext."""
    body = {"CiphertextBlob": case["ciphertextBlob"], "EncryptionContext": {"a": "b"}}
    return base64.b64decode(rig.call("Decrypt", body, by=USER)["Plaintext"])


def test_ciphertexts_of_each_material_decrypt(stored: Rig) -> None:
    """Before and after a rotation, and under imported material."""
    for case in STORED["ciphertexts"]:
        assert decrypt(stored, case) == base64.b64decode(case["plaintext"])


def test_signatures_macs_and_asymmetric_ciphertexts_hold(stored: Rig) -> None:
    """Private keys and HMAC keys of each kind open, and are those that were used then."""
    for body in STORED["signatures"]:
        assert stored.call("Verify", body, by=USER)["SignatureValid"] is True
        again = {name: value for name, value in body.items() if name != "Signature"}
        assert stored.call("Sign", again, by=USER)["Signature"]
    for body in STORED["macs"]:
        assert stored.call("VerifyMac", body, by=USER)["MacValid"] is True
    for body in STORED["rsa"]:
        assert stored.call("Decrypt", body, by=USER)["Plaintext"] == STORED["message"]


def test_names_states_and_settings_are_what_they_were(stored: Rig) -> None:
    """Alias, tags, policy, rotation and key states of stored records are read."""
    arn = STORED["ciphertexts"][0]["keyArn"]
    assert stored.call("DescribeKey", {"KeyId": "alias/orders"})["KeyMetadata"]["Arn"] == arn
    assert stored.call("ListResourceTags", {"KeyId": arn})["Tags"] == [{"TagKey": "team", "TagValue": "shop"}]
    rotation = stored.call("GetKeyRotationStatus", {"KeyId": arn})
    assert (rotation["KeyRotationEnabled"], rotation["RotationPeriodInDays"]) == (True, 90)
    assert len(stored.call("ListKeyRotations", {"KeyId": arn})["Rotations"]) == 1
    states = [
        stored.call("DescribeKey", {"KeyId": key["KeyId"]})["KeyMetadata"]["KeyState"]
        for key in stored.call("ListKeys")["Keys"]
    ]
    assert sorted(set(states)) == ["Disabled", "Enabled", "PendingDeletion"]
    assert len(states) == 13


def test_grants_and_their_tokens_hold(stored: Rig) -> None:
    """A token names its grant, and the grant lets its grantee decrypt what its constraint says."""
    for grant in STORED["grants"]:
        key_id, grant_id = parse_grant_token(stored.root_key, grant["GrantToken"])
        assert (key_id, grant_id) == (grant["keyArn"].rpartition("/")[2], grant["GrantId"])
        assert stored.store.find_grant(key_id, grant_id) is not None
    stored.service = replace(stored.service, authorizer=FixedAuthorizer(allowed=False))
    case = STORED["ciphertexts"][1]
    tokens = [grant["GrantToken"] for grant in STORED["grants"]]
    body = {"CiphertextBlob": case["ciphertextBlob"], "EncryptionContext": {"a": "b"}, "GrantTokens": tokens}
    assert stored.call("Decrypt", body, by=READER)["Plaintext"] == case["plaintext"]


def test_import_token_and_fingerprint_hold(stored: Rig) -> None:
    """Material that was deleted comes back with the token of then, and is known for the same."""
    body = STORED["import"]
    stored.call("DeleteImportedKeyMaterial", {"KeyId": body["KeyId"]})
    stored.call("ImportKeyMaterial", body)
    case = STORED["ciphertexts"][2]
    assert decrypt(stored, case) == base64.b64decode(case["plaintext"])


def test_record_from_before_policies_rotation_and_import_is_read() -> None:
    """What it lacks is what it was: the default policy, no rotation, material of this service."""
    store = read_records()
    (secret,) = STORED["firstForm"]
    record = codec.decode(RootKey(ROOT_SECRET), secret)
    assert isinstance(record, KeyRecord)
    assert (record.policy, record.next_rotation_at, record.materials[0].imported) == ("", None, False)
    store.index.put(record)
    (case,) = [body for body in STORED["macs"] if body["KeyId"].endswith(record.key_id)]
    assert build_rig(store).call("VerifyMac", case, by=USER)["MacValid"] is True


def test_certificates_are_served_on() -> None:
    """Neither a CA nor a leaf is made anew, and nothing is written."""
    stored = json.loads((VECTORS / "pki-v1.json").read_text())
    api = FakeClusterApi()
    for item in stored["objects"]:
        api.objects[item["plural"], item["body"]["metadata"]["name"]] = item["body"]
    before = json.dumps(sorted(api.objects.items()))
    clock = Clock(stored["now"] + 1)
    objects = ObjectsApi(api, "datakey-system"), ObjectsApi(api, "datakey-system", CONFIG_MAPS)
    served = Certificates(*objects, clock, clock, Lifetimes()).ensure()
    tls = api.secret("datakeys-keyservice-tls")["data"]
    assert served.leaf.certificate_pem == base64.b64decode(tls["tls.crt"]).decode()
    assert json.dumps(sorted(api.objects.items())) == before
    assert {method for method, _ in api.calls} == {"GET"}


def test_markers_of_lists_hold(stored: Rig) -> None:
    """A list goes on with another replica's marker, whatever its version: it is a sort key in base64url."""
    page = stored.call("ListKeys", {"Limit": 5})
    assert base64.urlsafe_b64decode(page["NextMarker"]).decode() == page["Keys"][-1]["KeyId"]
    rest = stored.call("ListKeys", {"Marker": page["NextMarker"]})
    assert len(page["Keys"]) + len(rest["Keys"]) == 13
