"""Authenticate bearer tokens: verified locally, then confirmed by the cluster, then remembered for seconds.

Zone: callers' tokens; they are kept as SHA-256 only. Everything fails closed. A burst of one token makes one
review (single flight). Lives on the event loop's thread; what blocks runs in the executor. The token of a pod
is taken from that pod's own addresses only.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.authn.claims import ControllerIdentity, confirm_review, decide_principal
from datakeys.keyservice.authn.cluster import Cluster
from datakeys.keyservice.authn.pod_address import decide_addresses, find_host, is_from
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.principal import Principal

_LOG: Final = logging.getLogger("datakeys.keyservice.authn")
MAX_CACHED_TOKENS: Final = 20_000
NEGATIVE_SECONDS: Final = 2.0
#: A token in use is asked about again when this part of its verdict's life is over, so that nobody waits.
REFRESH_AT: Final = 0.7
#: How long a verdict counts that doesn't know yet where the token's pod calls from.
ADDRESS_PENDING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is remembered of a token; ``addresses`` None or empty: it may come from anywhere."""

    principal: Principal | None
    asked_at: float
    refresh_at: float
    expires_at: float
    addresses: frozenset[str] | None = None


class Authenticator:
    """Tokens to principals."""

    def __init__(
        self,
        cluster: Cluster,
        verifier: SignatureVerifier,
        controller: ControllerIdentity,
        *,
        cache_seconds: float,
        executor: Executor,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        check_addresses: bool = False,
    ) -> None:
        self._cluster = cluster
        self._verifier = verifier
        self._controller = controller
        self._cache_seconds = cache_seconds
        self._executor = executor
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._check_addresses = check_addresses
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[_Verdict]] = {}

    def find_cached(self, token: bytes, peer: str) -> Principal | None:
        """Return the principal of a token that was confirmed a moment ago, or None if it must be asked.

        Args:
            token: The bearer token.
            peer: ``address:port`` that it comes from.

        Raises:
            UnrecognizedClientError: The token was refused a moment ago, or comes from another pod.
        """
        digest = hashlib.sha256(token).digest()
        verdict = self._verdicts.get(digest)
        if verdict is None:
            return None
        now = self._monotonic()
        if now >= verdict.refresh_at:
            if now >= verdict.expires_at:
                return None
            self._ask(digest, token).add_done_callback(_consume)
        if not is_from(peer, verdict.addresses) and now >= verdict.asked_at + NEGATIVE_SECONDS:
            # A pod whose sandbox was made anew has another address than a moment ago.
            return None
        return _require(verdict, peer)

    async def authenticate(self, token: bytes, peer: str) -> Principal:
        """Return the principal of a token.

        Args:
            token: The bearer token.
            peer: ``address:port`` that it comes from.

        Raises:
            UnrecognizedClientError: The token isn't valid, isn't alive, or comes from another pod.
            DependencyTimeoutError: The cluster can't be asked.
        """
        return _require(await asyncio.shield(self._ask(hashlib.sha256(token).digest(), token)), peer)

    def _ask(self, digest: bytes, token: bytes) -> "asyncio.Future[_Verdict]":
        pending = self._pending.get(digest)
        if pending is None:
            pending = asyncio.ensure_future(self._decide(digest, token))
            self._pending[digest] = pending
            pending.add_done_callback(lambda _: self._pending.pop(digest, None))
        return pending

    async def _decide(self, digest: bytes, token: bytes) -> _Verdict:
        loop = asyncio.get_running_loop()
        verdict = await loop.run_in_executor(self._executor, self._review, token)
        self._verdicts[digest] = verdict
        self._verdicts.move_to_end(digest)
        while len(self._verdicts) > MAX_CACHED_TOKENS:
            self._verdicts.popitem(last=False)
        return verdict

    def _review(self, token: bytes) -> _Verdict:
        # The answer counts from before the question: a token revoked while it was asked is seen in time.
        # What fails without a question isn't remembered: garbage must not push out what is remembered.
        started = self._monotonic()
        text = token.decode("ascii", errors="replace")
        claims = self._verifier.verify(text)
        principal = decide_principal(claims, self._controller)
        try:
            confirm_review(principal, self._cluster.review(text, AUDIENCE), AUDIENCE)
            addresses = self._find_addresses(principal)
        except UnrecognizedClientError:
            return _Verdict(None, started, started + NEGATIVE_SECONDS, started + NEGATIVE_SECONDS)
        now = self._wall_clock()
        # Compared as integers: ``exp`` may be one that no float can hold.
        lifetime = min(now + self._cache_seconds, int(claims["exp"])) - now
        if addresses is not None and not addresses:
            lifetime = min(lifetime, ADDRESS_PENDING_SECONDS)
        return _Verdict(principal, started, started + lifetime * REFRESH_AT, started + lifetime, addresses)

    def _find_addresses(self, principal: Principal) -> frozenset[str] | None:
        if not self._check_addresses or not principal.pod_uid:
            return None
        return decide_addresses(self._cluster.fetch_pod(principal.namespace, principal.pod_name), principal)


def _require(verdict: _Verdict, peer: str) -> Principal:
    """Return whom a verdict confirms.

    Raises:
        UnrecognizedClientError: Nobody, or somebody who isn't where the token comes from.
    """
    principal = verdict.principal
    if principal is None:
        raise UnrecognizedClientError
    if not is_from(peer, verdict.addresses):
        # The caller isn't told; whoever runs the cluster is, since the network may hide a pod's address.
        _LOG.warning(
            "token from an address that isn't its pod's",
            extra={
                "namespace": principal.namespace,
                "pod": principal.pod_name,
                "address": find_host(peer),
                "next": "if the network hides the addresses of pods, set keyservice.callerAddress: Ignore",
            },
        )
        raise UnrecognizedClientError
    return principal


def _consume(answer: "asyncio.Future[_Verdict]") -> None:
    """Take note of a background answer's error, which the next caller will get for itself."""
    if not answer.cancelled():
        answer.exception()
