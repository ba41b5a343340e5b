"""What a real API server says each ServiceAccount may do equals docs/rbac.md, in every kind of namespace."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from chart_installation import Installation, impersonating, installed_chart, named, refusal
from chart_rendering import PROCESSES
from in_force import wait_roles_in_force
from rbac_table import (
    CLUSTER,
    NAMESPACES_WITH_REQUESTS,
    SYSTEM_NAMESPACE,
    URLS,
    Permission,
    Row,
    documented,
    flatten,
    read_table,
)

ACCOUNTS = [f"datakeys-{process}" for process in PROCESSES]
#: A ServiceAccount without any right of its own: what it may do is what the cluster gives to everybody.
NOBODY = "nobody"
CONSUMER = "rbac-consumer"
UNRELATED = "rbac-unrelated"
KIND = ("datakeys.dev", "v1alpha1", CONSUMER, "kmskeys")

Act = Callable[[str], client.ApiClient]


@pytest.fixture(scope="module")
def installation(control_plane: Path, api_client: client.ApiClient) -> Iterator[Installation]:
    """The chart, a namespace in which the controller has bound itself, and one without requests."""
    core = client.CoreV1Api(api_client)
    with installed_chart(control_plane) as installation:
        for name in (CONSUMER, UNRELATED):
            core.create_namespace(named(name))
        with installation.acting_as("datakeys-controller") as api:
            rbac = client.RbacAuthorizationV1Api(api)
            rbac.create_namespaced_role_binding(CONSUMER, installation.role_binding())
        wait_roles_in_force(api_client, CONSUMER)
        yield installation
        for name in (CONSUMER, UNRELATED):
            core.delete_namespace(name)


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return read_table()


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def act(installation: Installation) -> Iterator[Act]:
    """Return a function that gives a client acting as a ServiceAccount of the system namespace."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(installation.acting_as(name))


def _rules(api: client.ApiClient, namespace: str) -> set[Permission]:
    body: Any = {"spec": {"namespace": namespace}}
    review: Any = client.AuthorizationV1Api(api).create_self_subject_rules_review(body)
    assert not review.status.incomplete
    rules = [*review.status.resource_rules, *review.status.non_resource_rules]
    return flatten(api.sanitize_for_serialization(rules))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("namespace_kind", "scopes"),
    [
        ("system", [CLUSTER, SYSTEM_NAMESPACE]),
        (CONSUMER, [CLUSTER, NAMESPACES_WITH_REQUESTS]),
        (UNRELATED, [CLUSTER]),
    ],
)
def test_rights_equal_the_document(
    installation: Installation,
    act: Act,
    table: list[Row],
    account: str,
    namespace_kind: str,
    scopes: list[str],
) -> None:
    """Each account's rights are those of its table for that kind of namespace, plus what everybody has."""
    namespace = installation.namespace if namespace_kind == "system" else namespace_kind
    everybody = _rules(act(NOBODY), namespace)
    assert _rules(act(account), namespace) == everybody | documented(table, account, *scopes)


def test_everybody_has_no_right_on_objects(installation: Installation, act: Act) -> None:
    """The comparison above hides nothing: everybody may ask about himself, and read public certificates."""
    rights = _rules(act(NOBODY), installation.namespace)
    assert {right.resource for right in rights if right.api_group != URLS} <= {
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
        "clustertrustbundles",
    }


@pytest.mark.parametrize("name", ["datakeys-controller", "datakeys-webhook"])
def test_only_the_key_service_reads_secrets_of_the_system_namespace(
    installation: Installation, act: Act, name: str
) -> None:
    """Get, list and watch of the sealed records are forbidden to the other two processes."""
    core = client.CoreV1Api(act(name))
    refusal(core.read_namespaced_secret, "datakeys-root-key", installation.namespace)
    refusal(core.list_namespaced_secret, installation.namespace)
    refusal(core.list_namespaced_secret, installation.namespace, watch=True, timeout_seconds=1)
    allowed = client.CoreV1Api(act("datakeys-keyservice"))
    assert allowed.list_namespaced_secret(installation.namespace)


def test_nobody_lists_secrets_of_the_whole_cluster(act: Act, account: str) -> None:
    """No process sees Secrets across namespaces."""
    refusal(client.CoreV1Api(act(account)).list_secret_for_all_namespaces)


