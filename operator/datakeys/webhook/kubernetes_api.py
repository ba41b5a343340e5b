"""The webhook's calls to the API server: two kinds of objects, nothing else. Zone: no secrets.

Needs exactly: ``get`` on ``datakeyrequests.datakeys.dev``, and ``get`` and ``patch`` on the
``mutatingwebhookconfigurations.admissionregistration.k8s.io`` named ``datakeys-webhook``.
"""

import os
from typing import Any, Final, cast

from kubernetes import client, config

from datakeys.contract.identity import GROUP, VERSION

#: To connect, and to read: a review as a whole has 10 s.
_TIMEOUT_SECONDS: Final = (2.0, 3.0)
_PLURAL: Final = "datakeyrequests"
CONFIGURATION_NAME: Final = "datakeys-webhook"

#: What a call may raise: an answer that isn't a success, and a connection that fails.
ApiError = client.exceptions.ApiException


class KubernetesApi:
    """Blocking calls; to be run in threads."""

    def __init__(self, api_client: Any) -> None:  # noqa: ANN401 - the client library has no types
        self._requests = client.CustomObjectsApi(api_client)
        self._admission = client.AdmissionregistrationV1Api(api_client)

    def get_data_key_request(self, namespace: str, name: str) -> dict[str, Any]:
        """Return one DataKeyRequest."""
        found = self._requests.get_namespaced_custom_object(
            GROUP, VERSION, namespace, _PLURAL, name, _request_timeout=_TIMEOUT_SECONDS
        )
        return cast("dict[str, Any]", found)

    def get_ca_bundles(self) -> list[str]:
        """Return the ``caBundle`` (base64) of each webhook of the configuration; "" if it isn't set."""
        found = self._admission.read_mutating_webhook_configuration(
            CONFIGURATION_NAME, _request_timeout=_TIMEOUT_SECONDS
        )
        return [str(webhook.client_config.ca_bundle or "") for webhook in found.webhooks or []]

    def patch_configuration(self, patch: list[dict[str, Any]]) -> None:
        """Apply a JSON patch to the configuration."""
        self._admission.patch_mutating_webhook_configuration(
            CONFIGURATION_NAME, patch, _request_timeout=_TIMEOUT_SECONDS
        )


def connect() -> KubernetesApi:
    """Return the API of the cluster this pod runs in, or of ``KUBECONFIG`` for development."""
    configuration = client.Configuration()
    if os.environ.get("KUBECONFIG"):
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    # The callers have their own way to try again, within their own time.
    configuration.retries = 0
    return KubernetesApi(client.ApiClient(configuration))
