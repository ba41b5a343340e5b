"""An unmodified AWS SDK in the app uses the cluster's keys, under the rights of the pod's ServiceAccount."""

import json
from typing import Any

import pytest

from deployment import Cluster, wait_until
from workloads import (
    Manifest,
    apply,
    build_bindings,
    build_key,
    build_pod,
    build_service_account,
    sidecar_log,
)

#: Encrypts and decrypts with boto3; prints what came of it as one JSON object.
SCRIPT = """
import json, sys
import boto3, botocore.exceptions
kms, key, found = boto3.client("kms"), sys.argv[1], {}
try:
    context = {"purpose": "e2e"}
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    found = {"same": made["Plaintext"] == opened["Plaintext"], "key": opened["KeyId"]}
    kms.decrypt(CiphertextBlob=made["CiphertextBlob"])
except botocore.exceptions.ClientError as error:
    found["error"] = error.response["Error"]["Code"]
print(json.dumps(found))
"""


def build_sdk_pod(namespace: str, account: str, key: str, **annotations: str) -> Manifest:
    """Return a pod that runs the script against the endpoint and needs no data key."""
    given = {"datakeys.dev/aws-endpoint": "true", **annotations}
    command = ["python3", "-c", SCRIPT, key]
    pod = build_pod(namespace, f"sdk-{account}", account=account, command=command, annotations=given)
    pod["metadata"]["labels"] = {"datakeys.dev/inject": "true"}
    return pod


def run_pod(cluster: Cluster, pod: Manifest) -> dict[str, Any]:
    """Run a pod to its end; give what its app printed."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    apply(cluster, pod)

    def phase() -> str | None:
        found = str(cluster.get("pod", name, "-n", namespace)["status"].get("phase"))
        return found if found in {"Succeeded", "Failed"} else None

    ended = wait_until(f"pod {name} ends", 300, phase)
    log = cluster.kubectl("logs", "-n", namespace, name, "-c", "app", check=False)
    assert ended == "Succeeded", log + sidecar_log(cluster, namespace, name)
    return dict(json.loads(log.splitlines()[-1]))


def assert_outcome(cluster: Cluster, pod: Manifest, expected: dict[str, Any]) -> None:
    """Run a pod until its rights have reached the replica of the key service that it is connected to."""

    def is_so() -> bool:
        found = run_pod(cluster, pod)
        if found == {"error": "AccessDeniedException"}:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=true")
            return False
        assert found == expected
        return True

    wait_until("the rights count", 180, is_so)


def key_arn(cluster: Cluster, namespace: str, key: str) -> str:
    return str(cluster.get("kmskey", key, "-n", namespace)["status"]["arn"])


def test_rbac_lets_a_pod_use_the_keys_of_its_namespace(cluster: Cluster, namespace: str, key: str) -> None:
    """Rights come from ordinary RoleBindings; a wrong context is AWS's error, in AWS's SDK."""
    arn = key_arn(cluster, namespace, key)
    roles = build_bindings(namespace, "worker", "datakeys-encrypter", "datakeys-decrypter")
    apply(cluster, build_service_account(namespace, "worker"), *roles)
    expected = {"same": True, "key": arn, "error": "InvalidCiphertextException"}
    assert_outcome(cluster, build_sdk_pod(namespace, "worker", arn), expected)
    asked = ("auth", "can-i", "create", "kmskeys/any", "--subresource=decrypt", "-n", namespace, "--as")
    worker, other = (f"system:serviceaccount:{namespace}:{name}" for name in ("worker", "other"))
    assert cluster.kubectl(*asked, worker).strip() == "yes"
    assert cluster.kubectl(*asked, other, check=False).strip().startswith("no")


def test_pod_without_any_right_is_refused(cluster: Cluster, namespace: str, key: str) -> None:
    """The endpoint gives no right: AccessDeniedException, and no word about why."""
    apply(cluster, build_service_account(namespace, "stranger"))
    found = run_pod(cluster, build_sdk_pod(namespace, "stranger", key_arn(cluster, namespace, key)))
    assert found == {"error": "AccessDeniedException"}


def test_grant_lets_one_account_do_what_it_says(cluster: Cluster, namespace: str, key: str) -> None:
    """A KmsGrant is enough, without any RBAC."""
    grant = {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "KmsGrant",
        "metadata": {"name": "sdk", "namespace": namespace},
        "spec": {
            "keyRef": {"name": key},
            "granteePrincipal": {"serviceAccountName": "grantee"},
            "operations": ["GenerateDataKey", "Decrypt"],
            "constraints": {"encryptionContextSubset": {"purpose": "e2e"}},
        },
    }
    apply(cluster, build_service_account(namespace, "grantee"), grant)
    cluster.wait("kmsgrant/sdk", "condition=Ready", namespace)
    arn = key_arn(cluster, namespace, key)
    expected = {"same": True, "key": arn, "error": "AccessDeniedException"}
    assert_outcome(cluster, build_sdk_pod(namespace, "grantee", arn), expected)


@pytest.mark.usefixtures("key")
def test_key_policy_opens_a_key_to_another_namespace(cluster: Cluster, namespace: str) -> None:
    """Both sides must allow: the key's policy names the namespace, RBAC over there the ServiceAccount."""
    owner = f"{namespace}-owner"
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": owner}})
    apply(cluster, build_key(owner, "shared"))
    cluster.wait("kmskey/shared", "condition=Ready", owner)
    arn = key_arn(cluster, owner, "shared")
    roles = build_bindings(namespace, "guest", "datakeys-encrypter", "datakeys-decrypter")
    apply(cluster, build_service_account(namespace, "guest"), *roles)
    assert run_pod(cluster, build_sdk_pod(namespace, "guest", arn)) == {"error": "AccessDeniedException"}
    cluster.kubectl("delete", "pod", "sdk-guest", "-n", namespace, "--wait=true")
    statement = {"Effect": "Allow", "Principal": {"Kubernetes": [owner, namespace]}}
    policy = {
        "Version": "2012-10-17",
        "Statement": [{**statement, "Action": "kms:*", "Resource": "*"}],
    }
    apply(cluster, build_key(owner, "shared", policy=json.dumps(policy)))
    cluster.wait("kmskey/shared", "condition=Synced", owner)
    wait_until(
        "the policy is applied",
        180,
        lambda: (
            cluster.get("kmskey", "shared", "-n", owner)["status"].get("observedGeneration")
            == cluster.get("kmskey", "shared", "-n", owner)["metadata"]["generation"]
        ),
    )
    expected = {"same": True, "key": arn, "error": "InvalidCiphertextException"}
    assert_outcome(cluster, build_sdk_pod(namespace, "guest", arn), expected)
