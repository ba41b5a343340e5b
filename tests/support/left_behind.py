"""Removes what tests leave on a shared API server: the controllers of later tests would have work with it.

Zone: tests.
"""

import json
from typing import Any, Final

from kubernetes import client

from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS
from datakeys.contract.identity import GROUP, LABEL_INJECT, VERSION

_SELECTOR: Final = f"{LABEL_INJECT}=true"
_LABELLED: Final = (
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/batch/v1/cronjobs",
    "/apis/batch/v1/jobs",
    "/api/v1/pods",
)
Json = dict[str, Any]


def remove_what_is_left(api: client.ApiClient) -> None:
    """Delete labelled workloads and pods and this project's objects of all namespaces, finalizers or not."""
    for path in _LABELLED:
        _remove_all(api, path, [("labelSelector", _SELECTOR)])
    for plural in (REQUESTS, GRANTS, ALIASES, KEYS):
        _remove_all(api, f"/apis/{GROUP}/{VERSION}/{plural}", [])


def _remove_all(api: client.ApiClient, path: str, query: list[tuple[str, str]]) -> None:
    prefix, _, plural = path.rpartition("/")
    for item in _call(api, "GET", path, query)["items"]:
        metadata = item["metadata"]
        one = f"{prefix}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
        if metadata.get("finalizers"):
            _call(api, "PATCH", one, [], {"metadata": {"finalizers": None}})
        _call(api, "DELETE", one, [("propagationPolicy", "Background"), ("gracePeriodSeconds", "0")])


def _call(
    api: client.ApiClient, method: str, path: str, query: list[tuple[str, str]], body: Json | None = None
) -> Json:
    """Make a call; an object that somebody else has deleted meanwhile is nothing to worry about."""
    headers = {"Accept": "application/json", "Content-Type": "application/merge-patch+json"}
    request = api.param_serialize(
        method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
    )
    answer = api.call_api(*request)
    text = answer.read()  # type: ignore[no-untyped-call]
    assert answer.status in (200, 202, 404), (method, path, answer.status)
    return dict(json.loads(text))
