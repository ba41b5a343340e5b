"""The key service as in a cluster: bearer tokens, the policy chain, RBAC, quotas and audit, all of them real.

A stand-in takes the place of the cluster only: it vouches for the tokens, which are really signed, and
answers access reviews with yes. Usage: cluster_mode.py PORT FOLDER [tls]; what to send goes to
FOLDER/requests.json.
"""

import asyncio
import base64
import json
import os
import pathlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import uvloop

from datakeys.contract.identity import AUDIENCE, HEADER_ACCOUNT
from datakeys.keyservice.audit.audit_log import AuditLog
from datakeys.keyservice.authn.access_reviews import ClusterAuthorizer
from datakeys.keyservice.authn.authenticator import Authenticator
from datakeys.keyservice.authn.claims import ControllerIdentity
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.cluster_api import Answer
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.pki.authority import Lifetimes, build_generation, build_leaf
from datakeys.keyservice.pki.tls import build_server_context
from datakeys.keyservice.server.callers import BearerCallers
from datakeys.keyservice.server.dispatch import Dispatcher
from datakeys.keyservice.server.http import HttpLimits, HttpRequest, HttpResponse, HttpServer
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.server.quotas import build_quotas
from datakeys.keyservice.store.memory import MemoryStore
from keyservice_rig import REGION, SYSTEM_NAMESPACE, TokenIssuer, bound

NAMESPACE, SERVICE_ACCOUNT, CONTROLLER = "team-a", "app", "datakeys-controller"
#: The quotas are counted and never reached.
QUOTA_FACTOR = 1000.0


class AllowingApi:
    """The cluster's access reviews: everybody may."""

    def call(self, *_args, **_kwargs):
        return Answer(201, {"status": {"allowed": True}})


def build_dispatcher(audit_fd, issuer, executor):
    """Put the service together as the cluster's process does, on a store in memory."""
    root_key, store = RootKey(os.urandom(32)), MemoryStore()
    authorizer = ClusterAuthorizer(AllowingApi(), time.monotonic)
    keyring = Keyring(root_key)
    store.index.listeners.append(keyring.forget)
    service = Service(Realm(REGION), store, root_key, keyring, time.time, os.urandom, authorizer=authorizer)
    authenticator = Authenticator(
        issuer,
        SignatureVerifier(issuer, AUDIENCE, time.monotonic),
        ControllerIdentity(SYSTEM_NAMESPACE, CONTROLLER),
        cache_seconds=10,
        executor=executor,
        monotonic=time.monotonic,
        wall_clock=time.time,
    )
    quotas = build_quotas(QUOTA_FACTOR, time.monotonic)
    audit = AuditLog(REGION, fd=audit_fd)
    return Dispatcher(service, BearerCallers(authenticator), audit, RequestMetrics(), executor, quotas)


async def send(handle, operation, headers, body):
    sent = {name.lower().encode(): value.encode() for name, value in headers.items()}
    sent[b"x-amz-target"] = f"TrentService.{operation}".encode()
    answer = handle(HttpRequest("POST", b"/", sent, json.dumps(body).encode(), ""))
    answer = answer if isinstance(answer, HttpResponse) else await answer
    if answer.status != 200:
        raise SystemExit(answer.body)
    return json.loads(answer.body)


async def prepare_requests(handle, issuer):
    """Make a key; return headers and body of each operation by who calls it in a cluster."""
    controller = {
        "Authorization": f"Bearer {issuer.token(SYSTEM_NAMESPACE, CONTROLLER, in_pod=True)}",
        HEADER_ACCOUNT: NAMESPACE,
    }
    pod = {"Authorization": f"Bearer {issuer.token(NAMESPACE, SERVICE_ACCOUNT, in_pod=True)}"}
    key = (await send(handle, "CreateKey", controller, {}))["KeyMetadata"]["Arn"]
    generate = {"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": bound(NAMESPACE, SERVICE_ACCOUNT)}
    made = await send(handle, "GenerateDataKeyWithoutPlaintext", controller, generate)
    decrypt = {
        "CiphertextBlob": made["CiphertextBlob"],
        "EncryptionContext": generate["EncryptionContext"],
        "KeyId": key,
    }
    plaintext = base64.b64encode(bytes(32)).decode()
    encrypt = {
        "KeyId": key,
        "Plaintext": plaintext,
        "EncryptionContext": {"purpose": "benchmark", "tenant": "blue"},
    }
    return {
        "GenerateDataKeyWithoutPlaintext": (controller, generate),
        "Decrypt": (pod, decrypt),
        "Encrypt": (pod, encrypt),
    }


async def main():
    port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    issuer = TokenIssuer(time.time)
    audit_fd = os.open(folder / "audit.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    dispatcher = build_dispatcher(audit_fd, issuer, ThreadPoolExecutor(16))
    requests = await prepare_requests(dispatcher.handle, issuer)
    (folder / "requests.json").write_text(json.dumps(requests))
    context = build_tls() if "tls" in sys.argv else None
    server = HttpServer(dispatcher.handle, HttpLimits(), ssl_context=context)
    await server.start("127.0.0.1", port)
    await asyncio.Event().wait()


def build_tls():
    """Return the context that the cluster's process serves with."""
    now = time.time()
    return build_server_context(
        build_leaf(build_generation(now, Lifetimes()), ["localhost"], now, Lifetimes())
    )


if __name__ == "__main__":
    uvloop.run(main())
