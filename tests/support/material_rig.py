"""Key material over time: wrapped as a customer does, rotated and expired by the task, on several replicas.

Zone: tests. Wrapping uses the cryptography library and knows nothing of the service.
"""

import base64
import os
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from cluster_api_fake import FakeClusterApi
from datakeys.contract.key_types import KeyState
from datakeys.keyservice.material.import_wrapping import WrappingAlgorithm, WrappingKey, WrappingKeySpec
from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.operations.import_tokens import ImportParameters, build_import_token
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.store.kubernetes_store import KubernetesStore
from datakeys.keyservice.store.objects_api import ObjectsApi
from datakeys.keyservice.store.schedule import ScheduledTask
from datakeys.keyservice.store.watcher import Watcher
from keyservice_rig import SYSTEM_NAMESPACE, Rig, b64, bound, pod

DAY = 86_400
#: What RSA_2048 takes with SHA-256.
MAX_OAEP_BYTES = 190
FOREVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


def oaep(algorithm: str) -> padding.OAEP:
    """Return the padding that an algorithm's name says."""
    digest = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()  # noqa: S303 - as the API names it
    return padding.OAEP(padding.MGF1(digest), digest, None)


def wrap(public_key: bytes, algorithm: str, material: bytes, *, aes_key_bytes: int = 32) -> bytes:
    """Return material under a public key in DER."""
    public = serialization.load_der_public_key(public_key)
    assert isinstance(public, rsa.RSAPublicKey)
    if algorithm.startswith("RSAES"):
        return public.encrypt(material, oaep(algorithm))
    aes_key = os.urandom(aes_key_bytes)
    return public.encrypt(aes_key, oaep(algorithm)) + aes_key_wrap_with_padding(aes_key, material)


def create_external_key(rig: Rig, **members: Any) -> str:
    """Return the ARN of a key that waits for its material."""
    return rig.create_key(Origin="EXTERNAL", **members)


def fetch_parameters(
    rig: Rig, arn: str, algorithm: str = "RSAES_OAEP_SHA_256", spec: str = "RSA_2048"
) -> dict[str, Any]:
    """Return the answer of GetParametersForImport."""
    body = {"KeyId": arn, "WrappingAlgorithm": algorithm, "WrappingKeySpec": spec}
    return rig.call("GetParametersForImport", body)


def build_import(
    arn: str,
    parameters: dict[str, Any],
    material: bytes,
    algorithm: str = "RSAES_OAEP_SHA_256",
    **members: Any,
) -> dict[str, Any]:
    """Return the body of ImportKeyMaterial; material stays for ever unless ``members`` say otherwise."""
    wrapped = wrap(base64.b64decode(parameters["PublicKey"]), algorithm, material)
    expiry = {} if {"ValidTo", "ExpirationModel"} & set(members) else FOREVER
    token = parameters["ImportToken"]
    return {"KeyId": arn, "ImportToken": token, "EncryptedKeyMaterial": b64(wrapped), **expiry, **members}


@cache
def _wrapping_pair() -> tuple[WrappingKey, bytes]:
    return WrappingKey.generate(WrappingKeySpec.RSA_2048)


def import_material(rig: Rig, arn: str, material: bytes, **members: Any) -> str:
    """Import material and return its id, if it has one; GetParametersForImport's key pair is spared."""
    private, public = _wrapping_pair()
    algorithm = "RSAES_OAEP_SHA_256" if len(material) <= MAX_OAEP_BYTES else "RSA_AES_KEY_WRAP_SHA_256"
    parameters = ImportParameters(WrappingAlgorithm(algorithm), private)
    valid_to = rig.clock() + DAY
    token = build_import_token(rig.root_key, arn.rpartition("/")[2], parameters, valid_to, os.urandom)
    answer = {"ImportToken": b64(token), "PublicKey": b64(public)}
    body = build_import(arn, answer, material, algorithm, **members)
    return str(rig.call("ImportKeyMaterial", body).get("KeyMaterialId", ""))


def key_state(rig: Rig, arn: str) -> str:
    """Return what DescribeKey says."""
    return str(rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["KeyState"])


def set_state(rig: Rig, arn: str, state: str) -> None:
    """Put a key into a state, however it could get there."""
    deletion_at = rig.clock() + 1000 if state == "PendingDeletion" else None
    rig.store.update_key(
        arn.rpartition("/")[2],
        lambda record: replace(record, state=KeyState(state), deletion_at=deletion_at),
    )


def make_task(rig: Rig) -> ScheduledTask:
    """Return the task, for `perform_due` only."""
    return ScheduledTask(rig.store, None, rig.clock, build_chores(rig.service))  # type: ignore[arg-type]


def rotations(rig: Rig, arn: str, **members: Any) -> list[dict[str, Any]]:
    """Return the first page of ListKeyRotations."""
    return list(rig.call("ListKeyRotations", {"KeyId": arn, **members})["Rotations"])


def decrypt(rig: Rig, blob: str) -> dict[str, Any]:
    """Decrypt a data key that was made with `Rig.data_key`."""
    return rig.call("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": bound()}, by=pod())


class Replica:
    """A store with its cache, and the task, on a shared cluster."""

    def __init__(self, rig: Rig, api: FakeClusterApi) -> None:
        """Start with an empty cache."""
        objects = ObjectsApi(api, SYSTEM_NAMESPACE)
        self.store = KubernetesStore(objects, rig.root_key)
        self.watcher = Watcher(objects, self.store.cache, rig.clock)
        keyring = Keyring(rig.root_key)
        self.store.cache.index.listeners.append(keyring.forget)
        self.service: Service = replace(rig.service, store=self.store, keyring=keyring)
        chores = build_chores(self.service)
        self.task = ScheduledTask(self.store, None, rig.clock, chores)  # type: ignore[arg-type]
