"""The controller's right to bind itself can't be used for anything else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from chart_installation import CONTROLLER, ROLE, Installation, installed_chart, named, refusal

EXCLUDED = "rbac-excluded"
POLICY = "datakeys-controller-rolebindings"
STRANGER = {"kind": "ServiceAccount", "name": "stranger", "namespace": "default"}


@pytest.fixture(scope="module")
def installation(control_plane: Path, api_client: client.ApiClient) -> Iterator[Installation]:
    """The chart, with one namespace excluded by a value."""
    core = client.CoreV1Api(api_client)
    core.create_namespace(named(EXCLUDED))
    with installed_chart(control_plane, {"excludedNamespaces": [EXCLUDED]}) as installation:
        yield installation
    core.delete_namespace(EXCLUDED)


@pytest.fixture
def controller(installation: Installation) -> Iterator[client.RbacAuthorizationV1Api]:
    with installation.acting_as(CONTROLLER) as api:
        yield client.RbacAuthorizationV1Api(api)


@pytest.fixture
def administrator(api_client: client.ApiClient) -> client.RbacAuthorizationV1Api:
    return client.RbacAuthorizationV1Api(api_client)


def test_controller_binds_itself_in_a_namespace(
    installation: Installation, controller: client.RbacAuthorizationV1Api, namespace: str
) -> None:
    """The one RoleBinding it is meant to make is accepted, and it can see it."""
    controller.create_namespaced_role_binding(namespace, installation.role_binding())
    present: Any = controller.read_namespaced_role_binding(CONTROLLER, namespace)
    assert present.role_ref.name == ROLE


@pytest.mark.parametrize("forbidden", ["system", "kube-system", EXCLUDED])
def test_controller_never_binds_itself_where_no_requests_are(
    installation: Installation, controller: client.RbacAuthorizationV1Api, forbidden: str
) -> None:
    """The policy refuses the system namespace, kube-system and excluded namespaces."""
    where = installation.namespace if forbidden == "system" else forbidden
    # The namespace has a binding of that name already, for the controller's own Role; the policy comes first.
    text = refusal(controller.create_namespaced_role_binding, where, installation.role_binding())
    assert POLICY in text
    assert "must not bind itself in the system namespace" in text


@pytest.mark.parametrize(
    ("name", "subjects", "message"),
    [
        pytest.param("other", None, "named datakeys-controller only", id="another-name"),
        pytest.param(CONTROLLER, [STRANGER], "may bind itself only", id="somebody-else"),
        pytest.param(CONTROLLER, [None, STRANGER], "may bind itself only", id="somebody-as-well"),
        pytest.param(CONTROLLER, [], "may bind itself only", id="nobody"),
        pytest.param(CONTROLLER, [{**STRANGER, "name": CONTROLLER}], "may bind itself only", id="namesake"),
        pytest.param(CONTROLLER, [{"kind": "User", "name": CONTROLLER}], "may bind itself only", id="user"),
        pytest.param(
            CONTROLLER,
            [{"kind": "Group", "name": "system:authenticated"}],
            "may bind itself only",
            id="group",
        ),
    ],
)
def test_controller_hands_its_right_to_nobody(
    installation: Installation,
    controller: client.RbacAuthorizationV1Api,
    namespace: str,
    name: str,
    subjects: list[dict[str, str] | None] | None,
    message: str,
) -> None:
    """Each RoleBinding that differs in name or subject is refused by the policy; None is the controller."""
    chosen = None if subjects is None else [item or installation.subject() for item in subjects]
    body = installation.role_binding(name=name, subjects=chosen)
    text = refusal(controller.create_namespaced_role_binding, namespace, body)
    assert POLICY in text
    assert message in text


@pytest.mark.parametrize("role", ["cluster-admin", "admin", "edit", "datakeys-keyservice", CONTROLLER])
def test_controller_binds_no_other_role(
    installation: Installation, controller: client.RbacAuthorizationV1Api, namespace: str, role: str
) -> None:
    """Every other ClusterRole is refused, also one whose rights the controller has itself."""
    refusal(controller.create_namespaced_role_binding, namespace, installation.role_binding(role=role))


def test_controller_binds_no_role_of_the_same_name(
    installation: Installation,
    controller: client.RbacAuthorizationV1Api,
    administrator: client.RbacAuthorizationV1Api,
    namespace: str,
) -> None:
    """A Role that a user has named like the ClusterRole doesn't fool the policy."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]
    role: Any = {**named(ROLE), "rules": rules}
    administrator.create_namespaced_role(namespace, role)
    body = installation.role_binding(role_kind="Role")
    refusal(controller.create_namespaced_role_binding, namespace, body)


def test_controller_neither_changes_nor_deletes_a_binding(
    installation: Installation, controller: client.RbacAuthorizationV1Api, namespace: str
) -> None:
    """Once made, the RoleBinding is the administrator's."""
    controller.create_namespaced_role_binding(namespace, installation.role_binding())
    body = {"subjects": [installation.subject(), STRANGER]}
    refusal(controller.patch_namespaced_role_binding, CONTROLLER, namespace, body)
    refusal(controller.delete_namespaced_role_binding, CONTROLLER, namespace)


def test_controller_binds_nothing_in_the_whole_cluster(
    installation: Installation, controller: client.RbacAuthorizationV1Api
) -> None:
    """A ClusterRoleBinding to its own ClusterRole would reach every Secret; RBAC refuses it."""
    refusal(controller.create_cluster_role_binding, installation.role_binding())


def test_controller_cannot_widen_the_role_it_binds(controller: client.RbacAuthorizationV1Api) -> None:
    """It has no right to change ClusterRoles."""
    everything = {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    refusal(controller.patch_cluster_role, ROLE, everything)


def test_policy_leaves_administrators_alone(
    installation: Installation, administrator: client.RbacAuthorizationV1Api, namespace: str
) -> None:
    """RoleBindings by anybody else aren't judged."""
    body = installation.role_binding(name="other", subjects=[STRANGER])
    assert administrator.create_namespaced_role_binding(namespace, body)
