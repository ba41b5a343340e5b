"""The peer: the plainest operator with kopf and the usual client; one handler that makes a Secret.

It decides nothing and asks nobody for a data key. Run with ``kopf run``; KUBECONFIG says where.
"""

import base64

import kopf
from kubernetes import client, config

config.load_kube_config()
CORE = client.CoreV1Api()
BLOB = base64.b64encode(bytes(200)).decode()


@kopf.on.create("datakeys.dev", "v1alpha1", "datakeyrequests")
def issue(name: str, namespace: str, body: kopf.Body, patch: kopf.Patch, **_: object) -> None:
    secret = {
        "metadata": {"name": name},
        "type": "datakeys.dev/encrypted-data-key",
        "immutable": True,
        "data": {"ciphertextBlob": BLOB},
    }
    kopf.adopt(secret, owner=body)
    CORE.create_namespaced_secret(namespace, secret)
    patch.status["secretRef"] = {"name": name}
