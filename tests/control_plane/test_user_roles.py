"""What the chart's roles let users do with keys, as a real API server and kubectl say it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from chart_installation import Installation, installed_chart, named, refusal
from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS
from datakeys.contract.identity import GROUP
from testcluster.binaries import path_of
from testcluster.recipes import KUBECTL
from user_rights import GENERATE, Users, build_one_of_each, try_to
from workloads import build_request

KEY_ID = "0a1b2c3d-0000-4000-8000-00000000000f"


@pytest.fixture(scope="module")
def installation(control_plane: Path) -> Iterator[Installation]:
    with installed_chart(control_plane) as installation:
        yield installation


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("edit", {REQUESTS, ALIASES}), ("admin", {REQUESTS, ALIASES, GRANTS, KEYS}), ("view", set())],
)
def test_cluster_roles_create_what_suits_them(users: Users, role: str, allowed: set[str]) -> None:
    """An editor makes requests and aliases; handing on rights, by grant or policy, is the administrator's."""
    user = users.with_cluster_role(role)
    with users.acting_as(user) as objects:
        for plural, body in build_one_of_each(users.namespace).items():
            if plural in allowed:
                objects.create(plural, body)
            else:
                refusal(objects.create, plural, body)


def test_editor_of_another_namespace_is_refused(users: Users, other: Users) -> None:
    """Neither objects nor keys of this namespace are his."""
    user = other.with_cluster_role("edit")
    with users.acting_as(user) as here, other.acting_as(user) as there:
        there.create(REQUESTS, build_request(other.namespace, "r"))
        refusal(here.create, REQUESTS, build_request(users.namespace, "r"))


@pytest.mark.parametrize(
    ("role", "operation", "answer"),
    [
        ("datakeys-decrypter", "decrypt", True),
        ("datakeys-decrypter", "encrypt", False),
        ("datakeys-decrypter", GENERATE, False),
        ("datakeys-encrypter", "encrypt", True),
        ("datakeys-encrypter", "decrypt", False),
        ("datakeys-signer", "sign", True),
        ("datakeys-signer", "decrypt", False),
        ("datakeys-key-admin", "putkeypolicy", True),
        ("datakeys-key-admin", "decrypt", False),
        ("datakeys-edit", GENERATE, True),
        ("datakeys-edit", "decrypt", False),
        ("datakeys-edit", "creategrant", False),
        ("datakeys-view", "describekey", True),
        ("datakeys-view", GENERATE, False),
    ],
)
def test_kubectl_answers_who_may_use_a_key(users: Users, role: str, operation: str, answer: bool) -> None:
    """The subresources exist in no CRD, and `kubectl auth can-i` answers all the same."""
    user = users.new(role)
    assert _can_i(users, user, "kmskeys/my-key", operation) is answer


@pytest.mark.parametrize("name", ["my-key", KEY_ID, "alias/team/main"])
def test_kubectl_answers_for_one_key(users: Users, name: str) -> None:
    """A right on one name is a no for any other, and for the other operations."""
    user = users.new()
    users.allow(user, "decrypt", name)
    assert _can_i(users, user, f"kmskeys/{name}", "decrypt")
    assert not _can_i(users, user, f"kmskeys/{name}", "encrypt")
    assert not _can_i(users, user, "kmskeys/other", "decrypt")
    assert not _can_i(users, user, "kmskeys", "decrypt")


def _can_i(users: Users, user: str, resource: str, subresource: str) -> bool:
    options = [f"--kubeconfig={users.kubeconfig}", f"--namespace={users.namespace}", f"--as={user}"]
    command = [str(path_of(KUBECTL)), *options, "auth", "can-i", "create", resource]
    done = subprocess.run(
        [*command, f"--subresource={subresource}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    assert "doesn't have a resource type" not in done.stderr
    assert (done.returncode == 0) == (done.stdout.strip() == "yes")
    return done.returncode == 0


ONE_KEY = {
    "apiGroups": [GROUP],
    "resources": ["kmskeys/decrypt"],
    "resourceNames": ["main"],
    "verbs": ["create"],
}
MAKES_ROLES = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}


@pytest.mark.parametrize(("role", "refused"), [("admin", False), ("edit", True)])
def test_administrator_of_a_namespace_hands_out_single_rights(users: Users, role: str, refused: bool) -> None:
    """RBAC lets one give only what one has: an administrator gives Decrypt on one key, an editor can't."""
    user = users.with_cluster_role(role)
    users.allow_rule(user, MAKES_ROLES)
    body: Any = {**named("one-key"), "rules": [ONE_KEY]}
    with users.acting_as(user) as objects:
        rbac = client.RbacAuthorizationV1Api(objects.api)
        text = try_to(rbac.create_namespaced_role, users.namespace, body, dry_run="All")
        assert bool(text) is refused
        assert ("attempting to grant RBAC permissions not currently held" in text) is refused
