"""What authentication asks the cluster: its signing keys, its issuer, and whether a token is alive.

Zone: callers' tokens on their way to a TokenReview. Needs: create on tokenreviews, get on the two paths
and on pods. Source: Kubernetes "Managing Service Accounts", section "ServiceAccount token issuer discovery".
"""

from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.authn.claims import TokenReview
from datakeys.keyservice.cluster_api import ClusterApi

PATH_ISSUER: Final = "/.well-known/openid-configuration"
PATH_KEYS: Final = "/openid/v1/jwks"
PATH_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"


class Cluster(Protocol):
    """The cluster as authentication sees it. All methods may block."""

    def fetch_issuer(self) -> str:
        """Return the issuer of ServiceAccount tokens.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """

    def fetch_signing_keys(self) -> dict[str, Any]:
        """Return the JSON Web Key Set.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """

    def review(self, token: str, audience: str) -> TokenReview:
        """Ask whether a token is alive.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """

    def fetch_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a pod, or None if there is none of that name.

        Raises:
            DependencyTimeoutError: The API server can't be reached or refuses.
        """


class KubernetesCluster:
    """The cluster behind an API client with the service's own credentials."""

    def __init__(self, api: ClusterApi) -> None:
        self._api = api

    def fetch_issuer(self) -> str:
        """Return the issuer from the discovery document.

        Raises:
            DependencyTimeoutError: The API server can't be reached or names no issuer.
        """
        issuer = self._api.call("GET", PATH_ISSUER).body.get("issuer")
        if not isinstance(issuer, str) or not issuer:
            raise DependencyTimeoutError("the cluster names no token issuer")
        return issuer

    def fetch_signing_keys(self) -> dict[str, Any]:
        """Return the JSON Web Key Set.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """
        return self._api.call("GET", PATH_KEYS).body

    def review(self, token: str, audience: str) -> TokenReview:
        """Create a TokenReview.

        Raises:
            DependencyTimeoutError: The API server can't be reached.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        answer = self._api.call("POST", PATH_REVIEWS, body=body)
        if answer.status not in (200, 201):
            raise DependencyTimeoutError("the cluster refuses to review tokens")
        status = answer.body.get("status") or {}
        user = status.get("user") or {}
        return TokenReview(
            authenticated=status.get("authenticated") is True,
            user_name=str(user.get("username", "")),
            uid=str(user.get("uid", "")),
            audiences=tuple(status.get("audiences") or ()),
            extra=user.get("extra") or {},
        )

    def fetch_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a pod, or None if there is none of that name.

        Raises:
            DependencyTimeoutError: The API server can't be reached or refuses.
        """
        answer = self._api.call("GET", f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}")
        return answer.body if answer.status == HTTPStatus.OK else None
