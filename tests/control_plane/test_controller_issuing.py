"""From a DataKeyRequest to its Secret: a real API server, a real key service, the chart's rights."""

import base64
from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from controller_rig import Process, Rig
from custom_objects import ALIASES, KEYS, REQUESTS, SOON, Objects, fresh_objects
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from waiting import eventually, read_at_rest, wait_for


@pytest.fixture
def objects(api_client: client.ApiClient) -> Iterator[Objects]:
    """Give a namespace of its own to a test, and empty it afterwards."""
    with fresh_objects(api_client) as objects:
        yield objects


@pytest.fixture
def controller(rig: Rig) -> Iterator[Process]:
    """Run one controller for a test."""
    process = rig.start_controller()
    yield process
    if process.popen.poll() is None:
        assert process.stop() == 0, process.log.read_text()[-2000:]


def test_request_becomes_an_immutable_owned_secret(controller: Process, objects: Objects) -> None:
    """A request gives a Secret with ciphertext and bound context, and the same ciphertext in its status."""
    objects.create_key()
    objects.create_request("orders", encryptionContext={"tenant": "a"}, secretName="orders-key")
    objects.wait_ready("orders")
    request, secret = objects.get(REQUESTS, "orders"), objects.secret("orders-key")
    encrypted = EncryptedDataKey.from_secret_data(secret.data)
    assert dict(encrypted.encryption_context) == {
        "tenant": "a",
        "datakeys.dev/namespace": objects.namespace,
        "datakeys.dev/request": "orders",
        "datakeys.dev/service-account": "app",
    }
    assert base64.b64decode(request["status"]["ciphertextBlob"]) == encrypted.ciphertext_blob
    assert request["status"]["keyId"] == encrypted.key_arn == objects.get(KEYS, "main")["status"]["arn"]
    assert request["status"]["secretRef"] == {"name": "orders-key"}
    assert (secret.immutable, secret.type) == (True, "datakeys.dev/encrypted-data-key")
    (owner,) = secret.metadata.owner_references
    assert (owner.uid, owner.controller) == (request["metadata"]["uid"], True)
    assert "finalizers" not in request["metadata"]
    assert "annotations" not in request["metadata"]
    assert eventually(lambda: objects.event_reasons("orders") == ["Issued"])
    assert controller.answers("/healthz") == controller.answers("/readyz") == 200


def test_one_create_and_one_patch_per_request(controller: Process, objects: Objects) -> None:
    """Ten requests cost ten Secret creates and ten status patches, and nothing else."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    objects.create_request("first")
    objects.wait_ready("first")
    before = read_at_rest(controller.writes)
    names = [f"r{number}" for number in range(10)]
    for name in names:
        objects.create_request(name, numberOfBytes=24, keySpec=None)
    objects.wait_ready(*names)
    after = read_at_rest(controller.writes)
    made = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    assert {kind: count for kind, count in made.items() if count} == {
        ("secrets", "create"): 10,
        ("datakeyrequests/status", "patch"): 10,
    }


def test_restart_with_everything_ready_writes_nothing(
    rig: Rig, controller: Process, objects: Objects
) -> None:
    """A new controller that finds all requests Ready makes no write and no key service call for them."""
    objects.create_key()
    for name in ("a", "b", "c"):
        objects.create_request(name)
    objects.wait_ready("a", "b", "c")
    assert controller.stop() == 0
    versions = objects.versions()
    second = rig.start_controller("two")
    second.wait_led()
    objects.create_request("last")
    objects.wait_ready("last")
    after = read_at_rest(objects.versions)
    assert {name: after[name] for name in versions} == versions
    assert second.calls("GenerateDataKeyWithoutPlaintext") == 1
    assert second.writes()["secrets", "create"] == 1
    assert second.stop() == 0


@pytest.mark.usefixtures("controller")
def test_deleted_secret_is_restored_identically(objects: Objects) -> None:
    """A Secret that is deleted comes back with the same data, and the status stays as it was."""
    objects.create_key()
    objects.create_request("orders", encryptionContext={"a": "b"})
    objects.wait_ready("orders")
    first, status = objects.secret("orders"), objects.get(REQUESTS, "orders")["status"]
    objects.delete_secret("orders")
    assert eventually(lambda: objects.secret("orders") is not None)
    second = objects.secret("orders")
    assert second.metadata.uid != first.metadata.uid
    assert second.data == first.data
    assert objects.get(REQUESTS, "orders")["status"] == status
    assert eventually(lambda: "Restored" in objects.event_reasons("orders"))


@pytest.mark.usefixtures("controller")
def test_foreign_secret_is_never_overwritten(objects: Objects) -> None:
    """A taken name gives Conflict; once it is free, the request is issued without anybody's help."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    objects.create_secret("orders", password="mine")
    objects.create_request("orders")
    message = objects.wait_condition(REQUESTS, "orders", "False", "Conflict")
    assert "delete it" in message
    assert base64.b64decode(objects.secret("orders").data["password"]) == b"mine"
    assert eventually(lambda: objects.event_reasons("orders") == ["Conflict"])
    objects.delete_secret("orders")
    objects.wait_ready("orders", seconds=SOON)


