"""The last test of the tier: after everything above, no plaintext is anywhere it must not be."""

import base64
import json

from canary import build_needles, scan_bytes, scan_folders
from deployment import Cluster, cluster_path
from workloads import (
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_request,
    build_service_account,
    read_over_socket,
)

NAMESPACE = "canary"


def test_plaintext_is_in_no_etcd_secret_event_status_or_log(cluster: Cluster) -> None:
    """Data keys of both deliveries are looked for in the whole etcd, all objects and all logs."""
    deliveries = {"by-file": {}, "by-socket": {"datakeys.dev/delivery": "socket"}}
    apply(
        cluster,
        build_namespace(NAMESPACE),
        build_service_account(NAMESPACE, "app"),
        build_key(NAMESPACE, "main"),
        *[build_request(NAMESPACE, name) for name in deliveries],
        *[
            build_pod(NAMESPACE, name, requests=name, annotations=annotations)
            for name, annotations in deliveries.items()
        ],
    )
    needles: dict[str, bytes] = {}
    for name in deliveries:
        cluster.wait(f"pod/{name}", "condition=Ready", NAMESPACE)
        for form, needle in build_needles(_read_key(cluster, name)).items():
            needles[f"{name} {form}"] = needle
    for what in ("etcd-data", "logs"):
        size, findings = scan_folders([cluster_path(cluster.name, what)], needles)
        assert not findings
        assert size > 10_000, f"{what} is too small to be the real thing"
    kinds = "secrets,configmaps,events,pods,leases,kmskeys,datakeyrequests,kmsaliases,kmsgrants"
    objects = cluster.kubectl("get", kinds, "-A", "-o", "json").encode()
    assert not scan_bytes("objects", objects, needles)
    assert b"datakeys-root-key" in objects


def test_the_scan_would_find_a_leak(cluster: Cluster) -> None:
    """The same scan finds a value that is in etcd: the ciphertext, and the bytes of a Secret."""
    blob = cluster.get("secret", "by-file", "-n", NAMESPACE)["data"]["ciphertextBlob"]
    needles = build_needles(base64.b64decode(blob))
    _, findings = scan_folders([cluster_path(cluster.name, "etcd-data")], needles)
    assert {finding.form for finding in findings} >= {"raw"}
    status = json.dumps(cluster.get("datakeyrequest", "by-file", "-n", NAMESPACE)).encode()
    assert scan_bytes("status", status, needles)


def _read_key(cluster: Cluster, name: str) -> bytes:
    if name == "by-file":
        return cluster.read_file(NAMESPACE, name, "app", f"/var/run/datakeys/keys/{name}")
    status, key = read_over_socket(cluster, NAMESPACE, name, name)
    assert status == 200
    return key
