"""A new version of a data key: running pods keep what they have, new pods get every version that is kept."""

import hashlib
import json
import time

import pytest

from datakeys.webhook.request_lookup import REMEMBER_SECONDS
from deployment import Cluster, wait_until
from workloads import apply, build_pod, build_request, build_service_account

KEYS = "/var/run/datakeys/keys"


def read(cluster: Cluster, namespace: str, pod: str) -> dict[str, str]:
    """Return a digest of every data key that a pod has."""
    cluster.wait(f"pod/{pod}", "condition=Ready", namespace)
    names = cluster.kubectl("exec", "-n", namespace, pod, "-c", "app", "--", "ls", KEYS).split()
    return {
        name: hashlib.sha256(cluster.read_file(namespace, pod, "app", f"{KEYS}/{name}")).hexdigest()
        for name in names
    }


def foretell(cluster: Cluster, namespace: str) -> list[str]:
    """Return the names of the data keys that a new pod would get."""
    manifest = json.dumps(build_pod(namespace, "dry-run", requests="disk"))
    made = cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=manifest)
    variables = json.loads(made)["spec"]["initContainers"][0]["env"]
    (names,) = [one["value"] for one in variables if one["name"] == "DATAKEYS_REQUESTS"]
    return sorted(names.split(","))


@pytest.mark.usefixtures("key")
def test_new_pods_get_the_new_version_and_those_that_are_kept(cluster: Cluster, namespace: str) -> None:
    apply(
        cluster,
        build_service_account(namespace, "app"),
        build_request(namespace, "disk"),
        build_pod(namespace, "before", requests="disk"),
    )
    before = read(cluster, namespace, "before")
    assert list(before) == ["disk"]

    apply(cluster, build_request(namespace, "disk", version=2))
    cluster.wait("datakeyrequest/disk", "jsonpath={.status.version}=2", namespace)
    apply(cluster, build_pod(namespace, "after", requests="disk"))
    after = read(cluster, namespace, "after")
    assert after["disk"] == after["disk@2"]
    assert after["disk@1"] == before["disk"]
    assert after["disk@1"] != after["disk@2"]
    assert read(cluster, namespace, "before") == before

    apply(cluster, build_request(namespace, "disk", version=2, oldestVersion=2))
    wait_until("version 1 isn't offered", 120, lambda: foretell(cluster, namespace) == ["disk", "disk@2"])
    # The other replica of the webhook may remember what it was asked meanwhile.
    time.sleep(REMEMBER_SECONDS)
    apply(cluster, build_pod(namespace, "later", requests="disk"))
    assert read(cluster, namespace, "later") == {"disk": after["disk"], "disk@2": after["disk"]}
