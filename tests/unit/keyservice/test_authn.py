"""Tokens: what passes, what doesn't, and how often the cluster is asked. All tokens are really signed."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import DependencyTimeoutError, UnrecognizedClientError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.authn import authenticator as authenticator_module
from datakeys.keyservice.authn.claims import (
    ControllerIdentity,
    TokenReview,
    confirm_review,
    decide_principal,
)
from datakeys.keyservice.authn.cluster import PATH_ISSUER, PATH_KEYS, PATH_REVIEWS, KubernetesCluster
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.cluster_api import Answer
from datakeys.keyservice.server.wire import parse_bearer
from keyservice_rig import Clock, DispatchRig, TokenIssuer, pod

CONTROLLER = ControllerIdentity("datakey-system", "datakeys-controller")
PEER = "192.0.2.1:5000"


def now_issuer() -> TokenIssuer:
    """Return an issuer at the real time: the JWT library compares with it."""
    return TokenIssuer(Clock(time.time()))


@pytest.fixture
def issuer() -> TokenIssuer:
    return now_issuer()


@pytest.fixture
def verifier(issuer: TokenIssuer) -> SignatureVerifier:
    return SignatureVerifier(issuer, AUDIENCE, Clock(0))


def encode(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_valid_token(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """A token of the cluster gives its claims."""
    claims = verifier.verify(issuer.token("team-a", "app"))
    assert claims["sub"] == "system:serviceaccount:team-a:app"


@pytest.mark.parametrize(
    "change",
    [
        {"aud": ["https://kubernetes.default.svc"]},
        {"aud": []},
        {"iss": "https://other"},
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**33},
        {"iat": None},
        {"sub": None},
        {"exp": "soon"},
        {"exp": float("inf")},
    ],
    ids=str,
)
def test_claims_that_do_not_pass(
    issuer: TokenIssuer, verifier: SignatureVerifier, change: dict[str, Any]
) -> None:
    """Wrong audience, other issuer, expired, not yet valid, or a missing claim: one error for all."""
    claims = {**issuer.claims("team-a", "app"), **change}
    token = issuer.sign({name: value for name, value in claims.items() if value is not None})
    with pytest.raises(UnrecognizedClientError) as caught:
        verifier.verify(token)
    assert caught.value.message == ""
    assert caught.value.__cause__ is None


def test_alg_none(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """An unsigned token doesn't pass, with and without an empty signature."""
    head, claims = encode({"alg": "none", "kid": "key-1"}), encode(issuer.claims("team-a", "app"))
    for token in (f"{head}.{claims}.", f"{head}.{claims}", f"{head}.{claims}.AA"):
        with pytest.raises(UnrecognizedClientError):
            verifier.verify(token)


