"""The controller's right to delete Secrets reaches encrypted data keys of requests, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from chart_installation import CONTROLLER, Installation, installed_chart, named, refusal
from in_force import wait_roles_in_force

POLICY = "datakeys-controller-secrets"
TYPE = "datakeys.dev/encrypted-data-key"
OWNER = {
    "apiVersion": "datakeys.dev/v1alpha1",
    "kind": "DataKeyRequest",
    "name": "orders",
    "uid": "00000000-0000-4000-8000-000000000001",
    "controller": True,
}


@pytest.fixture(scope="module")
def installation(control_plane: Path) -> Iterator[Installation]:
    with installed_chart(control_plane) as installation:
        yield installation


@pytest.fixture
def controller(
    installation: Installation, api_client: client.ApiClient, namespace: str
) -> Iterator[client.CoreV1Api]:
    """Act as the controller, in a namespace in which it has bound itself."""
    with installation.acting_as(CONTROLLER) as api:
        client.RbacAuthorizationV1Api(api).create_namespaced_role_binding(
            namespace, installation.role_binding()
        )
        core = client.CoreV1Api(api)
        wait_roles_in_force(api_client, namespace)
        yield core


def secret(type_: str, *owners: dict[str, Any]) -> Any:
    return {**named("orders", ownerReferences=list(owners)), "type": type_, "immutable": True}


def test_encrypted_data_key_of_a_request_can_be_deleted(
    api_client: client.ApiClient, controller: client.CoreV1Api, namespace: str
) -> None:
    client.CoreV1Api(api_client).create_namespaced_secret(namespace, secret(TYPE, OWNER))
    controller.delete_namespaced_secret("orders", namespace)


@pytest.mark.parametrize(
    "body",
    [
        secret("Opaque"),
        secret("Opaque", OWNER),
        secret(TYPE),
        secret(TYPE, {**OWNER, "controller": False}),
        secret(TYPE, {**OWNER, "kind": "Pod", "apiVersion": "v1"}),
        secret(TYPE, {**OWNER, "apiVersion": "other.example/v1"}),
    ],
    ids=["a user's", "of another type", "nobody's", "not controlled", "a pod's", "another group's"],
)
def test_every_other_secret_stays(
    api_client: client.ApiClient, controller: client.CoreV1Api, namespace: str, body: Any
) -> None:
    client.CoreV1Api(api_client).create_namespaced_secret(namespace, body)
    assert POLICY in refusal(controller.delete_namespaced_secret, "orders", namespace)
    assert client.CoreV1Api(api_client).read_namespaced_secret("orders", namespace)


def test_no_secrets_are_deleted_at_a_stroke(controller: client.CoreV1Api, namespace: str) -> None:
    refusal(controller.delete_collection_namespaced_secret, namespace)


def test_others_delete_as_before(api_client: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api_client)
    core.create_namespaced_secret(namespace, secret("Opaque"))
    core.delete_namespaced_secret("orders", namespace)
