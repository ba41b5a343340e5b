"""Secrets and ConfigMaps of one namespace: create, read, replace, delete, list, watch.

Zone: sealed material and, for the providers of the root key and the certificates, what those Secrets hold.
Nothing is logged. All methods block and raise `DependencyTimeoutError` if the API can't be reached.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.cluster_api import Answer, ClusterApi

SECRETS: Final = "secrets"
CONFIG_MAPS: Final = "configmaps"
WATCH_SECONDS: Final = 300
PAGE_SIZE: Final = 500

_CREATED: Final = (200, 201)
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_GONE: Final = 410


class ExpiredError(Exception):
    """The resource version is too old: list again. Never leaves the store."""


class ObjectsApi:
    """The objects of one kind in one namespace."""

    def __init__(self, api: ClusterApi, namespace: str, plural: str = SECRETS) -> None:
        self._api = api
        self.namespace: Final = namespace
        self._path = f"/api/v1/namespaces/{namespace}/{plural}"

    def get(self, name: str) -> dict[str, Any] | None:
        """Return an object, or None.

        Raises:
            DependencyTimeoutError: The API can't be reached.
        """
        answer = self._api.call("GET", f"{self._path}/{name}")
        if answer.status == _NOT_FOUND:
            return None
        return _require(answer, 200).body

    def create(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create an object; None if the name is taken.

        Raises:
            DependencyTimeoutError: The API can't be reached or refuses.
        """
        answer = self._api.call("POST", self._path, body=body)
        return None if answer.status == _CONFLICT else _require(answer, *_CREATED).body

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Replace an object of exactly the resource version in ``body``; None if it changed or is gone.

        Raises:
            DependencyTimeoutError: The API can't be reached or refuses.
        """
        answer = self._api.call("PUT", f"{self._path}/{body['metadata']['name']}", body=body)
        return None if answer.status in (_CONFLICT, _NOT_FOUND) else _require(answer, *_CREATED).body

    def delete(self, name: str, *, uid: str, resource_version: str | None = None) -> bool:
        """Delete an object if it still is the one given; False if it changed. True also if it is gone.

        Raises:
            DependencyTimeoutError: The API can't be reached or refuses.
        """
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        answer = self._api.call("DELETE", f"{self._path}/{name}", body=body)
        if answer.status == _NOT_FOUND:
            return True
        if answer.status == _CONFLICT:
            return False
        _require(answer, 200, 202)
        return True

    def list_all(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return all objects with a label, page by page, and the list's resource version.

        Raises:
            DependencyTimeoutError: The API can't be reached.
            ExpiredError: The list took too long.
        """
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(PAGE_SIZE)}
        while True:
            answer = self._api.call("GET", self._path, query=query)
            if answer.status == _GONE:
                raise ExpiredError
            body = _require(answer, 200).body
            items += body.get("items") or ()
            metadata = body.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def watch(self, selector: str, resource_version: str) -> Iterator[dict[str, Any]]:
        """Yield events after a resource version, bookmarks included, for some minutes.

        Raises:
            DependencyTimeoutError: The API can't be reached, or the watch breaks.
        """
        query = {
            "labelSelector": selector,
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        return self._api.watch(self._path, query)


def _require(answer: Answer, *statuses: int) -> Answer:
    if answer.status not in statuses:
        raise DependencyTimeoutError(f"the cluster's API answers {answer.status}")
    return answer
