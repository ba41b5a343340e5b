"""The API server itself refuses every object that breaks a rule, and names the field."""

import copy
import json
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

GROUP, VERSION = "datakeys.dev", "v1alpha1"
UUID = "1234abcd-12ab-34cd-56ef-1234567890ab"

KEY: dict[str, Any] = {}
REQUEST: dict[str, Any] = {
    "keyRef": {"name": "payments"},
    "keySpec": "AES_256",
    "serviceAccountName": "app",
}
ALIAS: dict[str, Any] = {"targetKeyRef": {"name": "payments"}}
GRANT: dict[str, Any] = {
    "keyRef": {"name": "payments"},
    "granteePrincipal": {"serviceAccountName": "app"},
    "operations": ["Decrypt"],
}
KINDS = {
    "kmskeys": ("KmsKey", KEY),
    "datakeyrequests": ("DataKeyRequest", REQUEST),
    "kmsaliases": ("KmsAlias", ALIAS),
    "kmsgrants": ("KmsGrant", GRANT),
}
REMOVE = object()


def _body(plural: str, changes: dict[str, Any]) -> dict[str, Any]:
    kind, base = KINDS[plural]
    spec = copy.deepcopy(base)
    for name, value in changes.items():
        if value is REMOVE:
            del spec[name]
        else:
            spec[name] = value
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "metadata": {"generateName": "x-"},
        "spec": spec,
    }


def _create(api: client.ApiClient, namespace: str, plural: str, changes: dict[str, Any]) -> dict[str, Any]:
    created = client.CustomObjectsApi(api).create_namespaced_custom_object(
        GROUP, VERSION, namespace, plural, _body(plural, changes)
    )
    assert isinstance(created, dict)
    return created


def _patch(
    api: client.ApiClient, namespace: str, plural: str, name: str, body: dict[str, Any], subresource: str = ""
) -> None:
    custom = client.CustomObjectsApi(api)
    patch = getattr(custom, f"patch_namespaced_custom_object{subresource}")
    patch(GROUP, VERSION, namespace, plural, name, body, _content_type="application/merge-patch+json")


