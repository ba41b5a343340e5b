"""Requests through key states, lost Secrets and foreign Secrets."""

import json

import pytest

from deployment import Cluster, wait_until
from workloads import apply, build_key, build_request, ready_condition, status_of, wait_reason

#: The event of a key wakes a request in a moment; this is for a slow machine.
EVENT_SECONDS = 60


def _ciphertext(cluster: Cluster, namespace: str, secret: str) -> str:
    return str(cluster.get("secret", secret, "-n", namespace)["data"]["ciphertextBlob"])


def _secret_uid(cluster: Cluster, namespace: str, secret: str) -> str:
    answer = cluster.kubectl(
        "get", "secret", secret, "-n", namespace, "-o", "jsonpath={.metadata.uid}", check=False
    )
    return "" if "NotFound" in answer else answer


@pytest.mark.usefixtures("key")
def test_a_deleted_secret_comes_back_with_the_same_ciphertext(cluster: Cluster, namespace: str) -> None:
    """The status remembers; nothing is generated again."""
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    before = _ciphertext(cluster, namespace, "disk")
    uid = _secret_uid(cluster, namespace, "disk")
    cluster.kubectl("delete", "secret", "disk", "-n", namespace)
    wait_until("the Secret is back", 180, lambda: _secret_uid(cluster, namespace, "disk") not in {"", uid})
    assert _ciphertext(cluster, namespace, "disk") == before
    assert status_of(cluster, "datakeyrequest", "disk", namespace)["ciphertextBlob"] == before


@pytest.mark.usefixtures("key")
def test_a_foreign_secret_is_never_overwritten(cluster: Cluster, namespace: str) -> None:
    """The request reports Conflict, and is served as soon as the foreign Secret is gone."""
    foreign = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "disk", "namespace": namespace},
        "stringData": {"password": "somebody else's"},
    }
    apply(cluster, foreign, build_request(namespace, "disk"))
    condition = wait_reason(cluster, "datakeyrequest", "disk", namespace, "Conflict")
    assert "disk" in condition["message"]
    assert set(cluster.get("secret", "disk", "-n", namespace)["data"]) == {"password"}
    cluster.kubectl("delete", "secret", "disk", "-n", namespace)
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)


def test_a_disabled_key_refuses_and_enabling_it_serves_the_waiting_requests(
    cluster: Cluster, namespace: str, key: str
) -> None:
    """DisabledException is the condition's reason; no polling, the event of the key wakes the request."""
    apply(cluster, build_key(namespace, key, enabled=False))
    wait_until(
        "the key is disabled",
        180,
        lambda: status_of(cluster, "kmskey", key, namespace).get("keyState") == "Disabled",
    )
    apply(cluster, build_request(namespace, "disk"))
    wait_reason(cluster, "datakeyrequest", "disk", namespace, "DisabledException")
    apply(cluster, build_key(namespace, key, enabled=True))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace, seconds=EVENT_SECONDS)


def test_a_request_waits_for_its_key_to_appear(cluster: Cluster, namespace: str) -> None:
    """GitOps applies in any order."""
    apply(cluster, build_request(namespace, "disk", key="later"))
    wait_reason(cluster, "datakeyrequest", "disk", namespace, "NotFoundException")
    apply(cluster, build_key(namespace, "later"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace, seconds=EVENT_SECONDS)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"keySpec": "HMAC_256", "keyUsage": "GENERATE_VERIFY_MAC"}, "InvalidKeyUsageException"),
        ({"keySpec": "RSA_2048", "keyUsage": "ENCRYPT_DECRYPT"}, "InvalidKeyUsageException"),
        ({"origin": "AWS_CLOUDHSM"}, "InvalidKeyUsageException"),
        ({"origin": "EXTERNAL"}, "KMSInvalidStateException"),
    ],
)
def test_a_key_that_can_not_make_data_keys_says_so(
    cluster: Cluster, namespace: str, spec: dict[str, str], reason: str
) -> None:
    """The KMS error's name is the condition's reason, and there is no Secret."""
    apply(cluster, build_key(namespace, "unfit", **spec), build_request(namespace, "disk", key="unfit"))
    condition = wait_reason(cluster, "datakeyrequest", "disk", namespace, reason)
    assert condition["status"] == "False"
    assert not _secret_uid(cluster, namespace, "disk")


