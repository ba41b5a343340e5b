"""Users of a real API server, with the rights a test gives them.

Zone: tests. No controller manager is needed: aggregated ClusterRoles are bound one by one.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client

from chart_installation import impersonating, named
from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS, Json, Objects
from datakeys.contract.identity import GROUP, VERSION
from in_force import wait_roles_in_force
from waiting import wait_for
from workloads import build_key, build_request

GENERATE: Final = "generatedatakeywithoutplaintext"
KEY_POLICY: Final = json.dumps({"Statement": []})
#: The policy that judges each kind.
POLICIES: Final = {
    REQUESTS: "datakeys-request-creators",
    GRANTS: "datakeys-grant-creators",
    ALIASES: "datakeys-alias-targets",
    KEYS: "datakeys-key-policies",
}
_RBAC: Final = "rbac.authorization.k8s.io"
#: What the cluster's own roles are made of, each with the roles that it includes.
_AGGREGATED: Final = {"view": ["view"], "edit": ["view", "edit"], "admin": ["view", "edit", "admin"]}


@dataclass(frozen=True)
class Users:
    """Gives rights in one namespace, and acts as users there."""

    administrator: client.ApiClient
    kubeconfig: Path
    namespace: str

    def new(self, *roles: str, prefix: str = "user") -> str:
        """Return the name of a new user who may write this project's objects, and has these ClusterRoles."""
        user = f"{prefix}-{uuid.uuid4().hex[:8]}"
        rule = _rule([KEYS, ALIASES, GRANTS, REQUESTS], ["create", "update", "patch", "delete", "get"])
        self.allow_rule(user, rule)
        for role in roles:
            self._bind(user, "ClusterRole", role)
        wait_roles_in_force(self.administrator, self.namespace)
        return user

    def with_cluster_role(self, role: str) -> str:
        """Return the name of a new user with one of the cluster's own roles: edit, admin or view."""
        user = f"user-{uuid.uuid4().hex[:8]}"
        selector = f"{_RBAC}/aggregate-to-{{}}=true,app.kubernetes.io/name=datakey-operator"
        rbac = client.RbacAuthorizationV1Api(self.administrator)
        for part in _AGGREGATED[role]:
            found: Any = rbac.list_cluster_role(label_selector=selector.format(part))
            for item in found.items:
                self._bind(user, "ClusterRole", item.metadata.name)
        wait_roles_in_force(self.administrator, self.namespace)
        return user

    def allow(self, user: str, operation: str, *names: str, kind: str = "User") -> None:
        """Allow a user or a group an operation on keys of these names, or on all keys."""
        rule = _rule([f"{KEYS}/{operation}"], ["create"], names)
        self.allow_rule(user, rule, kind)

    def allow_rule(self, subject: str, rule: Mapping[str, Any], kind: str = "User") -> None:
        """Give a user or a group what an RBAC rule says; it is in force when this returns."""
        name = f"r-{uuid.uuid4().hex[:8]}"
        body: Any = {**named(name), "rules": [rule]}
        client.RbacAuthorizationV1Api(self.administrator).create_namespaced_role(self.namespace, body)
        self._bind(subject, "Role", name, kind)
        wait_roles_in_force(self.administrator, self.namespace)

    def may(self, user: str, operation: str, name: str, verb: str = "create") -> bool:
        """Return what the API server's authorizer says."""
        attributes = {
            "group": GROUP,
            "resource": KEYS,
            "subresource": operation,
            "namespace": self.namespace,
            "name": name,
            "verb": verb,
        }
        body: Any = {"spec": {"user": user, "resourceAttributes": attributes}}
        review: Any = client.AuthorizationV1Api(self.administrator).create_subject_access_review(body)
        return bool(review.status.allowed)

    @contextmanager
    def acting_as(self, user: str, *groups: str) -> Iterator[Objects]:
        """Yield the namespace's objects as a user sees them; at most one group."""
        with impersonating(self.kubeconfig, user) as api:
            for group in groups:
                api.default_headers["Impersonate-Group"] = group
            yield Objects(api, self.namespace)

    def _bind(self, subject: str, role_kind: str, role: str, kind: str = "User") -> None:
        body: Any = {
            **named(f"b-{uuid.uuid4().hex[:8]}"),
            "roleRef": {"apiGroup": _RBAC, "kind": role_kind, "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": subject}],
        }
        rbac = client.RbacAuthorizationV1Api(self.administrator)
        rbac.create_namespaced_role_binding(self.namespace, body)


def _rule(resources: list[str], verbs: list[str], names: Iterable[str] = ()) -> dict[str, Any]:
    return {"apiGroups": [GROUP], "resources": resources, "verbs": verbs, "resourceNames": [*names]}


def build_grant(namespace: str, name: str = "g", **key: Any) -> Json:
    """Return a KmsGrant on a key that the test names."""
    spec = {"granteePrincipal": {"serviceAccountName": "app"}, "operations": ["Decrypt"], **key}
    return _manifest(namespace, "KmsGrant", name, spec)


def build_alias(namespace: str, name: str = "a", **target: Any) -> Json:
    """Return a KmsAlias of a target that the test names."""
    return _manifest(namespace, "KmsAlias", name, target)


def _manifest(namespace: str, kind: str, name: str, spec: Json) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def build_one_of_each(namespace: str) -> dict[str, Json]:
    """Return an object of each kind, all for the key main, by the plural of its kind."""
    return {
        REQUESTS: build_request(namespace, "r"),
        GRANTS: build_grant(namespace, keyRef={"name": "main"}),
        ALIASES: build_alias(namespace, targetKeyRef={"name": "main"}),
        KEYS: build_key(namespace, "main", policy=KEY_POLICY),
    }


def try_to(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """Return the message with which the API server forbids a call, or nothing if it doesn't."""
    try:
        call(*arguments, **options)
    except client.ApiException as error:
        if error.status != 403:
            raise
        return str(error.body)
    return ""


def wait_policies(users: Users, user: str, *, refuse: bool) -> None:
    """Wait until all policies refuse a user who has no right on keys, or until none does."""
    bodies = build_one_of_each(users.namespace)
    with users.acting_as(user) as objects:
        create = client.CustomObjectsApi(objects.api).create_namespaced_custom_object

        def settled() -> bool:
            texts = {
                plural: try_to(create, GROUP, VERSION, users.namespace, plural, body, dry_run="All")
                for plural, body in bodies.items()
            }
            return all((POLICIES[plural] in text) is refuse for plural, text in texts.items())

        wait_for(settled, f"the policies {'refuse' if refuse else 'are gone'}")
