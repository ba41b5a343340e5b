"""Who is calling, as a verified token says it.

Zone: no secrets, no I/O. Only `authn` makes principals; everything after it believes them.
"""

from dataclasses import dataclass
from enum import StrEnum

from datakeys.contract.identity import service_account_principal


class PrincipalKind(StrEnum):
    """What kind of caller the token belongs to."""

    CONTROLLER = "controller"
    POD = "pod"
    SERVICE_ACCOUNT = "service_account"
    #: The root of an account: every caller of the local mode; never a caller in a cluster.
    ACCOUNT_ROOT = "account_root"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller.

    Attributes:
        kind: The controller, a live pod, or a ServiceAccount's token that is bound to no pod.
        namespace: Namespace of the ServiceAccount.
        service_account: Name of the ServiceAccount.
        service_account_uid: Its UID.
        pod_name: Set if the token is bound to a pod.
        pod_uid: Set if the token is bound to a pod.
        arn: Set for an account's root: its ARN. Its ``namespace`` is the account then.
    """

    kind: PrincipalKind
    namespace: str
    service_account: str
    service_account_uid: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    arn: str = ""

    @property
    def user_name(self) -> str:
        """Return the Kubernetes user name, or the root's ARN."""
        return self.arn or service_account_principal(self.namespace, self.service_account)