def test_dry_run_makes_no_secret(cluster: Cluster, namespace: str, key: str) -> None:
    """The condition DryRun says that the request would succeed."""
    apply(cluster, build_request(namespace, "disk", key=key, dryRun=True))
    cluster.wait("datakeyrequest/disk", "condition=DryRun", namespace)
    assert "ciphertextBlob" not in status_of(cluster, "datakeyrequest", "disk", namespace)
    assert not _secret_uid(cluster, namespace, "disk")


def test_all_forms_of_a_key_id_are_served(cluster: Cluster, namespace: str, key: str) -> None:
    """Key id, key ARN, alias name and alias ARN name the same key."""
    alias = {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "KmsAlias",
        "metadata": {"name": "payments", "namespace": namespace},
        "spec": {"targetKeyRef": {"name": key}},
    }
    apply(cluster, alias)
    cluster.wait("kmsalias/payments", "condition=Ready", namespace)
    status = status_of(cluster, "kmskey", key, namespace)
    forms = [
        status["keyId"],
        status["arn"],
        "alias/payments",
        status_of(cluster, "kmsalias", "payments", namespace)["arn"],
    ]
    for number, form in enumerate(forms):
        apply(cluster, build_request(namespace, f"r{number}", keyId=form))
    for number in range(len(forms)):
        cluster.wait(f"datakeyrequest/r{number}", "condition=Ready", namespace)
        assert status_of(cluster, "datakeyrequest", f"r{number}", namespace)["keyId"] == status["arn"]


def test_a_deleted_key_object_goes_at_once_and_comes_back_as_the_same_key(
    cluster: Cluster, namespace: str, key: str
) -> None:
    """Deleting schedules the deletion; applying again within the window cancels it."""
    before = status_of(cluster, "kmskey", key, namespace)
    cluster.kubectl("delete", "kmskey", key, "-n", namespace, "--timeout=120s")
    apply(cluster, build_request(namespace, "disk", keyId=before["arn"]))
    wait_reason(cluster, "datakeyrequest", "disk", namespace, "KMSInvalidStateException")
    apply(cluster, build_key(namespace, key))
    cluster.wait(f"kmskey/{key}", "condition=Ready", namespace)
    after = status_of(cluster, "kmskey", key, namespace)
    assert (after["keyId"], after["currentKeyMaterialId"]) == (
        before["keyId"],
        before["currentKeyMaterialId"],
    )
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace, seconds=EVENT_SECONDS)


@pytest.mark.usefixtures("key")
def test_a_namespace_with_keys_can_be_removed(cluster: Cluster, namespace: str) -> None:
    """No finalizer hangs for the pending window."""
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    cluster.kubectl("delete", "namespace", namespace, "--timeout=300s")


def test_each_state_change_of_a_key_is_an_event(cluster: Cluster, namespace: str, key: str) -> None:
    """``kubectl describe`` tells the history of a key."""
    apply(cluster, build_key(namespace, key, enabled=False))

    def reasons() -> set[str]:
        items = cluster.get("events", "-n", namespace)["items"]
        return {item["reason"] for item in items if item["involvedObject"]["name"] == key}

    wait_until("both changes are told", 180, lambda: {"Created", "Disabled"} <= reasons())


@pytest.mark.usefixtures("key")
def test_only_two_writes_per_request(cluster: Cluster, namespace: str) -> None:
    """One Secret create and one status patch: the object was written once after its creation."""
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    shown = json.loads(
        cluster.kubectl("get", "dkr", "disk", "-n", namespace, "-o", "json", "--show-managed-fields")
    )
    writers = [(item["manager"], item.get("subresource", "")) for item in shown["metadata"]["managedFields"]]
    assert [subresource for _, subresource in writers].count("status") == 1
    assert len(writers) == 2
    assert "finalizers" not in shown["metadata"]
    assert ready_condition(cluster, "datakeyrequest", "disk", namespace)["reason"] == "Issued"