def _causes(error: ApiException) -> str:
    status = json.loads(error.body or "{}")
    return " ".join(f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"])


BAD = [
    # KmsKey
    ("kmskeys", {"keySpec": "AES_256"}, "spec.keySpec"),
    ("kmskeys", {"keyUsage": "ENCRYPT"}, "spec.keyUsage"),
    ("kmskeys", {"origin": "AWS"}, "spec.origin"),
    ("kmskeys", {"keyUsage": "SIGN_VERIFY"}, "spec.keyUsage"),
    ("kmskeys", {"keySpec": "RSA_2048", "keyUsage": "GENERATE_VERIFY_MAC"}, "spec.keyUsage"),
    ("kmskeys", {"keySpec": "HMAC_256"}, "spec.keyUsage"),
    ("kmskeys", {"keySpec": "ECC_SECG_P256K1", "keyUsage": "KEY_AGREEMENT"}, "spec.keyUsage"),
    ("kmskeys", {"keySpec": "ML_KEM_768", "keyUsage": "SIGN_VERIFY"}, "spec.keyUsage"),
    ("kmskeys", {"enabled": "yes"}, "spec.enabled"),
    ("kmskeys", {"deletion": {"pendingWindowDays": 6}}, "spec.deletion.pendingWindowDays"),
    ("kmskeys", {"deletion": {"pendingWindowDays": 31}}, "spec.deletion.pendingWindowDays"),
    ("kmskeys", {"rotation": {"enabled": True, "periodDays": 89}}, "spec.rotation.periodDays"),
    ("kmskeys", {"rotation": {"enabled": True, "periodDays": 2561}}, "spec.rotation.periodDays"),
    ("kmskeys", {"origin": "EXTERNAL", "rotation": {"enabled": True}}, "spec.rotation.enabled"),
    (
        "kmskeys",
        {"keySpec": "RSA_2048", "keyUsage": "SIGN_VERIFY", "origin": "AWS_CLOUDHSM"},
        "spec.origin",
    ),
    ("kmskeys", {"tags": {"": "x"}}, "spec.tags"),
    ("kmskeys", {"tags": {"k" * 129: "x"}}, "spec.tags"),
    ("kmskeys", {"tags": {"k": "v" * 257}}, "spec.tags"),
    ("kmskeys", {"description": "d" * 8193}, "spec.description"),
    ("kmskeys", {"policy": ""}, "spec.policy"),
    # DataKeyRequest
    ("datakeyrequests", {"keyId": UUID}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": REMOVE}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": {}}, "spec.keyRef.name"),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": "payments"}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": UUID.upper()}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": ""}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": "alias/a:b"}, "spec.keyId"),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": "alias/" + "a" * 2043}, "spec.keyId"),
    ("datakeyrequests", {"keySpec": REMOVE}, "spec.keySpec"),
    ("datakeyrequests", {"numberOfBytes": 32}, "spec.keySpec"),
    ("datakeyrequests", {"keySpec": "AES_512"}, "spec.keySpec"),
    ("datakeyrequests", {"keySpec": REMOVE, "numberOfBytes": 0}, "spec.numberOfBytes"),
    ("datakeyrequests", {"keySpec": REMOVE, "numberOfBytes": 1025}, "spec.numberOfBytes"),
    ("datakeyrequests", {"keySpec": REMOVE, "numberOfBytes": "32"}, "spec.numberOfBytes"),
    ("datakeyrequests", {"encryptionContext": {"a": 1}}, "spec.encryptionContext"),
    ("datakeyrequests", {"encryptionContext": {"datakeys.dev/namespace": "x"}}, "spec.encryptionContext"),
    ("datakeyrequests", {"encryptionContext": {"DataKeys.dev/x": "x"}}, "spec.encryptionContext"),
    ("datakeyrequests", {"encryptionContext": {str(i): "" for i in range(65)}}, "spec.encryptionContext"),
    ("datakeyrequests", {"grantTokens": ["t"] * 11}, "spec.grantTokens"),
    ("datakeyrequests", {"grantTokens": [""]}, "spec.grantTokens"),
    ("datakeyrequests", {"serviceAccountName": REMOVE}, "spec.serviceAccountName"),
    ("datakeyrequests", {"serviceAccountName": "No_Name"}, "spec.serviceAccountName"),
    ("datakeyrequests", {"secretName": "../x"}, "spec.secretName"),
    ("datakeyrequests", {"workloadRef": {"kind": "Deployment", "name": "a"}}, "spec.workloadRef.apiVersion"),
    ("datakeyrequests", {"dryRun": "true"}, "spec.dryRun"),
    # KmsAlias
    ("kmsaliases", {"aliasName": "payments"}, "spec.aliasName"),
    ("kmsaliases", {"aliasName": "alias/"}, "spec.aliasName"),
    ("kmsaliases", {"aliasName": "alias/aws/x"}, "spec.aliasName"),
    ("kmsaliases", {"aliasName": "alias/" + "a" * 251}, "spec.aliasName"),
    ("kmsaliases", {"targetKeyId": UUID}, "spec.targetKeyRef"),
    ("kmsaliases", {"targetKeyRef": REMOVE}, "spec.targetKeyRef"),
    ("kmsaliases", {"targetKeyRef": REMOVE, "targetKeyId": "alias/other"}, "spec.targetKeyId"),
    # KmsGrant
    ("kmsgrants", {"operations": []}, "spec.operations"),
    ("kmsgrants", {"operations": ["Destroy"]}, "spec.operations"),
    ("kmsgrants", {"operations": ["Decrypt", "Decrypt"]}, "spec.operations"),
    ("kmsgrants", {"granteePrincipal": {}}, "spec.granteePrincipal.serviceAccountName"),
    ("kmsgrants", {"keyRef": REMOVE}, "spec.keyId"),
    (
        "kmsgrants",
        {"constraints": {"encryptionContextEquals": {str(i): "" for i in range(9)}}},
        "spec.constraints.encryptionContextEquals",
    ),
    (
        "kmsgrants",
        {"constraints": {"encryptionContextSubset": {"k": "v" * 385}}},
        "spec.constraints.encryptionContextSubset",
    ),
]


@pytest.mark.parametrize(("plural", "changes", "field"), BAD)
def test_bad_manifest_is_refused_by_the_api_server_naming_the_field(
    api_client: client.ApiClient, namespace: str, plural: str, changes: dict[str, Any], field: str
) -> None:
    """Nothing invalid gets as far as the controller."""
    with pytest.raises(ApiException) as caught:
        _create(api_client, namespace, plural, changes)
    assert caught.value.status == 422
    assert field in _causes(caught.value)


