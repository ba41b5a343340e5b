"""What the service asks the cluster's RBAC, which is the identity policy of an account.

Zone: pure: questions and the interface; asking is `authn`'s. Verb ``create`` on the virtual subresource
``kmskeys/<operation in lower case>``, in the caller's namespace, so that ``kubectl auth can-i create
kmskeys/my-key --subresource=decrypt`` answers the same. Source: Kubernetes "Authorization", section
"Checking API access".
"""

from dataclasses import dataclass
from typing import Final, Protocol

from datakeys.keyservice.authz.principal import Principal

RESOURCE: Final = "kmskeys"
VERB: Final = "create"
_EXTRA_POD: Final = "authentication.kubernetes.io/pod-"


@dataclass(frozen=True, slots=True)
class RbacQuestion:
    """May this caller use this virtual subresource?

    Attributes:
        principal: The verified caller.
        namespace: The caller's account.
        subresource: The operation in lower case.
        name: Name of the KmsKey, or the key id; empty if the operation has no key.
    """

    principal: Principal
    namespace: str
    subresource: str
    name: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the groups of a ServiceAccount. Source: Kubernetes "Authenticating"."""
        return (
            "system:serviceaccounts",
            f"system:serviceaccounts:{self.principal.namespace}",
            "system:authenticated",
        )

    @property
    def extra(self) -> dict[str, list[str]]:
        """Return what the token says beside the user: the pod it is bound to."""
        if not self.principal.pod_uid:
            return {}
        return {
            f"{_EXTRA_POD}name": [self.principal.pod_name],
            f"{_EXTRA_POD}uid": [self.principal.pod_uid],
        }


class Authorizer(Protocol):
    """Answers questions of RBAC."""

    def find_cached(self, question: RbacQuestion) -> bool | None:
        """Return an answer that is still fresh, or None. Never blocks."""

    def decide(self, question: RbacQuestion) -> bool:
        """Return the answer. May block.

        Raises:
            DependencyTimeoutError: The cluster can't be asked.
        """


class FixedAuthorizer:
    """Gives everybody one answer: no, or in the local mode, where all callers are the account's root, yes."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed

    def find_cached(self, _: RbacQuestion) -> bool | None:
        """Return the answer."""
        return self._allowed

    def decide(self, _: RbacQuestion) -> bool:
        """Return the answer."""
        return self._allowed
