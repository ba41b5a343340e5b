"""The chart grants what docs/rbac.md lists, no more and no less."""

from collections import defaultdict

import pytest

from chart_rendering import PROCESSES, SYSTEM_NAMESPACE, Manifest, find, of_kind
from rbac_table import (
    AGGREGATED,
    CLUSTER,
    NAMESPACES_WITH_REQUESTS,
    Permission,
    Row,
    documented,
    flatten,
    read_table,
)
from rbac_table import SYSTEM_NAMESPACE as SYSTEM_SCOPE

NAMESPACED_ROLE = "datakeys-controller-namespaced"
#: Each user role, and the role of the cluster that it is added to.
USER_ROLES = {
    "datakeys-edit": "edit",
    "datakeys-view": "view",
    "datakeys-encrypter": "admin",
    "datakeys-decrypter": "admin",
    "datakeys-signer": "admin",
    "datakeys-key-admin": "admin",
}
ROLE_KINDS = {"ClusterRoleBinding": CLUSTER, "RoleBinding": SYSTEM_SCOPE}


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return read_table()


def _granted(manifests: list[Manifest], subject: str) -> dict[str, set[Permission]]:
    granted: dict[str, set[Permission]] = defaultdict(set)
    for binding in of_kind(manifests, *ROLE_KINDS):
        if [item["name"] for item in binding["subjects"]] == [subject]:
            role = find(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])
            granted[ROLE_KINDS[binding["kind"]]] |= flatten(role["rules"])
    return granted


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("scope", [CLUSTER, SYSTEM_SCOPE])
def test_bound_roles_equal_the_document(
    manifests: list[Manifest], table: list[Row], process: str, scope: str
) -> None:
    """Each ServiceAccount's bound rights are exactly the rows of its table."""
    subject = f"datakeys-{process}"
    assert _granted(manifests, subject)[scope] == documented(table, subject, scope)


def test_role_that_the_controller_binds_equals_the_document(
    manifests: list[Manifest], table: list[Row]
) -> None:
    """The ClusterRole for namespaces with requests has exactly the rows of that scope."""
    role = find(manifests, "ClusterRole", NAMESPACED_ROLE)
    assert flatten(role["rules"]) == documented(table, "datakeys-controller", NAMESPACES_WITH_REQUESTS)


@pytest.mark.parametrize("name", USER_ROLES)
def test_user_roles_equal_the_document(manifests: list[Manifest], table: list[Row], name: str) -> None:
    """The aggregated ClusterRoles have exactly the rows of their tables."""
    assert flatten(find(manifests, "ClusterRole", name)["rules"]) == documented(table, name, AGGREGATED)


@pytest.mark.parametrize(("name", "cluster_role"), USER_ROLES.items())
def test_user_roles_are_added_to_one_role(manifests: list[Manifest], name: str, cluster_role: str) -> None:
    """Each goes to one of the cluster's own roles alone."""
    labels = find(manifests, "ClusterRole", name)["metadata"]["labels"]
    aggregated = {key for key in labels if "aggregate-to" in key}
    assert aggregated == {f"rbac.authorization.k8s.io/aggregate-to-{cluster_role}"}


def test_every_row_says_why(table: list[Row]) -> None:
    """No right is documented without its reason, and no scope is unknown."""
    assert all(row.why for row in table)
    assert {row.scope for row in table} == {CLUSTER, SYSTEM_SCOPE, NAMESPACES_WITH_REQUESTS, AGGREGATED}


def test_every_role_is_documented(manifests: list[Manifest]) -> None:
    """The chart has no role beyond those that the other tests compare."""
    names = {role["metadata"]["name"] for role in of_kind(manifests, "ClusterRole", "Role")}
    assert names == {
        *(f"datakeys-{process}" for process in PROCESSES),
        NAMESPACED_ROLE,
        *USER_ROLES,
    }


def test_controller_has_no_right_on_secrets_beyond_its_namespaces(manifests: list[Manifest]) -> None:
    """Neither cluster-wide nor in the system namespace does a rule of the controller reach Secrets."""
    granted = _granted(manifests, "datakeys-controller")
    reaching = {
        right for right in granted[CLUSTER] | granted[SYSTEM_SCOPE] if right.resource in {"secrets", "*"}
    }
    assert not reaching


def test_chart_never_binds_the_role_for_namespaces_with_requests(manifests: list[Manifest]) -> None:
    """Only the controller itself binds that ClusterRole."""
    bound = {item["roleRef"]["name"] for item in of_kind(manifests, *ROLE_KINDS)}
    assert NAMESPACED_ROLE not in bound


def test_no_rule_has_a_wildcard(manifests: list[Manifest]) -> None:
    """No verb, group, resource or URL is a star."""
    for role in of_kind(manifests, "ClusterRole", "Role"):
        for rule in role["rules"]:
            assert "*" not in "".join(value for values in rule.values() for value in values)


def test_only_the_controller_may_bind_or_escalate(manifests: list[Manifest]) -> None:
    """Bind is limited to one ClusterRole by name; escalate and impersonate are given to nobody."""
    rights = {right for role in of_kind(manifests, "ClusterRole", "Role") for right in flatten(role["rules"])}
    powerful = {right for right in rights if right.verb in {"bind", "escalate", "impersonate"}}
    assert powerful == {Permission("rbac.authorization.k8s.io", "clusterroles", NAMESPACED_ROLE, "bind")}


def test_roles_are_in_the_system_namespace_and_bound_to_its_accounts(manifests: list[Manifest]) -> None:
    """Every namespaced object and every subject is in the release namespace."""
    for manifest in of_kind(manifests, "Role", "RoleBinding"):
        assert manifest["metadata"]["namespace"] == SYSTEM_NAMESPACE
    for binding in of_kind(manifests, *ROLE_KINDS):
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", SYSTEM_NAMESPACE)
