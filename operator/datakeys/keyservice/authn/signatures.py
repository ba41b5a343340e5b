"""Verify a token's signature and standard claims against the cluster's keys, with no call per token.

Zone: callers' tokens. Only RS256 and ES256 with keys of that very type: neither ``none`` nor a public key
used as an HMAC secret can pass. Source: RFC 7519, RFC 8725 section 3.1.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt

from datakeys.contract.errors import DependencyTimeoutError, UnrecognizedClientError
from datakeys.keyservice.authn.cluster import Cluster

ALGORITHMS: Final = ("RS256", "ES256")
LEEWAY_SECONDS: Final = 10
REFRESH_INTERVAL_SECONDS: Final = 10.0
MAX_TOKEN_CHARACTERS: Final = 16 * 1024
#: Strict base64url: a decoder that skips other characters would let one token have many spellings.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: What the JWT library lets through from the JSON decoder.
_MALFORMED: Final = (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError)
_KEY_TYPES: Final = {"RS256": "RSA", "ES256": "EC"}


class SignatureVerifier:
    """The cluster's issuer and keys; refreshed when a token names an unknown key, at most every 10 s."""

    def __init__(self, cluster: Cluster, audience: str, monotonic: Callable[[], float]) -> None:
        self._cluster = cluster
        self._audience = audience
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._issuer = ""
        self._keys: dict[str, jwt.PyJWK] = {}
        self._refreshed_at = float("-inf")

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token. May block to fetch keys.

        Raises:
            UnrecognizedClientError: The token isn't valid, for whatever reason.
            DependencyTimeoutError: The cluster's keys aren't known and can't be fetched.
        """
        if len(token) > MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
            raise UnrecognizedClientError
        try:
            header = jwt.get_unverified_header(token)
        except _MALFORMED:
            raise UnrecognizedClientError from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS or not isinstance(key_id, str):
            raise UnrecognizedClientError
        key = self._find_key(key_id)
        if key is None or key.key_type != _KEY_TYPES[algorithm]:
            raise UnrecognizedClientError
        try:
            return jwt.decode(
                token,
                key=key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub"]},
            )
        except _MALFORMED:
            raise UnrecognizedClientError from None

    def load(self) -> None:
        """Fetch issuer and keys.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """
        with self._lock:
            self._load()

    def _find_key(self, key_id: str) -> jwt.PyJWK | None:
        key = self._keys.get(key_id)
        if key is not None:
            return key
        with self._lock:
            if key_id not in self._keys and self._may_refresh():
                self._load()
            return self._keys.get(key_id)

    def _may_refresh(self) -> bool:
        return self._monotonic() - self._refreshed_at >= REFRESH_INTERVAL_SECONDS

    def _load(self) -> None:
        self._refreshed_at = self._monotonic()
        try:
            self._issuer = self._cluster.fetch_issuer()
            self._keys = _parse_keys(self._cluster.fetch_signing_keys())
        except DependencyTimeoutError:
            if not self._keys:
                self._refreshed_at = float("-inf")
            raise


def _parse_keys(key_set: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    keys: dict[str, jwt.PyJWK] = {}
    for item in key_set.get("keys") or ():
        if not isinstance(item, dict) or item.get("alg") not in ALGORITHMS:
            continue
        try:
            key = jwt.PyJWK(item)
        except _MALFORMED:
            continue
        if key.key_id:
            keys[key.key_id] = key
    return keys
