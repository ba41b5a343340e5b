"""From ``kubectl apply`` to plaintext in one pod only."""

import base64
import json

import pytest

from deployment import Cluster, wait_until
from workloads import (
    APP_UID,
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_request,
    build_service_account,
    read_over_socket,
    sidecar_log,
    status_of,
)

KEY_FILE = "/var/run/datakeys/keys/disk"


def _apply_consumer(cluster: Cluster, namespace: str, **pod: object) -> None:
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_request(namespace, "disk"),
        build_pod(namespace, "consumer", requests="disk", **pod),  # type: ignore[arg-type]
    )


@pytest.mark.usefixtures("key")
def test_app_reads_its_data_key_from_a_file(cluster: Cluster, namespace: str) -> None:
    """The file has the asked length, mode 0400, the app's UID, and lies on a tmpfs."""
    _apply_consumer(cluster, namespace)
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    assert len(cluster.read_file(namespace, "consumer", "app", KEY_FILE)) == 32
    stat = cluster.kubectl(
        "exec", "-n", namespace, "consumer", "-c", "app", "--", "stat", "-c", "%a %u", KEY_FILE
    )
    assert stat.split() == ["400", str(APP_UID)]
    mounts = cluster.read_file(namespace, "consumer", "app", "/proc/mounts").decode()
    [line] = [line for line in mounts.splitlines() if "/datakeys/keys" in line]
    assert line.startswith("tmpfs ")
    assert " ro," in line


@pytest.mark.usefixtures("key")
def test_app_reads_its_data_key_from_a_socket(cluster: Cluster, namespace: str) -> None:
    """With delivery ``socket`` there is no file, and the key comes by HTTP over a Unix socket."""
    _apply_consumer(cluster, namespace, annotations={"datakeys.dev/delivery": "socket"})
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    status, key = read_over_socket(cluster, namespace, "consumer", "disk")
    assert (status, len(key)) == (200, 32)
    listing = cluster.kubectl(
        "exec", "-n", namespace, "consumer", "-c", "app", "--", "ls", "/var/run/datakeys/keys"
    )
    assert listing.split() == ["datakeys.sock"]


@pytest.mark.usefixtures("key")
def test_two_pods_of_the_account_read_the_same_key(cluster: Cluster, namespace: str) -> None:
    """A data key belongs to a request, not to a pod."""
    _apply_consumer(cluster, namespace)
    apply(cluster, build_pod(namespace, "second", requests="disk"))
    keys = []
    for pod in ("consumer", "second"):
        cluster.wait(f"pod/{pod}", "condition=Ready", namespace)
        keys.append(cluster.read_file(namespace, pod, "app", KEY_FILE))
    assert keys[0] == keys[1]


@pytest.mark.usefixtures("key")
def test_several_keys_and_lengths_in_one_pod(cluster: Cluster, namespace: str) -> None:
    """A pod may name several requests; each gives as many bytes as asked."""
    sizes = {"one": 1, "sixteen": 16, "most": 1024}
    apply(
        cluster,
        build_service_account(namespace, "app"),
        *[build_request(namespace, name, numberOfBytes=size) for name, size in sizes.items()],
        build_pod(namespace, "consumer", requests=",".join(sizes)),
    )
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    for name, size in sizes.items():
        assert len(cluster.read_file(namespace, "consumer", "app", f"/var/run/datakeys/keys/{name}")) == size


@pytest.mark.usefixtures("key")
def test_a_pod_may_come_before_its_request(cluster: Cluster, namespace: str) -> None:
    """The order of manifests doesn't matter: the app starts when the data key is there."""
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_pod(namespace, "consumer", requests="disk"),
    )
    apply(cluster, build_request(namespace, "disk"))
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    assert len(cluster.read_file(namespace, "consumer", "app", KEY_FILE)) == 32


