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


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal | None
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
        verdict = self._verdicts.get(hashlib.sha256(token).digest())
        if verdict is None or verdict.expires_at <= self._monotonic():
            return None
        if verdict.principal is None:
            raise UnrecognizedClientError
        return verdict.principal

    async def authenticate(self, token: bytes) -> Principal:
        """Return the principal of a token.

        Raises:
            UnrecognizedClientError: The token isn't valid or isn't alive.
            DependencyTimeoutError: The cluster can't be asked.
        """
        digest = hashlib.sha256(token).digest()
        pending = self._pending.get(digest)
        if pending is None:
            pending = asyncio.ensure_future(self._decide(digest, token))
            self._pending[digest] = pending
            pending.add_done_callback(lambda _: self._pending.pop(digest, None))
        verdict = await asyncio.shield(pending)
        if verdict.principal is None:
            raise UnrecognizedClientError
        return verdict.principal

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
        started = self._monotonic()
        try:
            text = token.decode("ascii")
            claims = self._verifier.verify(text)
            principal = decide_principal(claims, self._controller)
            confirm_review(principal, self._cluster.review(text, AUDIENCE), AUDIENCE)
            lifetime = min(self._cache_seconds, float(claims["exp"]) - self._wall_clock())
        except (UnrecognizedClientError, UnicodeDecodeError):
            return _Verdict(None, started + NEGATIVE_SECONDS)
        return _Verdict(principal, started + lifetime)


def parse_bearer(header: bytes) -> bytes:
    """Return the token of an Authorization header.

    Raises:
        UnrecognizedClientError: Another scheme, or no token.
    """
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip():
        raise UnrecognizedClientError
    return token.strip()