def test_hs256_with_the_public_key(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """The public key isn't a shared secret, whatever the header says."""
    public = issuer.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = encode(issuer.claims("team-a", "app"))
    signed = f"{encode({'alg': 'HS256', 'kid': 'key-1', 'typ': 'JWT'})}.{claims}"
    tag = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    with pytest.raises(UnrecognizedClientError):
        verifier.verify(f"{signed}.{encode(tag)}")


def test_key_of_another_cluster(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """The same key id with another key behind it doesn't pass."""
    with pytest.raises(UnrecognizedClientError):
        verifier.verify(now_issuer().token("team-a", "app"))
    assert verifier.verify(issuer.token("team-a", "app"))


def test_header_can_not_choose_another_type_of_key(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """ES256 in the header with the RSA key's id doesn't pass."""
    token = jwt.encode(
        issuer.claims("team-a", "app"),
        ec.generate_private_key(ec.SECP256R1()),
        algorithm="ES256",
        headers={"kid": "key-1"},
    )
    with pytest.raises(UnrecognizedClientError):
        verifier.verify(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "\u00e4.b.c",
        "a b.c.d",
        "x" * 20_000,
        encode([]) + ".e30.AA",
        encode({"alg": "RS256"}) + ".e30.AA",
        encode({"alg": "RS256", "kid": 5}) + ".e30.AA",
        encode({"alg": ["RS256"], "kid": "key-1"}) + ".e30.AA",
        encode(b"[" * 9000) + ".e30.AA",
        encode({"alg": "RS256", "kid": "key-1"}) + "." + encode(b"[" * 5000) + ".AA",
    ],
)
def test_garbage(verifier: SignatureVerifier, token: str) -> None:
    """Whatever else comes is the same error, and nothing else."""
    with pytest.raises(UnrecognizedClientError) as caught:
        verifier.verify(token)
    assert caught.value.message == ""


def test_changed_token(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """A changed claim breaks the signature; padding and blanks make no second spelling."""
    token = issuer.token("team-a", "app")
    head, _, signature = token.split(".")
    forged = encode(issuer.claims("team-b", "app"))
    for candidate in (f"{head}.{forged}.{signature}", token + "=", token + " ", "." + token):
        with pytest.raises(UnrecognizedClientError):
            verifier.verify(candidate)


def test_new_signing_key_is_fetched(issuer: TokenIssuer) -> None:
    """An unknown key id makes one fetch, and no second within ten seconds."""
    clock = Clock(0)
    verifier = SignatureVerifier(issuer, AUDIENCE, clock)
    verifier.verify(issuer.token("team-a", "app"))
    assert issuer.fetches == 1
    issuer.key_id = "key-2"
    issuer.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for _ in range(3):
        with pytest.raises(UnrecognizedClientError):
            verifier.verify(issuer.token("team-a", "app"))
    assert issuer.fetches == 1
    clock.now = 10
    assert verifier.verify(issuer.token("team-a", "app"))
    assert issuer.fetches == 2


def test_no_keys_no_answer(issuer: TokenIssuer, verifier: SignatureVerifier) -> None:
    """If the keys can't be fetched the caller may try again, and the next try fetches at once."""
    issuer.reachable = False
    with pytest.raises(DependencyTimeoutError):
        verifier.verify(issuer.token("team-a", "app"))
    issuer.reachable = True
    assert verifier.verify(issuer.token("team-a", "app"))


def test_known_keys_outlive_an_outage(issuer: TokenIssuer) -> None:
    """A failed refresh leaves the known keys."""
    clock = Clock(0)
    verifier = SignatureVerifier(issuer, AUDIENCE, clock)
    verifier.load()
    issuer.reachable, clock.now = False, 100
    unknown = TokenIssuer(issuer.clock, key_id="key-9").token("team-a", "app")
    with pytest.raises(DependencyTimeoutError):
        verifier.verify(unknown)
    assert verifier.verify(issuer.token("team-a", "app"))


def test_useless_keys_are_left_out(issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of other algorithms, broken ones and nameless ones don't disturb the good one."""
    good = issuer.fetch_signing_keys()["keys"][0]
    nameless = {name: value for name, value in good.items() if name != "kid"}
    keys = ["x", {"alg": "HS256", "k": "AA"}, {"alg": "RS256", "kty": "RSA", "n": "%"}, nameless, good]
    monkeypatch.setattr(issuer, "fetch_signing_keys", lambda: {"keys": keys})
    verifier = SignatureVerifier(issuer, AUDIENCE, Clock(0))
    assert verifier.verify(issuer.token("team-a", "app"))


def claims_of(**change: Any) -> dict[str, Any]:
    return {**TokenIssuer.claims(now_issuer(), "team-a", "app", in_pod=True), **change}


def test_principals() -> None:
    """A pod's token, a bare token and the controller's token are told apart."""
    claims = claims_of()
    assert decide_principal(claims, CONTROLLER).kind is PrincipalKind.POD
    bare = {name: value for name, value in claims["kubernetes.io"].items() if name != "pod"}
    assert (
        decide_principal({**claims, "kubernetes.io": bare}, CONTROLLER).kind is PrincipalKind.SERVICE_ACCOUNT
    )
    own = ControllerIdentity("team-a", "app")
    assert decide_principal(claims, own).kind is PrincipalKind.CONTROLLER


def test_same_name_elsewhere_is_not_the_controller() -> None:
    """The controller's name in another namespace is nobody special."""
    issuer = now_issuer()
    claims = issuer.claims("team-a", "datakeys-controller", in_pod=True)
    assert decide_principal(claims, CONTROLLER).kind is PrincipalKind.POD


CLAIMED = {"namespace": "team-a", "serviceaccount": {"name": "app", "uid": "u"}}


@pytest.mark.parametrize(
    "change",
    [
        {"kubernetes.io": None},
        {"kubernetes.io": "x"},
        {"kubernetes.io": {}},
        {"kubernetes.io": {"namespace": "team-a"}},
        {"kubernetes.io": {"namespace": 5, "serviceaccount": {"name": "app", "uid": "u"}}},
        {"kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "app"}}},
        {"kubernetes.io": {"namespace": "", "serviceaccount": {"name": "app", "uid": "u"}}},
        {"kubernetes.io": {**CLAIMED, "pod": {"name": "pod-1", "uid": ""}}},
        {"kubernetes.io": {**CLAIMED, "pod": "pod-1"}},
        {"sub": "system:serviceaccount:team-b:app"},
        {"sub": "app"},
    ],
    ids=str,
)
def test_claims_of_nobody(change: dict[str, Any]) -> None:
    """Claims that aren't a ServiceAccount's, or contradict each other, name nobody."""
    with pytest.raises(UnrecognizedClientError):
        decide_principal(claims_of(**change), CONTROLLER)


def review(**change: Any) -> TokenReview:
    facts: dict[str, Any] = {
        "authenticated": True,
        "user_name": "system:serviceaccount:team-a:app",
        "uid": "uid-sa",
        "audiences": [AUDIENCE],
        "extra": {"authentication.kubernetes.io/pod-uid": ["uid-pod"]},
    }
    return TokenReview(**{**facts, **change})


def test_review_that_confirms() -> None:
    """The cluster's answer agrees with the claims."""
    confirm_review(pod(), review(), AUDIENCE)


@pytest.mark.parametrize(
    "change",
    [
        {"authenticated": False},
        {"user_name": "system:serviceaccount:team-b:app"},
        {"uid": "other"},
        {"audiences": []},
        {"audiences": ["other"]},
        {"extra": {}},
        {"extra": {"authentication.kubernetes.io/pod-uid": ["other"]}},
    ],
    ids=str,
)
def test_review_that_does_not_confirm(change: dict[str, Any]) -> None:
    """Not alive, or about somebody else: refused."""
    with pytest.raises(UnrecognizedClientError):
        confirm_review(pod(), review(**change), AUDIENCE)


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic abc", b"AWS4-HMAC-SHA256 Credential=x"]
)
def test_other_schemes(header: bytes) -> None:
    """Only a bearer token counts."""
    with pytest.raises(UnrecognizedClientError):
        parse_bearer(header)


def test_bearer_scheme_has_no_case() -> None:
    """The scheme's letters may be of any case."""
    assert parse_bearer(b"bearer abc") == parse_bearer(b"Bearer abc ") == b"abc"


class TestCache:
    """How often the cluster is asked."""

    @pytest.fixture
    def rig(self, dispatch_rig: DispatchRig) -> DispatchRig:
        """Return the way of a request, at the real time."""
        dispatch_rig.issuer.clock = dispatch_rig.rig.clock = Clock(now_issuer().clock.now)
        dispatch_rig.authenticator._wall_clock = dispatch_rig.rig.clock
        return dispatch_rig

    @pytest.fixture
    def token(self, rig: DispatchRig) -> bytes:
        """Return a pod's token."""
        return rig.issuer.token("team-a", "app", in_pod=True).encode()

    async def test_burst_makes_one_review(self, rig: DispatchRig, token: bytes) -> None:
        """Many requests with one new token ask once."""
        principals = await asyncio.gather(*(rig.authenticator.authenticate(token, PEER) for _ in range(50)))
        assert len(set(principals)) == 1
        assert rig.issuer.reviews == 1

    async def test_verdict_lives_for_the_cache_time(self, rig: DispatchRig, token: bytes) -> None:
        """Within the time nobody is asked; after it the token must be asked about again."""
        assert rig.authenticator.find_cached(token, PEER) is None
        await rig.authenticator.authenticate(token, PEER)
        rig.monotonic.now += 6.9
        assert rig.authenticator.find_cached(token, PEER) is not None
        assert rig.issuer.reviews == 1
        rig.monotonic.now += 3.1
        assert rig.authenticator.find_cached(token, PEER) is None

    async def test_token_in_use_is_refreshed_ahead(self, rig: DispatchRig, token: bytes) -> None:
        """Late in its life a verdict still counts, and a new one is fetched behind it."""
        await rig.authenticator.authenticate(token, PEER)
        rig.monotonic.now += 8
        assert rig.authenticator.find_cached(token, PEER) is not None
        await asyncio.gather(*rig.authenticator._pending.values())
        assert rig.issuer.reviews == 2
        rig.monotonic.now += 5
        assert rig.authenticator.find_cached(token, PEER) is not None

    async def test_failed_refresh_ahead_is_silent(self, rig: DispatchRig, token: bytes) -> None:
        """If the cluster is away the verdict counts to its end, and then fails closed."""
        await rig.authenticator.authenticate(token, PEER)
        rig.issuer.reachable = False
        rig.monotonic.now += 8
        assert rig.authenticator.find_cached(token, PEER) is not None
        await asyncio.gather(*rig.authenticator._pending.values(), return_exceptions=True)
        rig.monotonic.now += 3
        assert rig.authenticator.find_cached(token, PEER) is None
        with pytest.raises(DependencyTimeoutError):
            await rig.authenticator.authenticate(token, PEER)

    async def test_deleted_pod_is_refused_after_the_cache_time(self, rig: DispatchRig, token: bytes) -> None:
        """A token of a deleted pod works for no longer than the cache time."""
        await rig.authenticator.authenticate(token, PEER)
        rig.issuer.dead.add(token.decode())
        rig.monotonic.now += 10
        assert rig.authenticator.find_cached(token, PEER) is None
        with pytest.raises(UnrecognizedClientError):
            await rig.authenticator.authenticate(token, PEER)

    async def test_refusal_is_remembered_shortly(self, rig: DispatchRig, token: bytes) -> None:
        """A dead token asks once in two seconds."""
        rig.issuer.dead.add(token.decode())
        with pytest.raises(UnrecognizedClientError):
            await rig.authenticator.authenticate(token, PEER)
        with pytest.raises(UnrecognizedClientError):
            rig.authenticator.find_cached(token, PEER)
        assert rig.issuer.reviews == 1
        rig.monotonic.now += 2
        assert rig.authenticator.find_cached(token, PEER) is None

    async def test_garbage_is_neither_asked_about_nor_remembered(self, rig: DispatchRig) -> None:
        """Tokens that fail locally cost no review and no place in the cache."""
        for token in (b"x", b"a.b.c", "\u00e4".encode(), now_issuer().token("team-a", "app").encode()):
            with pytest.raises(UnrecognizedClientError):
                await rig.authenticator.authenticate(token, PEER)
        assert rig.issuer.reviews == 0
        assert not rig.authenticator._verdicts

    async def test_cache_is_bounded(self, rig: DispatchRig, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest verdicts go first."""
        monkeypatch.setattr(authenticator_module, "MAX_CACHED_TOKENS", 2)
        tokens = [rig.issuer.token("team-a", f"app-{number}").encode() for number in range(3)]
        for token in tokens:
            await rig.authenticator.authenticate(token, PEER)
        found = [rig.authenticator.find_cached(token, PEER) is not None for token in tokens]
        assert found == [False, True, True]

    async def test_no_verdict_outlives_its_token(self, rig: DispatchRig) -> None:
        """A token that expires in three seconds counts for three seconds."""
        claims = rig.issuer.claims("team-a", "app")
        token = rig.issuer.sign({**claims, "exp": int(rig.rig.clock.now) + 3}).encode()
        await rig.authenticator.authenticate(token, PEER)
        rig.monotonic.now += 3.1
        assert rig.authenticator.find_cached(token, PEER) is None

    async def test_token_may_live_longer_than_a_float_can_say(self, rig: DispatchRig) -> None:
        """Its verdict counts for the cache time, like any other's."""
        claims = {**rig.issuer.claims("team-a", "app"), "exp": 10**400}
        principal = await rig.authenticator.authenticate(rig.issuer.sign(claims).encode(), PEER)
        assert principal.service_account == "app"

    async def test_cancelled_caller_does_not_cancel_the_others(self, rig: DispatchRig, token: bytes) -> None:
        """One caller that hangs up leaves the shared question running."""
        asked, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            asked.set()
            go_on.wait(60)

        rig.issuer.before_review = wait
        first = asyncio.ensure_future(rig.authenticator.authenticate(token, PEER))
        second = asyncio.ensure_future(rig.authenticator.authenticate(token, PEER))
        await asyncio.get_running_loop().run_in_executor(None, asked.wait)
        first.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert (await second).namespace == "team-a"
        assert rig.issuer.reviews == 1


class CannedApi(FakeClusterApi):
    """Answers each path as told, and remembers the bodies."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__()
        self.answers = answers
        self.bodies: list[Any] = []

    def call(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Answer:
        """Answer as told."""
        del method, query
        self.bodies.append(body)
        return self.answers[path]


def test_cluster_questions() -> None:
    """Issuer, keys and reviews are asked for at their paths, and read from their answers."""
    status = {
        "authenticated": True,
        "user": {"username": "u", "uid": "i", "extra": {"k": ["v"]}},
        "audiences": [AUDIENCE],
    }
    api = CannedApi(
        {
            PATH_ISSUER: Answer(200, {"issuer": "https://issuer"}),
            PATH_KEYS: Answer(200, {"keys": []}),
            PATH_REVIEWS: Answer(201, {"status": status}),
        }
    )
    cluster = KubernetesCluster(api)
    assert cluster.fetch_issuer() == "https://issuer"
    assert cluster.fetch_signing_keys() == {"keys": []}
    assert cluster.review("token", AUDIENCE) == TokenReview(
        authenticated=True, user_name="u", uid="i", audiences=(AUDIENCE,), extra={"k": ["v"]}
    )
    assert api.bodies[-1]["spec"] == {"token": "token", "audiences": [AUDIENCE]}


@pytest.mark.parametrize("answer", [Answer(200, {}), Answer(200, {"issuer": ""}), Answer(200, {"issuer": 5})])
def test_cluster_without_issuer(answer: Answer) -> None:
    """A discovery document that names no issuer is no answer."""
    with pytest.raises(DependencyTimeoutError):
        KubernetesCluster(CannedApi({PATH_ISSUER: answer})).fetch_issuer()


@pytest.mark.parametrize(
    "body", [{}, {"status": {}}, {"status": {"authenticated": "true"}}, {"status": None}]
)
def test_unclear_reviews_are_refusals(body: dict[str, Any]) -> None:
    """Only authenticated=true counts."""
    cluster = KubernetesCluster(CannedApi({PATH_REVIEWS: Answer(201, body)}))
    assert not cluster.review("t", AUDIENCE).authenticated


def test_refused_review_is_an_outage() -> None:
    """If the service may not ask, nobody is let in."""
    cluster = KubernetesCluster(CannedApi({PATH_REVIEWS: Answer(422, {})}))
    with pytest.raises(DependencyTimeoutError):
        cluster.review("t", AUDIENCE)
