"""Decide who a caller is from verified claims and the cluster's answer. Pure.

Zone: no tokens, only their claims. Source: Kubernetes "Managing Service Accounts", section "Bound tokens";
"Authenticating", section "Service account tokens".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.contract.identity import service_account_principal
from datakeys.keyservice.authz.principal import Principal, PrincipalKind


@dataclass(frozen=True, slots=True)
class ControllerIdentity:
    """The one ServiceAccount that may act for other namespaces."""

    namespace: str
    service_account: str


@dataclass(frozen=True, slots=True)
class TokenReview:
    """The API server's answer about a token: is it alive, and whose is it.

    Source: Kubernetes API, authentication.k8s.io/v1 TokenReviewStatus.
    """

    authenticated: bool
    user_name: str = ""
    uid: str = ""
    audiences: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


def decide_principal(claims: Mapping[str, Any], controller: ControllerIdentity) -> Principal:
    """Return the principal that a token's verified claims name.

    Raises:
        UnrecognizedClientError: The claims aren't those of a ServiceAccount token.
    """
    cluster_claims = claims.get("kubernetes.io")
    if not isinstance(cluster_claims, Mapping):
        raise UnrecognizedClientError
    namespace = cluster_claims.get("namespace")
    name, uid = _named(cluster_claims.get("serviceaccount"))
    if not isinstance(namespace, str) or not namespace or not name:
        raise UnrecognizedClientError
    if claims.get("sub") != service_account_principal(namespace, name):
        raise UnrecognizedClientError
    pod = cluster_claims.get("pod")
    pod_name, pod_uid = _named(pod)
    if pod is not None and not (pod_name and pod_uid):
        # Bound to a pod that can't be told is not the same as bound to none.
        raise UnrecognizedClientError
    if (namespace, name) == (controller.namespace, controller.service_account):
        kind = PrincipalKind.CONTROLLER
    else:
        kind = PrincipalKind.POD if pod_name and pod_uid else PrincipalKind.SERVICE_ACCOUNT
    return Principal(kind, namespace, name, uid, pod_name, pod_uid)


def confirm_review(principal: Principal, review: TokenReview, audience: str) -> None:
    """Compare the cluster's answer with the principal.

    Raises:
        UnrecognizedClientError: The token isn't alive, or the answer is about somebody else.
    """
    if not review.authenticated or audience not in review.audiences:
        raise UnrecognizedClientError
    if review.user_name != principal.user_name or review.uid != principal.service_account_uid:
        raise UnrecognizedClientError
    pod_uids = review.extra.get("authentication.kubernetes.io/pod-uid", ())
    if principal.pod_uid and list(pod_uids) != [principal.pod_uid]:
        raise UnrecognizedClientError


def _named(reference: object) -> tuple[str, str]:
    if not isinstance(reference, Mapping):
        return "", ""
    name, uid = reference.get("name"), reference.get("uid")
    return (name, uid) if isinstance(name, str) and isinstance(uid, str) else ("", "")