def test_nobody_reads_secrets_of_an_unrelated_namespace(act: Act, account: str) -> None:
    """A namespace without requests keeps its Secrets to itself."""
    refusal(client.CoreV1Api(act(account)).list_namespaced_secret, UNRELATED)


def test_controller_creates_and_reads_secrets_of_a_consumer(act: Act) -> None:
    """In a namespace with requests it may create and see Secrets, but neither change nor delete just any."""
    core = client.CoreV1Api(act("datakeys-controller"))
    core.create_namespaced_secret(CONSUMER, named("made"))
    assert core.read_namespaced_secret("made", CONSUMER)
    refusal(core.patch_namespaced_secret, "made", CONSUMER, named("made", labels={"a": "b"}))
    refusal(core.delete_namespaced_secret, "made", CONSUMER)


def test_controller_watches_config_maps_of_one_name(installation: Installation, act: Act) -> None:
    """Lists of the trust bundle and its copies work with a field selector; lists of all ConfigMaps don't."""
    core = client.CoreV1Api(act("datakeys-controller"))
    only: Any = {"field_selector": "metadata.name=datakeys-trust-bundle"}
    listed: Any = core.list_namespaced_config_map(installation.namespace, **only)
    assert listed.items == []
    everywhere: Any = core.list_config_map_for_all_namespaces(**only)
    assert {item.metadata.name for item in everywhere.items} <= {"datakeys-trust-bundle"}
    refusal(core.list_namespaced_config_map, installation.namespace)
    refusal(core.list_config_map_for_all_namespaces)


def test_controller_holds_its_own_lease_only(
    installation: Installation, act: Act, api_client: client.ApiClient
) -> None:
    """It may renew the Lease it leads by, and not touch another one of the namespace."""
    leases = client.CoordinationV1Api(act("datakeys-controller"))
    lease = leases.create_namespaced_lease(installation.namespace, named("datakeys-controller"))
    leases.replace_namespaced_lease("datakeys-controller", installation.namespace, lease)
    administrator = client.CoordinationV1Api(api_client)
    other = administrator.create_namespaced_lease(installation.namespace, named("other"))
    refusal(leases.replace_namespaced_lease, "other", installation.namespace, other)


def test_webhook_changes_no_registration_but_its_own(act: Act) -> None:
    """It may patch its MutatingWebhookConfiguration; any other name is forbidden."""
    admission = client.AdmissionregistrationV1Api(act("datakeys-webhook"))
    name = "datakeys-webhook"
    assert admission.patch_mutating_webhook_configuration(name, named(name, labels={"a": "b"}), dry_run="All")
    refusal(admission.patch_mutating_webhook_configuration, "other", named("other"))
    refusal(admission.list_mutating_webhook_configuration)


def test_only_the_key_service_reviews_tokens(act: Act) -> None:
    """The other two processes can't ask whether a token is genuine."""
    review: Any = {"spec": {"token": "x"}}
    assert client.AuthenticationV1Api(act("datakeys-keyservice")).create_token_review(review)
    for name in ("datakeys-controller", "datakeys-webhook"):
        refusal(client.AuthenticationV1Api(act(name)).create_token_review, review)


def test_editors_own_keys_and_forge_no_status(
    control_plane: Path, installation: Installation, api_client: client.ApiClient
) -> None:
    """Who may edit a namespace may create a KmsKey there, but not write its status; a viewer only looks."""
    rbac = client.RbacAuthorizationV1Api(api_client)
    for role in ("datakeys-edit", "datakeys-view"):
        user = [{"kind": "User", "name": role}]
        rbac.create_namespaced_role_binding(
            CONSUMER, installation.role_binding(name=role, role=role, subjects=user)
        )
    wait_roles_in_force(api_client, CONSUMER)
    with ExitStack() as stack:
        users = [impersonating(control_plane, name) for name in ("datakeys-edit", "datakeys-view")]
        editor, viewer = (client.CustomObjectsApi(stack.enter_context(user)) for user in users)
        key = {"apiVersion": "datakeys.dev/v1alpha1", "kind": "KmsKey", "spec": {}, **named("k")}
        refusal(viewer.create_namespaced_custom_object, *KIND, key)
        editor.create_namespaced_custom_object(*KIND, key)
        assert viewer.get_namespaced_custom_object(*KIND, "k")
        refusal(viewer.delete_namespaced_custom_object, *KIND, "k")
        refusal(editor.patch_namespaced_custom_object_status, *KIND, "k", {"status": {}})
        editor.delete_namespaced_custom_object(*KIND, "k")