@pytest.mark.usefixtures("key")
def test_a_job_completes_with_the_sidecar(cluster: Cluster, namespace: str) -> None:
    """A native sidecar doesn't hold a Job."""
    pod = build_pod(
        namespace,
        "x",
        requests="disk",
        command=["python3", "-c", f"print(len(open('{KEY_FILE}','rb').read()))"],
    )
    template = {"metadata": pod["metadata"] | {"name": None, "namespace": None}, "spec": pod["spec"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": namespace},
        "spec": {"template": template, "backoffLimit": 0},
    }
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk"), job)
    cluster.wait("job/once", "condition=Complete", namespace)
    assert cluster.kubectl("logs", "-n", namespace, "job/once", "-c", "app").strip() == "32"


def _wait_refused(cluster: Cluster, namespace: str, pod: str, code: str) -> None:
    """Wait until a pod's sidecar tells that it is refused with a code."""
    wait_until(f"{pod} is refused", 180, lambda: f'"{code}"' in sidecar_log(cluster, namespace, pod))


def _assert_never_started(cluster: Cluster, namespace: str, pod: str) -> None:
    status = status_of(cluster, "pod", pod, namespace)
    assert not any(item.get("started") for item in status.get("containerStatuses", []))
    assert status["phase"] == "Pending"


@pytest.mark.usefixtures("key")
def test_another_service_account_with_the_same_secret_is_refused(cluster: Cluster, namespace: str) -> None:
    """The Secret alone is of no use: the key service looks at who asks."""
    _apply_consumer(cluster, namespace)
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    apply(
        cluster,
        build_service_account(namespace, "intruder"),
        build_pod(namespace, "intruder", requests="disk", account="intruder"),
    )
    _wait_refused(cluster, namespace, "intruder", "AccessDeniedException")
    _assert_never_started(cluster, namespace, "intruder")


@pytest.mark.usefixtures("key")
def test_a_copied_secret_is_of_no_use_in_another_namespace(cluster: Cluster, namespace: str) -> None:
    """Same names of Secret, request and ServiceAccount elsewhere don't help."""
    _apply_consumer(cluster, namespace)
    cluster.wait("pod/consumer", "condition=Ready", namespace)
    other = f"{namespace}-x"
    secret = cluster.get("secret", "disk", "-n", namespace)
    bundle = cluster.get("configmap", "datakeys-trust-bundle", "-n", namespace)
    for copied in (secret, bundle):
        copied["metadata"] = {"name": copied["metadata"]["name"], "namespace": other}
    apply(
        cluster,
        build_namespace(other),
        build_service_account(other, "app"),
        secret,
        bundle,
        build_pod(other, "thief", requests="disk"),
    )
    _wait_refused(cluster, other, "thief", "AccessDeniedException")
    _assert_never_started(cluster, other, "thief")


@pytest.mark.usefixtures("key")
def test_a_secret_under_another_requests_name_does_not_decrypt(cluster: Cluster, namespace: str) -> None:
    """The request's name is authenticated: who writes another one into a copy of the Secret gets nothing."""
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    copied = cluster.get("secret", "disk", "-n", namespace)
    context = json.loads(base64.b64decode(copied["data"]["encryptionContext"]))
    context["datakeys.dev/request"] = "renamed"
    copied["data"]["encryptionContext"] = base64.b64encode(json.dumps(context).encode()).decode()
    copied["metadata"] = {"name": "renamed", "namespace": namespace}
    apply(cluster, copied, build_pod(namespace, "consumer", requests="renamed"))
    _wait_refused(cluster, namespace, "consumer", "InvalidCiphertextException")
    _assert_never_started(cluster, namespace, "consumer")


def test_the_app_waits_while_its_key_is_disabled(cluster: Cluster, namespace: str, key: str) -> None:
    """A disabled KMS key stops new pods, and they start by themselves when it is enabled again."""
    apply(cluster, build_service_account(namespace, "app"), build_request(namespace, "disk"))
    cluster.wait("datakeyrequest/disk", "condition=Ready", namespace)
    apply(cluster, build_key(namespace, key, enabled=False))
    wait_until(
        "the key is disabled",
        180,
        lambda: status_of(cluster, "kmskey", key, namespace).get("keyState") == "Disabled",
    )
    apply(cluster, build_pod(namespace, "consumer", requests="disk"))
    _wait_refused(cluster, namespace, "consumer", "DisabledException")
    _assert_never_started(cluster, namespace, "consumer")
    apply(cluster, build_key(namespace, key, enabled=True))
    cluster.wait("pod/consumer", "condition=Ready", namespace)
