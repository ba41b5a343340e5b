"""Write vectors of everything that outlives a process, as this version stores it, into ``tests/vectors``.

They are made once per format and kept for ever: a file that exists is never written again. What is in them is
made by the product's own code, with a clock that stands still. Add a file when a format changes, and a test
that reads it.
"""

import base64
import hashlib
import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cluster_api_fake import FakeClusterApi
from controller_fakes import build_request_body
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.controller.decisions.data_key_versions import DataKeyVersion
from datakeys.controller.decisions.request_view import parse_request
from datakeys.controller.decisions.secret import build_secret
from datakeys.controller.decisions.status import build_ready_status
from datakeys.keyservice.authz.rbac import FixedAuthorizer
from datakeys.keyservice.local.sqlite_store import SqliteStore
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.pki.authority import Lifetimes
from datakeys.keyservice.pki.certificates import Certificates
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi
from keyservice_rig import START, Clock, Rig, account, b64
from material_rig import build_import, create_external_key, fetch_parameters

VECTORS: Final = Path(__file__).resolve().parent.parent / "tests" / "vectors"
SOURCE: Final = (
    "Own vectors of format version 1, made by hack/generate_vectors.py and kept for ever: "
    "they may be added to, never changed."
)
ROOT_SECRET: Final = bytes(range(32))
DAY: Final = 86_400
GRANTEE: Final = "reader"
USER: Final = account()
#: Members of a record that its first form didn't have.
LATER_MEMBERS: Final = ("policy", "rotationPeriodDays", "nextRotationAt")
LATER_MATERIAL_MEMBERS: Final = (
    *("rotatedAt", "rotationType", "pending", "imported", "validTo", "description", "fingerprint"),
)


def main() -> None:
    """Write what isn't there yet."""
    database = VECTORS / "local-v1" / "us-east-1.sqlite"
    if not (VECTORS / "keyservice-v1.json").exists():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "us-east-1.sqlite"
            write("keyservice-v1.json", build_keyservice(path))
            if not database.exists():
                database.parent.mkdir(exist_ok=True)
                database.write_bytes(path.read_bytes())
                (database.parent / "root.key").write_bytes(ROOT_SECRET)
    for name, build in (("workload-objects-v1.json", build_workload_objects), ("pki-v1.json", build_pki)):
        if not (VECTORS / name).exists():
            write(name, build())


def write(name: str, content: dict[str, Any]) -> None:
    """Write a file of vectors."""
    (VECTORS / name).write_text(json.dumps({"source": SOURCE, **content}, indent=1) + "\n")


def build_keyservice(path: Path) -> dict[str, Any]:
    """Return records of each kind, and what was made with them; the records are in a database too."""
    store = SqliteStore(path, RootKey(ROOT_SECRET))
    rig = Rig(store=store, root_secret=ROOT_SECRET, clock=Clock(START))
    rig.service = replace(rig.service, authorizer=FixedAuthorizer(allowed=True))
    content = {"rootKey": ROOT_SECRET.hex(), "now": START, **_use_symmetric(rig), **_use_others(rig)}
    store.close()
    with closing(sqlite3.connect(path)) as database:
        secrets = [json.loads(body) for (body,) in database.execute("SELECT body FROM records ORDER BY name")]
    content["secrets"] = secrets
    content["firstForm"] = _build_first_form(secrets)
    return content


