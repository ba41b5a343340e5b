"""Objects as the API server answers them, and a kubectl that answers from a folder: for the plugin's tests.

Zone: tests.
"""

import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from datakeys.contract.identity import (
    ANNOTATION_INJECTED,
    ANNOTATION_REQUESTS,
    LABEL_INJECT,
    SECRET_TYPE,
)
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.output import Console
from workloads import Manifest
from workloads import build_key as build_spec_key
from workloads import build_request as build_spec_request

NAMESPACE: Final = "shop"
KEY_ID: Final = "0a1b2c3d-0000-4000-8000-00000000000f"
MADE: Final = "2026-01-02T03:04:05Z"

#: Answers ``get --raw PATH`` with the file of the path's name; without one as the API server would.
_FAKE: Final = """#!{python}
import json, os, signal, sys, urllib.parse
folder = {folder!r}
words = [word for word in sys.argv[1:] if not word.startswith("--request-timeout")]
with open(os.path.join(folder, "calls"), "a") as calls:
    calls.write(json.dumps(words) + "\\n")
name = "secrets" if "secrets" in words else "patch" if "patch" in words else words[-1]
path = os.path.join(folder, urllib.parse.quote(name, safe=""))
if not os.path.exists(path):
    if "secrets" in words:
        sys.exit(0)
    sys.exit("Error from server (NotFound): the server could not find the requested resource")
answer = open(path).read()
if answer == "NEVER":
    signal.pause()
if answer.startswith("Error") or answer.startswith("The connection"):
    sys.exit(answer)
sys.stdout.write(answer)
"""


class FakeKubectl:
    """A program that answers as kubectl would, from what a test has put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "answers"
        self.folder.mkdir()
        program = folder / "kubectl"
        program.write_text(_FAKE.format(python=sys.executable, folder=str(self.folder)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.program = str(program)

    def cluster(self, *flags: str) -> Cluster:
        """Return the cluster that it stands for."""
        return Cluster(self.program, flags)

    def answer(self, path: str, body: Any) -> None:
        """Answer a path with an object, or with a text as it is."""
        text = body if isinstance(body, str) else json.dumps(body)
        (self.folder / quote(path, safe="")).write_text(text)

    def answer_list(self, path: str, *items: Manifest) -> None:
        """Answer a collection's path, as the plugin asks for its first page."""
        joint = "&" if "?" in path else "?"
        self.answer(f"{path}{joint}limit=500", {"items": list(items), "metadata": {}})

    @property
    def calls(self) -> list[list[str]]:
        """Return the words of all calls."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def build_console(*, terminal: bool = False, colours: bool = False) -> tuple[Console, io.StringIO]:
    """Return a console and what it writes to."""
    out = io.StringIO()
    return Console(out, colours=colours, terminal=terminal), out


def build_key(name: str = "main", state: str | None = "Enabled", **spec: Any) -> Manifest:
    """Return a KmsKey that the controller has looked at."""
    key = build_spec_key(NAMESPACE, name, keySpec="SYMMETRIC_DEFAULT", **spec)
    key["metadata"] |= {"creationTimestamp": MADE, "generation": 1, "resourceVersion": "7"}
    if state:
        key["status"] = {
            "keyId": KEY_ID,
            "arn": f"arn:k8s:kms:c1:{NAMESPACE}:key/{KEY_ID}",
            "keyState": state,
            "conditions": [build_condition()],
        }
    return key


def build_request(name: str = "orders", *, ready: bool = True, **spec: Any) -> Manifest:
    """Return a DataKeyRequest for the KmsKey main and the ServiceAccount app."""
    request = build_spec_request(NAMESPACE, name, **spec)
    request["metadata"]["creationTimestamp"] = MADE
    if ready:
        request["status"] = {
            "keyId": f"arn:k8s:kms:c1:{NAMESPACE}:key/{KEY_ID}",
            "secretRef": {"name": name},
            "conditions": [build_condition()],
        }
    return request


def build_condition(status: str = "True", reason: str = "Issued", message: str = "", **more: Any) -> Manifest:
    """Return a condition, of type Ready unless said otherwise."""
    return {"type": "Ready", "status": status, "reason": reason, "message": message, **more}


def build_alias(name: str, **spec: Any) -> Manifest:
    """Return a KmsAlias."""
    return {"kind": "KmsAlias", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def build_secret_line(name: str, request: str, type_: str = SECRET_TYPE) -> str:
    """Return a line of the table of Secrets."""
    return f"{name}   {type_}   4      5m    {request}\n"


def build_injected_pod(
    *secrets: str, requests: str = "orders", status: Manifest | None = None, account: str = "app"
) -> Manifest:
    """Return a pod as the webhook leaves it; ``status`` is the sidecar's container status."""
    sources = [{"secret": {"name": name}} for name in secrets or ("orders",)]
    sidecar = {
        "name": "datakeys-sidecar",
        "restartPolicy": "Always",
        "volumeMounts": [{"name": "datakeys-encrypted-2", "mountPath": "/var/run/datakeys/encrypted"}],
    }
    statuses = [{"name": "datakeys-sidecar", **status}] if status is not None else []
    return {
        "kind": "Pod",
        "metadata": {
            "name": "orders-1",
            "namespace": NAMESPACE,
            "creationTimestamp": MADE,
            "labels": {LABEL_INJECT: "true"},
            "annotations": {ANNOTATION_REQUESTS: requests, ANNOTATION_INJECTED: "image"},
        },
        "spec": {
            "serviceAccountName": account,
            "initContainers": [sidecar],
            "containers": [{"name": "app"}],
            "volumes": [{"name": "datakeys-encrypted-2", "projected": {"sources": sources}}],
        },
        "status": {"initContainerStatuses": statuses},
    }


def build_webhook(**entry: Any) -> Manifest:
    """Return the MutatingWebhookConfiguration as the chart makes it."""
    return {
        "metadata": {"name": "datakeys-webhook", "creationTimestamp": "2025-01-01T00:00:00Z"},
        "webhooks": [
            {
                "name": "inject.datakeys.dev",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "caBundle": "Q0E=",
                    "service": {"namespace": "datakey-system", "name": "datakeys-webhook"},
                },
                "namespaceSelector": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/metadata.name",
                            "operator": "NotIn",
                            "values": ["datakey-system", "kube-system"],
                        }
                    ]
                },
                **entry,
            }
        ],
    }


def build_namespace(name: str = NAMESPACE) -> Manifest:
    """Return a Namespace."""
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}


def kubectl_environment(folder: str) -> dict[str, str]:
    """Return an environment in which the programs of a folder come first."""
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
