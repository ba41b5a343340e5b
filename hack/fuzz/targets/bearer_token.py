"""Bearer tokens: only what the cluster has signed is a principal, and it is the one that the claims name.

The first line says what the rest is: ``token`` (as it comes), ``claims`` (JSON that the cluster signs), or
the JSON of a header (then claims that nobody has signed).
"""

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.authn.authenticator import Authenticator
from datakeys.keyservice.authn.claims import ControllerIdentity, TokenReview
from datakeys.keyservice.authn.signatures import SignatureVerifier
from fuzz.inline_executor import InlineExecutor
from fuzz.target import Target, require, split_line
from keyservice_rig import ISSUER, SYSTEM_NAMESPACE, Clock

_KEY: Final = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
_HEADER: Final = {"alg": "ES256", "kid": "key-1", "typ": "JWT"}
_BAD_HEADERS: Final[tuple[dict[str, Any], ...]] = (
    {"alg": "none"},
    {"alg": "HS256"},
    {"kid": "other"},
    {"crit": ["b64"], "b64": False},
)
_INTEGER_BYTES: Final = 32
_POD_ADDRESS: Final = "192.0.2.1"


class _Cluster:
    """Vouches for every token whose signature is right."""

    def fetch_issuer(self) -> str:
        return ISSUER

    def fetch_signing_keys(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key()))
        return {"keys": [{**key, "kid": "key-1", "alg": "ES256", "use": "sig"}]}

    def review(self, token: str, audience: str) -> TokenReview:
        claims = jwt.decode(token, options={"verify_signature": False})
        cluster = claims["kubernetes.io"]
        pod = cluster.get("pod")
        uids = [pod["uid"]] if isinstance(pod, Mapping) and "uid" in pod else []
        return TokenReview(
            authenticated=True,
            user_name=claims["sub"],
            uid=cluster["serviceaccount"]["uid"],
            audiences=(audience,),
            extra={"authentication.kubernetes.io/pod-uid": uids},
        )

    def fetch_pod(self, namespace: str, name: str) -> dict[str, Any] | None:  # noqa: ARG002 - the protocol's
        return {"metadata": {"uid": "uid-pod"}, "spec": {}, "status": {"podIPs": [{"ip": _POD_ADDRESS}]}}


class BearerTokenTarget(Target):
    """``Authenticator.authenticate``."""

    words = ("none", "HS256", "RS256", "ES256", "alg", "kid", "key-1", "crit", "b64", "jku", "jwk", AUDIENCE)
    has_json = True

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._clock = Clock()
        cluster = _Cluster()
        self._authenticator = Authenticator(
            cluster,
            SignatureVerifier(cluster, AUDIENCE, Clock(1000.0)),
            ControllerIdentity(SYSTEM_NAMESPACE, "datakeys-controller"),
            cache_seconds=10,
            executor=InlineExecutor(),
            monotonic=Clock(1000.0),
            wall_clock=self._clock,
            check_addresses=True,
        )

    def close(self) -> None:
        """Give back what it holds."""
        self._loop.close()

    def seeds(self) -> Iterator[bytes]:
        """Return good claims of each kind of principal, and headers that were attacks elsewhere."""
        for name in ("app", "datakeys-controller"):
            for pod in (None, {"name": "pod-1", "uid": "uid-pod"}):
                claims = self._claims(name, pod)
                yield b"claims\n" + json.dumps(claims).encode()
                yield b"token\n" + _sign(json.dumps(claims).encode()).encode()
        good = json.dumps(self._claims("app", None)).encode()
        for header in _BAD_HEADERS:
            yield json.dumps({**_HEADER, **header}).encode() + b"\n" + good
        yield b"claims\n" + json.dumps({**self._claims("app", None), "exp": 10**400}).encode()

    def _claims(self, name: str, pod: dict[str, str] | None) -> dict[str, Any]:
        # The JWT library takes this machine's clock, whenever the corpus is replayed: valid for decades.
        now = int(self._clock())
        namespace = SYSTEM_NAMESPACE if name.startswith("datakeys") else "team-a"
        cluster = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "uid-sa"}}
        return {
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "iat": 1,
            "nbf": 1,
            "exp": now * 2,
            "kubernetes.io": {**cluster, "pod": pod} if pod else cluster,
        }

    def run(self, data: bytes) -> None:
        """Authenticate with the input."""
        line, rest = split_line(data)
        signed = line == "claims"
        if line == "token":
            token = rest
        else:
            token = (_sign(rest) if signed else f"{_encode(line.encode())}.{_encode(rest)}.AAAA").encode()
        try:
            principal = self._loop.run_until_complete(
                self._authenticator.authenticate(token, f"{_POD_ADDRESS}:5000")
            )
        except UnrecognizedClientError:
            return
        require(signed or _is_signed(token), "nobody has signed this token")
        claims = jwt.decode(token, options={"verify_signature": False})
        require(principal.user_name == claims["sub"], "the principal isn't the claims'", principal)
        require(bool(principal.pod_uid) == bool(principal.pod_name), "half a pod", principal)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _sign(claims: bytes) -> str:
    """Return a token of any claims, be they JSON or not."""
    content = f"{_encode(json.dumps(_HEADER).encode())}.{_encode(claims)}"
    numbers = decode_dss_signature(_KEY.sign(content.encode(), ec.ECDSA(SHA256())))
    signature = b"".join(number.to_bytes(_INTEGER_BYTES, "big") for number in numbers)
    return f"{content}.{_encode(signature)}"


def _is_signed(token: bytes) -> bool:
    try:
        jwt.decode(token, _KEY.public_key(), algorithms=["ES256"], options={"verify_aud": False})
    except jwt.ExpiredSignatureError:  # by this machine's clock
        return True
    except jwt.PyJWTError:
        return False
    return True


def build() -> BearerTokenTarget:
    """Return the target."""
    return BearerTokenTarget()
