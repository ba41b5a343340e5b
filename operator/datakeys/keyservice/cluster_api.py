"""The one client of the Kubernetes API in this process: plain JSON in and out.

Zone: sees callers' tokens (TokenReview) and Secrets' content pass; it logs and keeps nothing, and its errors
quote neither requests nor answers. All methods block: never call them on the event loop.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import urllib3.exceptions
from kubernetes import client, config

from datakeys.contract.errors import DependencyTimeoutError

CONNECT_TIMEOUT_SECONDS: Final = 2.0
READ_TIMEOUT_SECONDS: Final = 5.0
#: Longer than the interval of bookmarks (about a minute), so a silent watch is a broken watch.
WATCH_READ_TIMEOUT_SECONDS: Final = 90.0
_POOL_SIZE: Final = 16
_MAX_EVENT_BYTES: Final = 8 * 1024 * 1024

#: The token signing keys come only as a JSON Web Key Set.
_ACCEPTED: Final = "application/json, application/jwk-set+json"
_UNREACHABLE: Final = "the cluster's API can't be reached"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a decoded JSON object."""

    status: int
    body: dict[str, Any] = field(repr=False)


class ClusterApi(Protocol):
    """The Kubernetes API as this process uses it."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Make one request. Statuses 2xx, 404, 409, 410 and 422 are answers.

        Raises:
            DependencyTimeoutError: Everything else.
        """

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield watch events until the server ends the watch.

        Raises:
            DependencyTimeoutError: The watch can't be started or breaks.
        """

    def fetch_time(self) -> float:
        """Return the API server's time, in seconds since the epoch.

        Raises:
            DependencyTimeoutError: It can't be asked, or doesn't say.
        """


_ANSWER_STATUSES: Final = frozenset({200, 201, 202, 404, 409, 410, 422})


class KubernetesApi:
    """`ClusterApi` through the official client, with the pod's own credentials or a kubeconfig."""

    def __init__(self) -> None:
        configuration = client.Configuration()
        try:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.retries = False
        configuration.connection_pool_maxsize = _POOL_SIZE
        self._api = client.ApiClient(configuration)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Make one request.

        Raises:
            DependencyTimeoutError: The API can't be reached, refuses, or answers no JSON object.
        """
        try:
            response = self._request(method, path, query or {}, body, READ_TIMEOUT_SECONDS)
            answer = json.loads(response.read())
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError):
            raise DependencyTimeoutError(_UNREACHABLE) from None
        if response.status not in _ANSWER_STATUSES or not isinstance(answer, dict):
            raise DependencyTimeoutError(f"the cluster's API answers {response.status}")
        return Answer(response.status, answer)

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield watch events.

        Raises:
            DependencyTimeoutError: The watch can't be started or breaks.
        """
        try:
            response = self._request(
                "GET", path, {**query, "watch": "true"}, None, WATCH_READ_TIMEOUT_SECONDS
            )
            if response.status != 200:  # noqa: PLR2004 - HTTP OK
                raise DependencyTimeoutError(f"the cluster's API answers {response.status}")
            yield from _split_events(response.response.stream(amt=None, decode_content=True))
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError):
            raise DependencyTimeoutError(_UNREACHABLE) from None

    def fetch_time(self) -> float:
        """Return the API server's time, in whole seconds since the epoch. Source: RFC 9110 section 6.6.1.

        Raises:
            DependencyTimeoutError: It can't be asked, or doesn't say.
        """
        try:
            response = self._request("GET", "/version", {}, None, READ_TIMEOUT_SECONDS)
            response.read()
            return parsedate_to_datetime(response.getheader("Date") or "").timestamp()
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError):
            raise DependencyTimeoutError(_UNREACHABLE) from None

    def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, timeout: float
    ) -> Any:  # noqa: ANN401 - the client has no types
        serialized = self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": _ACCEPTED, "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        return self._api.call_api(*serialized, _request_timeout=(CONNECT_TIMEOUT_SECONDS, timeout))


def _split_events(chunks: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
        if len(buffer) > _MAX_EVENT_BYTES:
            raise ValueError("a watch event is too long")