GOOD = [
    ("kmskeys", {}),
    ("kmskeys", {"keySpec": "RSA_4096", "keyUsage": "ENCRYPT_DECRYPT"}),
    ("kmskeys", {"keySpec": "ECC_NIST_P521", "keyUsage": "KEY_AGREEMENT"}),
    ("kmskeys", {"keySpec": "HMAC_512", "keyUsage": "GENERATE_VERIFY_MAC"}),
    ("kmskeys", {"origin": "AWS_CLOUDHSM"}),
    ("kmskeys", {"rotation": {"enabled": True, "periodDays": 90}, "deletion": {"pendingWindowDays": 7}}),
    ("datakeyrequests", {}),
    ("datakeyrequests", {"keySpec": REMOVE, "numberOfBytes": 1024}),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": UUID}),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": "alias/pay/ments_1-x"}),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": f"arn:k8s:kms:prod:team:key/{UUID}"}),
    ("datakeyrequests", {"keyRef": REMOVE, "keyId": "arn:k8s:kms:prod:team:alias/payments"}),
    ("datakeyrequests", {"encryptionContext": {"": "", "purpose": "é"}}),
    ("kmsaliases", {"aliasName": "alias/pay"}),
    ("kmsaliases", {"targetKeyRef": REMOVE, "targetKeyId": UUID}),
    ("kmsgrants", {"constraints": {"encryptionContextEquals": {"a": "b"}}}),
]


@pytest.mark.parametrize(("plural", "changes"), GOOD)
def test_good_manifest_is_accepted(
    api_client: client.ApiClient, namespace: str, plural: str, changes: dict[str, Any]
) -> None:
    """The rules refuse nothing that is valid."""
    assert _create(api_client, namespace, plural, changes)["metadata"]["uid"]


IMMUTABLE = [
    ("kmskeys", {"keySpec": "HMAC_256", "keyUsage": "GENERATE_VERIFY_MAC"}, "spec.keySpec"),
    ("kmskeys", {"origin": "EXTERNAL"}, "spec.origin"),
    ("datakeyrequests", {"serviceAccountName": "other"}, "spec"),
    ("datakeyrequests", {"dryRun": True}, "spec"),
    ("kmsaliases", {"aliasName": "alias/other"}, "spec.aliasName"),
    ("kmsgrants", {"operations": ["Encrypt"]}, "spec"),
]


@pytest.mark.parametrize(("plural", "change", "field"), IMMUTABLE)
def test_immutable_member_can_not_be_changed(
    api_client: client.ApiClient, namespace: str, plural: str, change: dict[str, Any], field: str
) -> None:
    """What a ciphertext depends on is fixed at creation."""
    name = _create(api_client, namespace, plural, {})["metadata"]["name"]
    with pytest.raises(ApiException) as caught:
        _patch(api_client, namespace, plural, name, {"spec": change})
    assert caught.value.status == 422
    assert field in _causes(caught.value)


@pytest.mark.parametrize(
    "status",
    [{"ciphertextBlob": "b3RoZXI="}, {"ciphertextBlob": None}, None],
    ids=["changed", "removed", "whole status removed"],
)
def test_ciphertext_in_the_status_can_not_be_lost(
    api_client: client.ApiClient, namespace: str, status: dict[str, Any] | None
) -> None:
    """Once a ciphertext exists, not even an administrator overwrites it by mistake."""
    name = _create(api_client, namespace, "datakeyrequests", {})["metadata"]["name"]
    blob = {"status": {"ciphertextBlob": "Zmlyc3Q="}}
    _patch(api_client, namespace, "datakeyrequests", name, blob, "_status")
    with pytest.raises(ApiException) as caught:
        _patch(api_client, namespace, "datakeyrequests", name, {"status": status}, "_status")
    assert caught.value.status == 422
    assert "ciphertextBlob" in _causes(caught.value)


def test_spec_patch_can_not_touch_the_status(api_client: client.ApiClient, namespace: str) -> None:
    """A user who may edit objects can't forge a status: it is a subresource."""
    name = _create(api_client, namespace, "kmskeys", {})["metadata"]["name"]
    _patch(api_client, namespace, "kmskeys", name, {"status": {"keyState": "Enabled"}})
    stored = client.CustomObjectsApi(api_client).get_namespaced_custom_object(
        GROUP, VERSION, namespace, "kmskeys", name
    )
    assert isinstance(stored, dict)
    assert "status" not in stored


@pytest.mark.parametrize(("length", "accepted"), [(63, True), (64, False)])
def test_a_requests_name_must_fit_a_label(
    api_client: client.ApiClient, namespace: str, length: int, accepted: bool
) -> None:
    """A longer name could never get its Secret, so it is refused at once."""
    body = _body("datakeyrequests", {})
    body["metadata"] = {"name": "n" * length}
    create = client.CustomObjectsApi(api_client).create_namespaced_custom_object
    if accepted:
        create(GROUP, VERSION, namespace, "datakeyrequests", body)
        return
    with pytest.raises(ApiException) as caught:
        create(GROUP, VERSION, namespace, "datakeyrequests", body)
    assert caught.value.status == 422
    assert "metadata.name" in _causes(caught.value)
