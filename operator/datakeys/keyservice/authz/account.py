"""Which account a caller acts for.

Zone: pure. Source: docs/architecture.md, "Wire protocol".
"""

import re
from typing import Final

from datakeys.contract.errors import AccessDeniedError
from datakeys.keyservice.authz.policy import ACCESS_DENIED_MESSAGE
from datakeys.keyservice.authz.principal import Principal, PrincipalKind

#: A namespace is a DNS label. Source: Kubernetes "Namespaces", RFC 1123.
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def decide_account(principal: Principal, header: str | None) -> str:
    """Return the account: the controller's header, or the namespace of anybody else's token.

    Raises:
        AccessDeniedError: The controller names no valid account, or another caller names one.
    """
    if principal.kind is not PrincipalKind.CONTROLLER:
        if header is not None:
            raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
        return principal.namespace
    if header is None or not _NAMESPACE.fullmatch(header):
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
    return header


def decide_object_name(principal: Principal, header: str) -> str:
    """Return the object that a call is made for: only the controller knows which objects there are.

    Raises:
        AccessDeniedError: Another caller names one.
    """
    if header and principal.kind is not PrincipalKind.CONTROLLER:
        raise AccessDeniedError(ACCESS_DENIED_MESSAGE)
    return header
