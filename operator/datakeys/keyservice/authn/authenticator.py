"""Authenticate bearer tokens: verified locally, then confirmed by the cluster, then remembered for seconds.

Zone: callers' tokens; they are kept as SHA-256 only. Everything fails closed. A burst of one token makes one
review (single flight). Lives on the event loop's thread; what blocks runs in the executor.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.contract.identity import AUDIENCE
from datakeys.keyservice.authn.claims import ControllerIdentity, confirm_review, decide_principal
from datakeys.keyservice.authn.cluster import Cluster
from datakeys.keyservice.authn.signatures import SignatureVerifier
from datakeys.keyservice.authz.principal import Principal

MAX_CACHED_TOKENS: Final = 20_000
NEGATIVE_SECONDS: Final = 2.0
#: A token in use is asked about again when this part of its verdict's life is over, so that nobody waits.
REFRESH_AT: Final = 0.7


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal | None
    refresh_at: float
    expires_at: float


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
    ) -> None:
        self._cluster = cluster
        self._verifier = verifier
        self._controller = controller
        self._cache_seconds = cache_seconds
        self._executor = executor
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[_Verdict]] = {}

    def find_cached(self, token: bytes) -> Principal | None:
        """Return the principal of a token that was confirmed a moment ago, or None if it must be asked.

        Raises:
            UnrecognizedClientError: The token was refused a moment ago.
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
        if verdict.principal is None:
            raise UnrecognizedClientError
        return verdict.principal

    async def authenticate(self, token: bytes) -> Principal:
        """Return the principal of a token.

        Raises:
            UnrecognizedClientError: The token isn't valid or isn't alive.
            DependencyTimeoutError: The cluster can't be asked.
        """
        verdict = await asyncio.shield(self._ask(hashlib.sha256(token).digest(), token))
        if verdict.principal is None:
            raise UnrecognizedClientError
        return verdict.principal

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
        except UnrecognizedClientError:
            return _Verdict(None, started + NEGATIVE_SECONDS, started + NEGATIVE_SECONDS)
        lifetime = min(self._cache_seconds, float(claims["exp"]) - self._wall_clock())
        return _Verdict(principal, started + lifetime * REFRESH_AT, started + lifetime)


def _consume(answer: "asyncio.Future[_Verdict]") -> None:
    """Take note of a background answer's error, which the next caller will get for itself."""
    if not answer.cancelled():
        answer.exception()
