"""The proofs of the demo. Each raises :class:`UnexpectedError` if it isn't so."""

import json
import os
import subprocess
import sys

from canary import Finding, build_needles, scan_bytes, scan_folders
from demo import terminal
from deployment import SYSTEM_NAMESPACE, Cluster, cluster_path, wait_for_rollout, wait_until

NAMESPACE = "shop"
REQUEST = "orders-at-rest"
KEY_FILE = f"/var/run/datakeys/keys/{REQUEST}"


class UnexpectedError(Exception):
    """The system didn't do what the demo shows."""


def wait_for_quickstart(cluster: Cluster) -> None:
    """Wait until the request is Ready and the workload runs."""
    cluster.wait(f"datakeyrequest/{REQUEST}", "condition=Ready", NAMESPACE)
    wait_for_rollout(cluster, "deployment/orders", NAMESPACE)
    terminal.show(cluster.kubectl("get", "datakeys", "-n", NAMESPACE))


def show_encrypted_data_key(cluster: Cluster) -> None:
    """Show that status and Secret hold the same ciphertext."""
    status = cluster.get("datakeyrequest", REQUEST, "-n", NAMESPACE)["status"]
    secret = cluster.get("secret", status["secretRef"]["name"], "-n", NAMESPACE)
    blob = secret["data"]["ciphertextBlob"]
    if blob != status["ciphertextBlob"]:
        raise UnexpectedError("status and Secret hold different ciphertexts")
    terminal.show(f"Secret {secret['metadata']['name']} of type {secret['type']}")
    terminal.show(f"  ciphertextBlob: {blob[:60]}… ({len(blob)} letters of base64)")
    terminal.show(f"  keyId: {status['keyId']}")
    terminal.good("the Secret holds the ciphertext and nothing else")


def app_pod(cluster: Cluster) -> str:
    """Return the name of the app's running pod."""
    pods = cluster.get("pods", "-n", NAMESPACE, "-l", "app=orders", "--field-selector=status.phase=Running")
    if not pods["items"]:
        raise UnexpectedError("no pod of the app is running")
    return str(pods["items"][0]["metadata"]["name"])


def wait_for_log(cluster: Cluster, pod: str, text: str) -> str:
    """Return what the app of a pod has printed, once a text is among it."""

    def read() -> str:
        log = cluster.kubectl("logs", "-n", NAMESPACE, pod, "-c", "app", check=False)
        return log if text in log else ""

    return str(wait_until(f"{pod} prints {text}", 120, read))


def show_app(cluster: Cluster) -> None:
    """Show what the app did with its data key."""
    pod = app_pod(cluster)
    log = wait_for_log(cluster, pod, "decrypted:")
    terminal.show(log)
    listing = cluster.kubectl("exec", "-n", NAMESPACE, pod, "-c", "app", "--", "ls", "-ln", KEY_FILE)
    terminal.show(listing)
    mount = cluster.kubectl(
        "exec", "-n", NAMESPACE, pod, "-c", "app", "--", "grep", "^tmpfs .*/datakeys/", "/proc/mounts"
    )
    terminal.show(mount)
    if not listing.startswith("-r--------") or "tmpfs" not in mount:
        raise UnexpectedError("the key file must have mode 0400 and lie on a tmpfs")
    terminal.good("the app encrypted and decrypted a file with the plaintext data key")


def show_intruder(cluster: Cluster) -> None:
    """Show that a pod of another ServiceAccount is refused."""
    terminal.show(cluster.kubectl("apply", "-f", "examples/intruder.yaml"))

    def refused() -> str:
        text = cluster.kubectl("logs", "-n", NAMESPACE, "intruder", "-c", "datakeys-sidecar", check=False)
        return text if "AccessDeniedException" in text else ""

    log = wait_until("the key service refuses the intruder", 180, refused, interval=1.0)
    terminal.show(log.splitlines()[-1])
    terminal.show(cluster.kubectl("get", "pod", "intruder", "-n", NAMESPACE))
    pod = cluster.get("pod", "intruder", "-n", NAMESPACE)
    started = [item for item in pod["status"].get("containerStatuses", []) if item.get("started")]
    if started:
        raise UnexpectedError("the intruder's container was started")
    terminal.good("the intruder has the Secret, but not the plaintext; its container never started")


