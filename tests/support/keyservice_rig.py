"""A key service in memory: its operations, a clock that stands still, and tokens that are really signed.

Zone: tests. `FakeClusterApi` is in `cluster_api_fake`.
"""

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.audit.audit_log import AuditLog
from datakeys.keyservice.authn.authenticator import Authenticator
from datakeys.keyservice.authn.claims import ControllerIdentity, TokenReview
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.operations.table import VERBS
from datakeys.keyservice.server.callers import BearerCallers
from datakeys.keyservice.server.dispatch import Dispatcher
from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.store.memory import MemoryStore

SYSTEM_NAMESPACE = "datakey-system"
ISSUER = "https://kubernetes.default.svc"
REGION = "cluster-1"
START = 1_800_000_000.0

CONTROLLER = Principal(PrincipalKind.CONTROLLER, SYSTEM_NAMESPACE, "datakeys-controller", "uid-c")


def pod(namespace: str = "team-a", service_account: str = "app") -> Principal:
    """Return the principal of a pod."""
    return Principal(PrincipalKind.POD, namespace, service_account, "uid-sa", "pod-1", "uid-pod")


def account(namespace: str = "team-a", service_account: str = "app") -> Principal:
    """Return the principal of a ServiceAccount token that is bound to no pod."""
    return Principal(PrincipalKind.SERVICE_ACCOUNT, namespace, service_account, "uid-sa")


def bound(namespace: str = "team-a", service_account: str = "app", **more: str) -> dict[str, str]:
    """Return an encryption context with the three reserved pairs."""
    return {
        "datakeys.dev/namespace": namespace,
        "datakeys.dev/request": "request-1",
        "datakeys.dev/service-account": service_account,
        **more,
    }


def b64(data: bytes) -> str:
    """Return standard base64."""
    return base64.b64encode(data).decode()


@dataclass
class Clock:
    """A clock that moves only when told."""

    now: float = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class Rig:
    """The operations on a memory store, called with no HTTP and no token."""

    random: Callable[[int], bytes] = os.urandom
    clock: Clock = field(default_factory=Clock)
    store: MemoryStore = field(default_factory=MemoryStore)
    root_secret: bytes = field(default_factory=lambda: os.urandom(32))

    def __post_init__(self) -> None:
        """Put the service together."""
        self.root_key = RootKey(self.root_secret)
        self.keyring = Keyring(self.root_key)
        self.store.index.listeners.append(self.keyring.forget)
        self.service = Service(
            Realm(REGION), self.store, self.root_key, self.keyring, self.clock, self.random
        )
        self.service.changes.follow(self.store.index)
        self.last: Call | None = None

    def call(
        self,
        operation: str,
        body: Mapping[str, Any] | None = None,
        *,
        by: Principal = CONTROLLER,
        account: str = "team-a",
        object_name: str = "",
    ) -> dict[str, Any]:
        """Run one operation on what JSON makes of the body; errors come as `KmsError`."""
        acting = account if by.kind is PrincipalKind.CONTROLLER else by.namespace
        self.last = Call(by, acting, json.loads(json.dumps(body or {})), object_name)
        answer: dict[str, Any] = json.loads(json.dumps(VERBS[operation].run(self.service, self.last)))
        return answer

    def create_key(self, *, account: str = "team-a", **members: Any) -> str:
        """Create a key and return its ARN."""
        return str(self.call("CreateKey", members, account=account)["KeyMetadata"]["Arn"])

    def data_key(self, key_arn: str, context: Mapping[str, str] | None = None, **members: Any) -> str:
        """Return the base64 blob of a new data key that is bound to the pod ``app`` of ``team-a``."""
        body = {"KeyId": key_arn, "KeySpec": "AES_256", "EncryptionContext": context or bound(), **members}
        return str(self.call("GenerateDataKeyWithoutPlaintext", body)["CiphertextBlob"])

    def grant(self, key_arn: str, *operations: str, to: str = "app", **members: Any) -> dict[str, Any]:
        """Grant operations to a ServiceAccount of team-a."""
        grantee = f"system:serviceaccount:team-a:{to}"
        body = {"KeyId": key_arn, "GranteePrincipal": grantee, "Operations": list(operations), **members}
        return self.call("CreateGrant", body)


