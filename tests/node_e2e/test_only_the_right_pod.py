"""A data key for one pod's identity only: every field it is bound to, changed one at a time, on real pods.

The calls are made from within pods, straight to the key service, with the tokens that the kubelet mounts.
Each refusal stands beside the same call that is served, so that none passes because the set-up is broken.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deployment import SYSTEM_NAMESPACE, Cluster, wait_until
from workloads import (
    Manifest,
    apply,
    build_key,
    build_namespace,
    build_pod,
    build_request,
    build_service_account,
    sidecar_log,
    status_of,
)

AUDIENCE = "keyservice.datakeys.dev"

#: Reads calls from standard input; prints each answer: status, and body or SHA-256 of the plaintext.
CALL = """
import base64, hashlib, http.client, json, ssl, sys
context = ssl.create_default_context(cafile="/trust/ca.crt")
connection = http.client.HTTPSConnection(sys.argv[1], 443, context=context, timeout=30)
answers = []
for call in json.load(sys.stdin):
    token = call["token"] or open("/token/token").read()
    body = json.dumps({"CiphertextBlob": call["blob"], "EncryptionContext": call["context"]})
    connection.request("POST", "/", body, {"X-Amz-Target": "TrentService.Decrypt",
        "Content-Type": "application/x-amz-json-1.1", "Authorization": "Bearer " + token})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if "Plaintext" in found:
        found = hashlib.sha256(base64.b64decode(found["Plaintext"])).hexdigest()
    answers.append([answer.status, found])
print(json.dumps(answers))
"""
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Sealed:
    """What a Secret holds: the encrypted data key and its context."""

    blob: str
    context: dict[str, str]

    def bound(self, **fields: str) -> "Sealed":
        """Return the same ciphertext with changed reserved pairs."""
        changed = {f"datakeys.dev/{name.replace('_', '-')}": value for name, value in fields.items()}
        return Sealed(self.blob, {**self.context, **changed})

    def flipped(self) -> "Sealed":
        """Return it with the last bit of the ciphertext changed."""
        raw = bytearray(base64.b64decode(self.blob))
        raw[-1] ^= 1
        return Sealed(base64.b64encode(raw).decode(), self.context)


@dataclass(frozen=True)
class Scene:
    """Two namespaces, ``home`` and ``away``, with callers in both."""

    cluster: Cluster
    home: str
    away: str

    def sealed(self, request: str) -> Sealed:
        """Return what the Secret of a request in ``home`` holds."""
        data = self.cluster.get("secret", request, "-n", self.home)["data"]
        fields = {name: base64.b64decode(value) for name, value in data.items()}
        return Sealed(
            base64.b64encode(fields["ciphertextBlob"]).decode(), json.loads(fields["encryptionContext"])
        )

    def ask(self, pod: str, *calls: Sealed, token: str = "") -> list[Answer]:
        """Call Decrypt from within a pod, with its own token unless another is given."""
        namespace = self.away if pod == "stranger" else self.home
        body = [{"blob": one.blob, "context": one.context, "token": token} for one in calls]
        host = f"datakeys-keyservice.{SYSTEM_NAMESPACE}.svc"
        answer = self.cluster.kubectl(
            "exec", "-i", "-n", namespace, pod, "-c", "app", "--", "python3", "-c", CALL, host,
            stdin=json.dumps(body),
        )  # fmt: skip
        return [(status, found) for status, found in json.loads(answer)]

    def token_of(self, pod: str) -> str:
        """Return the token that the kubelet has mounted into a pod."""
        return self.cluster.read_file(self.home, pod, "app", "/token/token").decode()


def build_caller(namespace: str, name: str, account: str) -> Manifest:
    """Return a pod with what a sidecar has: the trust bundle, and a token that is bound to the pod."""
    token = {"audience": AUDIENCE, "expirationSeconds": 600, "path": "token"}
    volumes: list[Manifest] = [
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "trust", "configMap": {"name": "datakeys-trust-bundle"}},
    ]
    pod = build_pod(namespace, name, account=account, volumes=volumes)
    pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes
    ]
    return pod


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Make data keys for ServiceAccount ``app``; callers of that account, of another, and from elsewhere."""
    suffix = uuid.uuid4().hex[:6]
    scene = Scene(cluster, f"home-{suffix}", f"away-{suffix}")
    for namespace in (scene.home, scene.away):
        apply(
            cluster,
            build_namespace(namespace),
            build_service_account(namespace, "app"),
            build_key(namespace, "main"),
            build_request(namespace, "disk", encryptionContext={"purpose": "disk"}),
        )
    apply(
        cluster,
        build_service_account(scene.home, "intruder"),
        build_request(scene.home, "backup", encryptionContext={"purpose": "disk"}),
        build_request(scene.home, "loot", account="intruder"),
        build_pod(scene.home, "owner", requests="disk,backup"),
        build_caller(scene.home, "colleague", "app"),
        build_caller(scene.home, "intruder", "intruder"),
        build_caller(scene.away, "stranger", "app"),
    )
    for pod, namespace in (
        ("owner", scene.home),
        ("colleague", scene.home),
        ("intruder", scene.home),
        ("stranger", scene.away),
    ):
        cluster.wait(f"pod/{pod}", "condition=Ready", namespace)
    try:
        yield scene
    finally:
        cluster.kubectl("delete", "namespace", scene.home, scene.away, "--wait=false")