@pytest.mark.usefixtures("controller")
def test_request_waits_for_its_key_without_polling(objects: Objects) -> None:
    """A request applied before its KmsKey says so and is issued as soon as the key is there."""
    objects.create_request("orders")
    message = objects.wait_condition(REQUESTS, "orders", "False", "NotFoundException")
    assert "KmsKey main" in message
    objects.create_key()
    objects.wait_ready("orders", seconds=SOON)


@pytest.mark.usefixtures("controller")
def test_disabled_key_is_named_and_waited_for(objects: Objects) -> None:
    """A request under a disabled key carries KMS's error name, and goes on when the key is enabled."""
    objects.create_key(enabled=False)
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    objects.create_request("orders")
    objects.wait_condition(REQUESTS, "orders", "False", "DisabledException")
    objects.patch(KEYS, "main", {"spec": {"enabled": True}})
    objects.wait_ready("orders", seconds=SOON)


@pytest.mark.usefixtures("controller")
def test_alias_is_waited_for(objects: Objects) -> None:
    """A request by alias is issued once the KmsAlias leads somewhere."""
    objects.create_request("orders", keyId="alias/orders")
    objects.wait_condition(REQUESTS, "orders", "False", "NotFoundException")
    objects.create_key()
    objects.create_manifest(ALIASES, "KmsAlias", "orders", {"targetKeyRef": {"name": "main"}})
    objects.wait_ready("orders", seconds=SOON)
    assert objects.get(REQUESTS, "orders")["status"]["keyId"] == objects.get(KEYS, "main")["status"]["arn"]


@pytest.mark.usefixtures("controller")
def test_dry_run_makes_no_secret(objects: Objects) -> None:
    """A dry run tells that it would succeed, or why not, and makes nothing."""
    objects.create_key()
    objects.create_request("try", dryRun=True)
    objects.wait_condition(REQUESTS, "try", "True", "DryRunOperationException", type_="DryRun")
    objects.create_key("rsa", keySpec="RSA_2048")
    objects.create_request("bad", dryRun=True, key="rsa")
    objects.wait_condition(REQUESTS, "bad", "False", "InvalidKeyUsageException", type_="DryRun")
    assert objects.secret("try") is None
    assert objects.secret("bad") is None
    assert "ciphertextBlob" not in objects.get(REQUESTS, "try")["status"]


@pytest.mark.usefixtures("controller")
def test_asymmetric_key_is_refused(objects: Objects) -> None:
    """A key that makes no data keys gives KMS's error as reason, and no Secret."""
    objects.create_key("rsa", keySpec="RSA_2048")
    objects.create_request("orders", key="rsa")
    objects.wait_condition(REQUESTS, "orders", "False", "InvalidKeyUsageException")
    assert objects.secret("orders") is None


def test_trust_bundle_and_role_binding_are_in_the_namespace(
    rig: Rig, controller: Process, objects: Objects
) -> None:
    """The namespace gets the trust bundle, and only there may the controller see Secrets."""
    objects.create_key()
    objects.create_request("orders")
    objects.wait_ready("orders")
    core = client.CoreV1Api(objects.api)
    source = core.read_namespaced_config_map("datakeys-trust-bundle", rig.installation.namespace)
    name = "configmaps/datakeys-trust-bundle"
    assert eventually(lambda: name in objects.versions())
    copy = core.read_namespaced_config_map("datakeys-trust-bundle", objects.namespace)
    assert copy.data == source.data
    with rig.installation.acting_as("datakeys-controller") as acting:
        client.CoreV1Api(acting).list_namespaced_secret(objects.namespace)
        for forbidden in (rig.installation.namespace, "kube-system", "default"):
            with pytest.raises(ApiException):
                client.CoreV1Api(acting).list_namespaced_secret(forbidden)
    assert controller.popen.poll() is None


@pytest.mark.usefixtures("controller")
@pytest.mark.parametrize("has_request", [True, False], ids=["request", "key alone"])
def test_trust_bundle_that_somebody_deletes_or_changes_comes_back(
    rig: Rig, objects: Objects, *, has_request: bool
) -> None:
    """The watch tells of it; a pod that starts then waits a moment instead of for ever."""
    objects.create_key()
    if has_request:
        objects.create_request("orders")
        objects.wait_ready("orders")
    core, name = client.CoreV1Api(objects.api), "datakeys-trust-bundle"
    source = core.read_namespaced_config_map(name, rig.installation.namespace)

    def is_right() -> bool:
        only = f"metadata.name={name}"
        found = core.list_namespaced_config_map(objects.namespace, field_selector=only).items
        return [one.data for one in found] == [source.data]

    wait_for(is_right, "the bundle is there")
    for _ in range(2):
        core.delete_namespaced_config_map(name, objects.namespace)
        wait_for(is_right, "the deleted bundle is back")
    core.patch_namespaced_config_map(name, objects.namespace, {"data": {"ca.crt": "changed"}})
    wait_for(is_right, "the changed bundle is right again")


def test_logs_hold_no_bodies(controller: Process, objects: Objects) -> None:
    """The log has JSON lines with names and reasons, and never a ciphertext or an encryption context."""
    objects.create_key()
    objects.create_request("orders", encryptionContext={"tenant": "very-recognisable"})
    objects.wait_ready("orders")
    blob = objects.get(REQUESTS, "orders")["status"]["ciphertextBlob"]
    log = controller.log.read_text()
    assert blob not in log
    assert "very-recognisable" not in log
    assert all(line.startswith("{") for line in log.splitlines())
