"""Who calls the local service: the root of its one account, if the request is signed.

Zone: callers' signatures and the configured secret; nothing is logged or kept.
"""

from collections.abc import Callable, Mapping
from typing import Final

from datakeys.contract.errors import AccessDeniedError, UnrecognizedClientError
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.authz.principal import Principal
from datakeys.keyservice.local.arguments import Credentials
from datakeys.keyservice.local.sigv4 import (
    check_scope,
    check_signature,
    check_time,
    parse_signature,
)
from datakeys.keyservice.server.http import HttpRequest
from datakeys.keyservice.server.wire import read_authorization

_EXTENSION_PREFIX: Final = b"x-datakeys-"


class SignatureCallers:
    """`Callers` by AWS Signature Version 4, for one Region."""

    def __init__(
        self,
        principal: Principal,
        region: str,
        credentials: Credentials | None,
        clock: Callable[[], float],
        *,
        unsigned_allowed: bool = False,
    ) -> None:
        """Make one.

        Args:
            principal: Who every accepted caller is.
            region: What the credential scope must name.
            credentials: What must have signed; None accepts every well-formed signature, whatever its time.
            clock: Seconds since the epoch.
            unsigned_allowed: A request may lack the Authorization header.
        """
        self._principal = principal
        self._region = region
        self._credentials = credentials
        self._clock = clock
        self._unsigned_allowed = unsigned_allowed

    def identify(self, request: HttpRequest) -> Principal:
        """Return the principal of a signed request.

        Raises:
            MissingAuthenticationTokenError: No Authorization header.
            IncompleteSignatureError: The header isn't a complete signature.
            UnrecognizedClientError: Unknown access key id.
            InvalidSignatureError: Wrong scope, time or signature.
            AccessDeniedError: A header that only the cluster's controller may send.
        """
        _refuse_extensions(request.headers)
        if self._unsigned_allowed and b"authorization" not in request.headers:
            return self._principal
        read_authorization(request.headers)
        signature = parse_signature(request.headers)
        check_scope(signature, self._region)
        if self._credentials is not None:
            if signature.access_key_id != self._credentials.access_key_id:
                raise UnrecognizedClientError
            check_time(signature, self._clock())
            check_signature(request, signature, self._credentials.secret_access_key)
        return self._principal

    async def authenticate(self, request: HttpRequest) -> Principal:
        """Return the principal of a signed request; the same as `identify`, which never waits."""
        return self.identify(request)


def _refuse_extensions(headers: Mapping[bytes, bytes]) -> None:
    # One search, as this runs for every request; no name holds a line break.
    if b"\n" + _EXTENSION_PREFIX in b"\n" + b"\n".join(headers):
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
