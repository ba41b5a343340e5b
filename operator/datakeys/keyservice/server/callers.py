"""Who sent a request: what the dispatcher needs of authentication, and its form for bearer tokens.

Zone: callers' tokens pass; nothing is logged or kept. The local mode has another form, for signatures.
"""

from typing import Protocol

from datakeys.keyservice.authz.principal import Principal
from datakeys.keyservice.server.http import HttpRequest
from datakeys.keyservice.server.wire import parse_bearer, read_authorization


class Callers(Protocol):
    """Requests to principals."""

    def identify(self, request: HttpRequest) -> Principal | None:
        """Return who sent a request, or None if that can't be told without waiting.

        Raises:
            KmsError: The request carries no valid credentials.
        """

    async def authenticate(self, request: HttpRequest) -> Principal:
        """Return who sent a request. May wait.

        Raises:
            KmsError: The request carries no valid credentials, or who knows can't be asked.
        """


class TokenAuthenticator(Protocol):
    """Tokens to principals; see ``authn.authenticator``."""

    def find_cached(self, token: bytes, peer: str) -> Principal | None:
        """Return the principal of a token that was confirmed a moment ago, or None."""

    async def authenticate(self, token: bytes, peer: str) -> Principal:
        """Return the principal of a token."""


class BearerCallers:
    """`Callers` by the token in ``Authorization: Bearer``."""

    def __init__(self, authenticator: TokenAuthenticator) -> None:
        self._authenticator = authenticator

    def identify(self, request: HttpRequest) -> Principal | None:
        """Return who sent a request, if its token was confirmed a moment ago.

        Raises:
            MissingAuthenticationTokenError: No Authorization header.
            UnrecognizedClientError: No bearer token, or one that was refused a moment ago.
        """
        token = parse_bearer(read_authorization(request.headers))
        return self._authenticator.find_cached(token, request.peer)

    async def authenticate(self, request: HttpRequest) -> Principal:
        """Return who sent a request.

        Raises:
            MissingAuthenticationTokenError: No Authorization header.
            UnrecognizedClientError: The token isn't valid, isn't alive, or comes from another pod.
            DependencyTimeoutError: The cluster can't be asked.
        """
        token = parse_bearer(read_authorization(request.headers))
        return await self._authenticator.authenticate(token, request.peer)
