"""A pod that exists but doesn't run, and what its token lets it decrypt. Zone: tests."""

import base64
import uuid
from typing import Any

from kubernetes import client

from controller_rig import TOKEN_SECONDS, Rig
from controller_wire import Wire, build_context
from datakeys.contract.identity import AUDIENCE


def start_pod(rig: Rig, namespace: str, account: str = "app", seconds: int = TOKEN_SECONDS) -> Wire:
    """Make a pod of a ServiceAccount; return calls of the key service with its token, valid for a time."""
    core, name = client.CoreV1Api(rig.api), f"pod-{uuid.uuid4().hex[:6]}"
    try:
        core.create_namespaced_service_account(namespace, _named(account))
    except client.ApiException as error:
        if error.status != 409:
            raise
    container = {"name": "app", "image": "example.invalid/app"}
    body: Any = {**_named(name), "spec": {"serviceAccountName": account, "containers": [container]}}
    pod: Any = core.create_namespaced_pod(namespace, body)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod.metadata.uid}
    spec = {"audiences": [AUDIENCE], "expirationSeconds": seconds, "boundObjectRef": bound}
    request: Any = {"spec": spec}
    answer: Any = core.create_namespaced_service_account_token(account, namespace, request)
    return Wire(rig, "", token=answer.status.token)


def decrypt(
    pod: Wire, ciphertext: str, namespace: str, request: str, account: str = "app", **pairs: str
) -> bytes:
    """Return the plaintext of a request's ciphertext (in base64), as a pod gets it.

    Args:
        pod: Calls with the pod's token.
        ciphertext: The ciphertext blob in base64.
        namespace: The request's namespace.
        request: The request's name.
        account: The pod's ServiceAccount.
        pairs: The request's own encryption context.
    """
    context = {**pairs, **build_context(namespace, request, account)}
    answer = pod.call("Decrypt", CiphertextBlob=ciphertext, EncryptionContext=context)
    return base64.b64decode(answer["Plaintext"])


def _named(name: str) -> Any:
    return {"metadata": {"name": name}}