@dataclass
class TokenIssuer:
    """Signs ServiceAccount tokens with an RSA key of its own, and is the cluster that vouches for them."""

    clock: Clock = field(default_factory=Clock)
    key_id: str = "key-1"
    reviews: int = 0
    reachable: bool = True
    dead: set[str] = field(default_factory=set)
    pods: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    before_review: Callable[[], None] = lambda: None
    issuer: str = ISSUER
    fetches: int = 0

    def __post_init__(self) -> None:
        """Make the signing key."""
        self.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def claims(self, namespace: str, service_account: str, *, in_pod: bool = False) -> dict[str, Any]:
        """Return the claims of a token that is valid for ten minutes."""
        now = int(self.clock())
        cluster: dict[str, Any] = {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": f"uid-{namespace}-{service_account}"},
        }
        if in_pod:
            cluster["pod"] = {"name": "pod-1", "uid": f"uid-pod-{service_account}"}
        return {
            "iss": self.issuer,
            "aud": [AUDIENCE],
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "kubernetes.io": cluster,
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the token of claims."""
        return jwt.encode(dict(claims), self.private_key, algorithm="RS256", headers={"kid": self.key_id})

    def token(self, namespace: str, service_account: str, *, in_pod: bool = False) -> str:
        """Return a valid token."""
        return self.sign(self.claims(namespace, service_account, in_pod=in_pod))

    def fetch_issuer(self) -> str:
        """Return the issuer."""
        self._reach()
        return self.issuer

    def fetch_signing_keys(self) -> dict[str, Any]:
        """Return the JSON Web Key Set."""
        self._reach()
        self.fetches += 1
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.private_key.public_key()))
        return {"keys": [{**key, "kid": self.key_id, "alg": "RS256", "use": "sig"}]}

    def review(self, token: str, audience: str) -> TokenReview:
        """Vouch for a token that wasn't declared dead."""
        self.reviews += 1
        self.before_review()
        self._reach()
        if token in self.dead:
            return TokenReview(authenticated=False)
        claims = jwt.decode(token, options={"verify_signature": False})
        cluster = claims["kubernetes.io"]
        extra = {"authentication.kubernetes.io/pod-uid": [cluster["pod"]["uid"]]} if "pod" in cluster else {}
        uid = cluster["serviceaccount"]["uid"]
        return TokenReview(
            authenticated=True, user_name=claims["sub"], uid=uid, audiences=(audience,), extra=extra
        )

    def fetch_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a pod of ``pods``."""
        self._reach()
        return self.pods.get((namespace, name))

    def _reach(self) -> None:
        if not self.reachable:
            raise DependencyTimeoutError("the cluster's API can't be reached")


class DispatchRig:
    """The whole way of a request but for the socket."""

    def __init__(
        self,
        audit_fd: int,
        rig: Rig | None = None,
        *,
        cache_seconds: float = 10,
        check_addresses: bool = False,
    ) -> None:
        self.rig = rig or Rig()
        self.issuer = TokenIssuer(self.rig.clock)
        self.executor = ThreadPoolExecutor(4)
        self.monotonic = Clock(1000.0)
        self.metrics = RequestMetrics()
        verifier = SignatureVerifier(self.issuer, AUDIENCE, self.monotonic)
        self.authenticator = Authenticator(
            self.issuer,
            verifier,
            ControllerIdentity(SYSTEM_NAMESPACE, "datakeys-controller"),
            cache_seconds=cache_seconds,
            executor=self.executor,
            monotonic=self.monotonic,
            wall_clock=self.rig.clock,
            check_addresses=check_addresses,
        )
        audit = AuditLog(REGION, fd=audit_fd, clock=self.rig.clock)
        self.dispatcher = Dispatcher(
            self.rig.service, BearerCallers(self.authenticator), audit, self.metrics, self.executor
        )

    def close(self) -> None:
        """End the threads."""
        self.executor.shutdown()

    def request(
        self, operation: str, body: Any = None, token: str | None = None, **headers: str
    ) -> HttpRequest:
        """Build a request; header names have underscores for dashes."""
        sent = {b"x-amz-target": f"TrentService.{operation}".encode()}
        if token is not None:
            sent[b"authorization"] = f"Bearer {token}".encode()
        sent |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return HttpRequest("POST", b"/", sent, raw, "192.0.2.1:5000")

    def handle(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Hand a request to the dispatcher."""
        return self.dispatcher.handle(request)

    async def send(
        self, operation: str, body: Any = None, token: str | None = None, **headers: str
    ) -> tuple[int, dict[str, Any], HttpResponse]:
        """Send a request; return status, decoded body and the answer itself."""
        answer = self.handle(self.request(operation, body, token, **headers))
        if not isinstance(answer, HttpResponse):
            answer = await asyncio.wait_for(answer, 60)
        return answer.status, json.loads(answer.body), answer