def _digest(scene: Scene, request: str) -> str:
    key = scene.cluster.read_file(scene.home, "owner", "app", f"/var/run/datakeys/keys/{request}")
    return hashlib.sha256(key).hexdigest()


def test_the_right_account_in_the_right_namespace_is_served(scene: Scene) -> None:
    """The positive twin of everything below: the same caller, path and token give the key of the owner."""
    answers = scene.ask("colleague", scene.sealed("disk"), scene.sealed("backup"))
    assert answers == [(200, _digest(scene, "disk")), (200, _digest(scene, "backup"))]
    assert answers[0] != answers[1]


def test_another_account_or_namespace_learns_nothing(scene: Scene) -> None:
    """Right or wrong ciphertext: to whom it does not belong, the answer is always the same."""
    right = scene.sealed("disk")
    tries = [right, right.flipped(), Sealed(scene.sealed("backup").blob, right.context)]
    answers = [answer for pod in ("intruder", "stranger") for answer in scene.ask(pod, *tries)]
    assert {status for status, _ in answers} == {400}
    assert {body["__type"] for _, body in answers} == {"AccessDeniedException"}
    assert len({json.dumps(body, sort_keys=True) for _, body in answers}) == 1
    assert scene.ask("intruder", scene.sealed("loot"))[0][0] == 200


def test_a_context_edited_to_the_callers_own_identity_does_not_decrypt(scene: Scene) -> None:
    """Who writes himself into the context fails at the ciphertext, from elsewhere at the key already."""
    right = scene.sealed("disk")
    [(status, body)] = scene.ask("intruder", right.bound(service_account="intruder"))
    assert (status, body["__type"]) == (400, "InvalidCiphertextException")
    [(status, body)] = scene.ask("stranger", right.bound(namespace=scene.away))
    assert (status, body["__type"]) == (400, "AccessDeniedException")


def test_every_other_change_gives_one_and_the_same_error(scene: Scene) -> None:
    """Renamed request, swapped ciphertext, changed pair, flipped bit: there is no way to tell them apart."""
    right = scene.sealed("disk")
    bare = {name: value for name, value in right.context.items() if name != "purpose"}
    changed = {
        "renamed request": right.bound(request="renamed"),
        "request of another data key": right.bound(request="backup"),
        "swapped ciphertexts": Sealed(scene.sealed("backup").blob, right.context),
        "edited pair": Sealed(right.blob, {**right.context, "purpose": "tape"}),
        "missing pair": Sealed(right.blob, bare),
        "added pair": Sealed(right.blob, {**right.context, "more": "1"}),
        "flipped bit": right.flipped(),
    }
    answers = dict(zip(changed, scene.ask("colleague", *changed.values()), strict=True))
    assert {(status, body["__type"]) for status, body in answers.values()} == {
        (400, "InvalidCiphertextException")
    }, answers
    assert len({json.dumps(body, sort_keys=True) for _, body in answers.values()}) == 1
    assert scene.ask("colleague", right)[0][0] == 200


