"""Waits until an API server goes by what was just changed. Zone: tests.

It learns of roles, policies and webhooks by watches of its own, so a change that was accepted takes effect a
moment later: of each kind in the order in which it was made.
"""

import time
import uuid
from enum import StrEnum
from typing import Any, Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from datakeys.contract.identity import ANNOTATION_KEY, LABEL_INJECT
from waiting import wait_for

WEBHOOK: Final = "datakeys-webhook"
_RBAC: Final = "rbac.authorization.k8s.io"
Json = dict[str, Any]


class Asked(StrEnum):
    """What becomes of a workload that asks for a data key."""

    STAMPED = "the webhook is asked, and answers"
    REFUSED = "the webhook is asked, and doesn't answer"
    AS_IT_IS = "no webhook is asked, or it may be missing"


def wait_in_force(api: client.ApiClient, namespace: str) -> None:
    """Wait until all roles, bindings and admission policies that were made so far are in force.

    The last of each kind is made here, and is removed when it has taken effect.

    Args:
        api: An administrator's client.
        namespace: One that is there.
    """
    wait_roles_in_force(api, namespace)
    _wait_cluster_roles_in_force(api)
    name = _new_name()
    _refuse_last(api, name)
    wait_for(lambda: _is_refused(api, namespace, name), "the last admission policy is in force")
    admission = client.AdmissionregistrationV1Api(api)
    admission.delete_validating_admission_policy_binding(name)
    admission.delete_validating_admission_policy(name)


def wait_roles_in_force(api: client.ApiClient, namespace: str) -> None:
    """Do the same for Roles and RoleBindings alone, of all namespaces."""
    name, rbac = _new_name(), client.RbacAuthorizationV1Api(api)
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    rbac.create_namespaced_role(namespace, _build_role(name, rule))
    rbac.create_namespaced_role_binding(namespace, _build_binding("Role", name))
    asked = {"resourceAttributes": {"namespace": namespace, "resource": "configmaps", "verb": "get"}}
    wait_for(lambda: _may(api, name, asked), "the last Role is in force")
    rbac.delete_namespaced_role_binding(name, namespace)
    rbac.delete_namespaced_role(name, namespace)


def _wait_cluster_roles_in_force(api: client.ApiClient) -> None:
    name, rbac = _new_name(), client.RbacAuthorizationV1Api(api)
    rbac.create_cluster_role(_build_role(name, {"nonResourceURLs": [f"/{name}"], "verbs": ["get"]}))
    rbac.create_cluster_role_binding(_build_binding("ClusterRole", name))
    asked = {"nonResourceAttributes": {"path": f"/{name}", "verb": "get"}}
    wait_for(lambda: _may(api, name, asked), "the last ClusterRole is in force")
    rbac.delete_cluster_role_binding(name)
    rbac.delete_cluster_role(name)


def wait_asked(api: client.ApiClient, wanted: Asked) -> None:
    """Wait until this becomes of a workload that asks for a data key."""
    # Who is asked too early, and isn't there, costs the time that a webhook has for its answer.
    time.sleep(0.5)
    wait_for(lambda: _ask(api) is wanted, wanted)


def leave_webhook_out(api: client.ApiClient) -> None:
    """Let the API server ask no webhook of the chart."""
    client.AdmissionregistrationV1Api(api).delete_mutating_webhook_configuration(WEBHOOK)
    wait_asked(api, Asked.AS_IT_IS)


def _ask(api: client.ApiClient) -> Asked:
    """Create such a workload by dry run; unlike a pod it needs no ServiceAccount."""
    labels = {"app": "probe"}
    pod = {"containers": [{"name": "app", "image": "x"}], "securityContext": {"runAsUser": 10001}}
    template = {"metadata": {"labels": labels}, "spec": pod}
    body: Any = {
        "metadata": {"name": "probe", "annotations": {ANNOTATION_KEY: "alias/probe"}},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    try:
        made: Any = client.AppsV1Api(api).create_namespaced_deployment("default", body, dry_run="All")
    except ApiException as error:
        if "failed calling webhook" not in str(error.body):
            raise
        return Asked.REFUSED
    return Asked.STAMPED if LABEL_INJECT in (made.metadata.labels or {}) else Asked.AS_IT_IS


def _new_name() -> str:
    return f"last-{uuid.uuid4().hex[:8]}"


def _build_role(name: str, rule: Json) -> Any:
    return {"metadata": {"name": name}, "rules": [rule]}


def _build_binding(kind: str, name: str) -> Any:
    """Return a binding of a role to a user of the same name."""
    return {
        "metadata": {"name": name},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": name}],
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
    }


def _may(api: client.ApiClient, user: str, asked: Json) -> bool:
    body: Any = {"spec": {"user": user, **asked}}
    review: Any = client.AuthorizationV1Api(api).create_subject_access_review(body)
    return bool(review.status.allowed)


def _refuse_last(api: client.ApiClient, name: str) -> None:
    """Forbid a ConfigMap of this name."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    policy: Any = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "name", "expression": f"object.metadata.name == '{name}'"}],
            "validations": [{"expression": "false"}],
        },
    }
    binding: Any = {
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    admission = client.AdmissionregistrationV1Api(api)
    admission.create_validating_admission_policy(policy)
    admission.create_validating_admission_policy_binding(binding)


def _is_refused(api: client.ApiClient, namespace: str, name: str) -> bool:
    body: Any = {"metadata": {"name": name}}
    try:
        client.CoreV1Api(api).create_namespaced_config_map(namespace, body, dry_run="All")
    except ApiException as error:
        if error.status not in (403, 422):
            raise
        return True
    return False