def show_annotated(cluster: Cluster) -> None:
    """Show that annotations are enough, and that an app can encrypt without holding its data key."""
    wait_for_rollout(cluster, "statefulset/ledger", NAMESPACE)
    terminal.show(cluster.kubectl("get", "datakeyrequests,pods", "-n", NAMESPACE))
    log = wait_for_log(cluster, "ledger-1", "decrypted:")
    terminal.show(log)
    blobs = {
        cluster.get("datakeyrequest", f"ledger-{ordinal}.statefulset", "-n", NAMESPACE)["status"][
            "ciphertextBlob"
        ]
        for ordinal in (0, 1)
    }
    if "decrypted: entry 1" not in log or len(blobs) != 2:  # noqa: PLR2004 - one each
        raise UnexpectedError("each ordinal must have a data key of its own and decrypt with it")
    terminal.good("each pod has a data key of its own, which no container of the app has seen")


def show_plugin(cluster: Cluster) -> None:
    """Show the explanation of a pod, then rotate and re-encrypt, and that the app's key is still the same."""
    pod = app_pod(cluster)
    terminal.show(run_plugin(cluster, "explain", "pod", pod, "-n", NAMESPACE))
    key, old = read_key(cluster, pod), issued_blob(cluster)
    terminal.show(run_plugin(cluster, "rotate", "orders", "--re-encrypt", "--wait", "-n", NAMESPACE))
    terminal.show(run_plugin(cluster, "requests", "-n", NAMESPACE))
    if issued_blob(cluster) == old:
        raise UnexpectedError("the data key must be encrypted under the new key material")
    cluster.kubectl("rollout", "restart", "deployment/orders", "-n", NAMESPACE)
    wait_for_rollout(cluster, "deployment/orders", NAMESPACE)
    if read_key(cluster, newest_app_pod(cluster)) != key:
        raise UnexpectedError("the data key must be the same after the rotation")
    terminal.good("a new ciphertext under new key material, the same data key for the app")


def run_plugin(cluster: Cluster, *arguments: str) -> str:
    """Run ``kubectl kms`` with the cluster's own kubectl and return its output."""
    return subprocess.run(
        [sys.executable, "-m", "datakeys.kubectl", *arguments],
        env={
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{cluster.bin}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def read_key(cluster: Cluster, pod: str) -> bytes:
    """Return the plaintext that a pod of the app has; it is compared and never shown."""
    return cluster.read_file(NAMESPACE, pod, "app", KEY_FILE)


def issued_blob(cluster: Cluster) -> str:
    """Return the ciphertext of the quickstart's request."""
    return str(cluster.get("datakeyrequest", REQUEST, "-n", NAMESPACE)["status"]["ciphertextBlob"])


def newest_app_pod(cluster: Cluster) -> str:
    """Return the name of the app's newest pod."""
    pods = cluster.get("pods", "-n", NAMESPACE, "-l", "app=orders")["items"]
    return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])


def show_scan(cluster: Cluster) -> None:
    """Look for the plaintext everywhere that it must not be."""
    key = read_key(cluster, newest_app_pod(cluster))
    needles = build_needles(key)
    findings, places = scan_everything(cluster, needles)
    for place in places:
        terminal.show(place)
    if findings:
        raise UnexpectedError(f"the plaintext was found: {findings}")
    terminal.good(f"{len(needles)} forms of the {len(key)} plaintext bytes looked for, none found")


def scan_everything(cluster: Cluster, needles: dict[str, bytes]) -> tuple[list[Finding], list[str]]:
    """Return what was found, and a line about every place that was searched."""
    findings: list[Finding] = []
    places: list[str] = []
    for what in ("etcd-data", "logs"):
        size, found = scan_folders([cluster_path(cluster.name, what)], needles)
        places.append(f"{what}: {size / 1e6:.1f} MB on disk")
        findings += found
    kinds = "secrets,configmaps,events,pods,kmskeys,datakeyrequests,kmsaliases,kmsgrants"
    objects = cluster.kubectl("get", kinds, "-A", "-o", "json").encode()
    findings += scan_bytes("objects", objects, needles)
    places.append(f"all Secrets, ConfigMaps, Events, Pods and custom resources: {len(objects) / 1e6:.1f} MB")
    log_bytes = 0
    for namespace, pod, container in _containers(cluster):
        log = cluster.kubectl("logs", "-n", namespace, pod, "-c", container, check=False).encode()
        log_bytes += len(log)
        findings += scan_bytes(f"log of {namespace}/{pod}/{container}", log, needles)
    places.append(f"logs of every container: {log_bytes / 1e6:.2f} MB")
    return findings, places


def _containers(cluster: Cluster) -> list[tuple[str, str, str]]:
    found = []
    for namespace in (SYSTEM_NAMESPACE, NAMESPACE):
        for pod in json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]:
            spec = pod["spec"]
            found += [
                (namespace, pod["metadata"]["name"], item["name"])
                for item in [*spec.get("initContainers", []), *spec["containers"]]
            ]
    return found