def test_a_whole_secret_under_another_requests_name_is_not_delivered(scene: Scene) -> None:
    """The pod could decrypt it, since it is its own account's: but it didn't ask for that data key."""
    copied = scene.cluster.get("secret", "disk", "-n", scene.home)
    copied["metadata"] = {"name": "renamed", "namespace": scene.home}
    pods = [build_pod(scene.home, name, requests=name) for name in ("renamed", "disk")]
    apply(scene.cluster, copied, *pods)
    scene.cluster.wait("pod/disk", "condition=Ready", scene.home)
    wait_until(
        "the copy is refused",
        180,
        lambda: "WrongRequest" in sidecar_log(scene.cluster, scene.home, "renamed"),
    )
    status = status_of(scene.cluster, "pod", "renamed", scene.home)
    assert status["phase"] == "Pending"
    assert not any(one.get("started") for one in status["containerStatuses"])


def test_a_token_of_the_account_that_is_bound_to_no_pod_opens_nothing(scene: Scene) -> None:
    """Who may create tokens for a ServiceAccount isn't its pod."""
    token = scene.cluster.kubectl(
        "create", "token", "app", "-n", scene.home, f"--audience={AUDIENCE}"
    ).strip()
    [(status, body)] = scene.ask("intruder", scene.sealed("disk"), token=token)
    assert (status, body["__type"]) == (400, "AccessDeniedException")
    assert scene.ask("colleague", scene.sealed("disk"))[0][0] == 200


def test_a_token_for_the_api_server_opens_nothing(scene: Scene) -> None:
    """Nor does one for any other audience: what pods usually hold is of no use here."""
    answers = []
    for options in ((), ("--audience=elsewhere",)):
        token = scene.cluster.kubectl("create", "token", "app", "-n", scene.home, *options).strip()
        answers += scene.ask("colleague", scene.sealed("disk"), token=token)
    assert {(status, body["__type"]) for status, body in answers} == {(400, "UnrecognizedClientException")}


def test_a_stolen_token_opens_nothing_in_another_pod(scene: Scene) -> None:
    """Neither what its own pod may open nor what the thief may; the answer is that for garbage."""
    token, right = scene.token_of("colleague"), scene.sealed("disk")
    assert scene.ask("colleague", right, token=token)[0][0] == 200
    for sealed in (right, scene.sealed("loot")):
        [(status, body)] = scene.ask("intruder", sealed, token=token)
        assert (status, body["__type"]) == (400, "UnrecognizedClientException")
        [(_, garbage)] = scene.ask("intruder", sealed, token="no-token")
        assert garbage == body
    assert scene.ask("intruder", scene.sealed("loot"))[0][0] == 200


def test_a_deleted_pods_token_opens_nothing(scene: Scene) -> None:
    """The token itself isn't expired; its pod is gone, and with it the only place it counts in."""
    apply(scene.cluster, build_caller(scene.home, "passing", "app"))
    scene.cluster.wait("pod/passing", "condition=Ready", scene.home)
    token, right = scene.token_of("passing"), scene.sealed("disk")
    assert scene.ask("passing", right, token=token)[0][0] == 200
    scene.cluster.kubectl("delete", "pod", "passing", "-n", scene.home, "--now", "--wait=true")
    [(status, body)] = scene.ask("colleague", right, token=token)
    assert (status, body["__type"]) == (400, "UnrecognizedClientException")
    assert scene.ask("colleague", right)[0][0] == 200