def _use_symmetric(rig: Rig) -> dict[str, Any]:
    arn = rig.create_key(Description="orders", Tags=[{"TagKey": "team", "TagValue": "shop"}])
    rig.call("CreateAlias", {"AliasName": "alias/orders", "TargetKeyId": arn})
    rig.call("PutKeyPolicy", {"KeyId": arn, "Policy": rig.call("GetKeyPolicy", {"KeyId": arn})["Policy"]})
    ciphertexts = [_encrypt(rig, arn, b"before any rotation")]
    rig.call("RotateKeyOnDemand", {"KeyId": arn})
    ciphertexts.append(_encrypt(rig, arn, b"after a rotation"))
    rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
    imported = create_external_key(rig)
    expiry: dict[str, Any] = {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": START + DAY}
    body = build_import(imported, fetch_parameters(rig, imported), b"m" * 32, **expiry)
    rig.call("ImportKeyMaterial", body)
    ciphertexts.append(_encrypt(rig, imported, b"under imported material"))
    grants = [
        rig.grant(arn, "Decrypt", to=GRANTEE, Constraints={"EncryptionContextEquals": {"a": "b"}}),
        rig.grant(arn, "Decrypt", "Encrypt", to=GRANTEE, Name="two", RetiringPrincipal=f"{_user(GRANTEE)}"),
    ]
    for state, operation in (("Disabled", "DisableKey"), ("PendingDeletion", "ScheduleKeyDeletion")):
        rig.call(operation, {"KeyId": rig.create_key(Description=state)})
    return {
        "ciphertexts": ciphertexts,
        "grants": [{**grant, "keyArn": arn} for grant in grants],
        "import": body,
    }


def _user(account: str) -> str:
    return f"system:serviceaccount:team-a:{account}"


def _encrypt(rig: Rig, arn: str, plaintext: bytes) -> dict[str, str]:
    body = {"KeyId": arn, "Plaintext": b64(plaintext), "EncryptionContext": {"a": "b"}}
    blob = rig.call("Encrypt", body, by=USER)["CiphertextBlob"]
    return {"keyArn": arn, "ciphertextBlob": blob, "plaintext": b64(plaintext)}


def _use_others(rig: Rig) -> dict[str, Any]:
    message = b64(b"a message")
    signatures, macs, rsa = [], [], []
    for spec, algorithm in (
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
        ("ECC_SECG_P256K1", "ECDSA_SHA_256"),
    ):
        arn = rig.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")
        body = {"KeyId": arn, "Message": message, "SigningAlgorithm": algorithm}
        signatures.append({**body, "Signature": rig.call("Sign", body, by=USER)["Signature"]})
    for spec in ("HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"):
        arn = rig.create_key(KeySpec=spec, KeyUsage="GENERATE_VERIFY_MAC")
        body = {"KeyId": arn, "Message": message, "MacAlgorithm": spec.replace("_", "_SHA_")}
        macs.append({**body, "Mac": rig.call("GenerateMac", body, by=USER)["Mac"]})
    arn = rig.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    body = {"KeyId": arn, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    blob = rig.call("Encrypt", {**body, "Plaintext": message}, by=USER)["CiphertextBlob"]
    rsa.append({**body, "CiphertextBlob": blob})
    return {"message": message, "signatures": signatures, "macs": macs, "rsa": rsa}


def _build_first_form(secrets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a key's record as it was before key policies, rotation and import."""
    for secret in secrets:
        record = json.loads(base64.b64decode(secret["data"]["record.json"]))
        if record.get("keySpec") == "HMAC_256":
            record = {name: value for name, value in record.items() if name not in LATER_MEMBERS}
            record["materials"] = [
                {name: value for name, value in it.items() if name not in LATER_MATERIAL_MEMBERS}
                for it in record["materials"]
            ]
            return [{**secret, "data": _authenticate(secret["metadata"]["name"], record)}]
    raise RuntimeError("there is no HMAC key")


def _authenticate(name: str, record: dict[str, Any]) -> dict[str, str]:
    raw = json.dumps(record, sort_keys=True).encode()
    mac = RootKey(ROOT_SECRET).mac_record(len(name).to_bytes(4, "big") + name.encode() + raw)
    return {"record.json": b64(raw), "mac": b64(mac)}


def build_workload_objects() -> dict[str, Any]:
    """Return DataKeyRequests in their forms, each with its Secrets."""
    now = datetime.fromtimestamp(START, UTC)
    body: dict[str, Any] = build_request_body(encryptionContext={"tenant": "a"})
    uid = "9a5ff3c6-8d6e-4b8e-9d3b-0d6f5f1e0a01"
    body["metadata"] |= {"uid": uid, "resourceVersion": "7", "generation": 1}
    cases = []
    forms: tuple[tuple[str, dict[str, Any], int, bool], ...] = (
        ("before data keys had versions", {}, 1, False),
        ("one version", {}, 1, False),
        ("re-encrypted", {}, 1, True),
        ("three versions, two kept", {"version": 3, "oldestVersion": 2}, 3, False),
    )
    for name, spec, count, former in forms:
        case: dict[str, Any] = {**body, "spec": {**body["spec"], **spec}}
        request = parse_request(case)
        numbers = range(1, count + 1)
        versions = [_build_version(number, request.bound_context, former=former) for number in numbers]
        status = build_ready_status(request, versions, now)
        if name.startswith("before"):
            for later in ("version", "previousVersions", "formerCiphertextBlob", "formerKeyMaterialId"):
                status.pop(later)
        status = {member: value for member, value in status.items() if value is not None}
        secrets = [build_secret(request, version) for version in versions]
        for secret in secrets:
            secret["metadata"] |= {"uid": f"uid-{secret['metadata']['name']}", "resourceVersion": "8"}
        case["status"] = status
        cases.append({"name": name, "request": case, "secrets": secrets})
    return {"cases": cases}


def _build_version(number: int, context: dict[str, str], *, former: bool) -> DataKeyVersion:
    arn = f"arn:k8s:kms:cluster-1:shop:key/6ba7b810-9dad-41d1-80b4-00c04fd430c{number}"

    def encrypted(text: str) -> EncryptedDataKey:
        blob = hashlib.sha512(f"{text} {number}".encode()).digest() * 2
        return EncryptedDataKey(blob, arn, hashlib.sha256(text.encode()).hexdigest(), context)

    name = "orders" if number == 1 else f"orders.v{number}"
    return DataKeyVersion(number, name, encrypted("current"), encrypted("former") if former else None)


def build_pki() -> dict[str, Any]:
    """Return the Secrets and the ConfigMap of the certificates."""
    api = FakeClusterApi()
    objects = ObjectsApi(api, "datakey-system"), ObjectsApi(api, "datakey-system", CONFIG_MAPS)
    Certificates(*objects, Clock(START), Clock(START), Lifetimes()).ensure()
    return {
        "now": START,
        "objects": [{"plural": plural, "body": body} for (plural, _), body in sorted(api.objects.items())],
    }


if __name__ == "__main__":
    main()
