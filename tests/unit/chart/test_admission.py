"""The webhook's registration, and the policies that limit the controller."""

from typing import Any

import pytest

from chart_rendering import SYSTEM_NAMESPACE, Manifest, find, render
from datakeys.contract import identity

CONTROLLER_POLICIES = ["datakeys-controller-rolebindings", "datakeys-controller-secrets"]


PODS = "inject.datakeys.dev"
FORGOTTEN = "annotated.datakeys.dev"
WORKLOADS = "workloads.datakeys.dev"


def webhooks_of(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Return the three webhooks by name."""
    webhooks = find(manifests, "MutatingWebhookConfiguration", "datakeys-webhook")["webhooks"]
    return {webhook["name"]: webhook for webhook in webhooks}


@pytest.fixture
def webhooks(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    return webhooks_of(manifests)


@pytest.fixture(params=[PODS, FORGOTTEN, WORKLOADS])
def webhook(webhooks: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return webhooks[request.param]


def test_three_webhooks_and_no_more(webhooks: dict[str, dict[str, Any]]) -> None:
    assert list(webhooks) == [PODS, FORGOTTEN, WORKLOADS]


@pytest.mark.parametrize("name", [PODS, FORGOTTEN])
def test_only_new_pods_are_sent(webhooks: dict[str, dict[str, Any]], name: str) -> None:
    """Pods are seen when they are created, and never again."""
    (rule,) = webhooks[name]["rules"]
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == ([""], ["v1"], ["pods"])
    assert (rule["operations"], rule["scope"]) == (["CREATE"], "Namespaced")


def test_labelled_pods_are_sent_whatever_else_they_say(webhooks: dict[str, dict[str, Any]]) -> None:
    assert webhooks[PODS]["objectSelector"] == {"matchLabels": {identity.LABEL_INJECT: "true"}}
    assert "matchConditions" not in webhooks[PODS]


def test_pods_without_the_label_are_sent_only_if_annotated(webhooks: dict[str, dict[str, Any]]) -> None:
    """All other pods of the cluster start without the webhook, also when it is down."""
    webhook = webhooks[FORGOTTEN]
    assert webhook["objectSelector"] == {
        "matchExpressions": [{"key": identity.LABEL_INJECT, "operator": "DoesNotExist"}]
    }
    (condition,) = webhook["matchConditions"]
    for annotation in (
        identity.ANNOTATION_KEY,
        identity.ANNOTATION_REQUESTS,
        identity.ANNOTATION_AWS_ENDPOINT,
    ):
        assert f"'{annotation}' in object.metadata.annotations" in condition["expression"]


def test_workloads_are_sent_only_if_annotated_or_stamped(webhooks: dict[str, dict[str, Any]]) -> None:
    webhook = webhooks[WORKLOADS]
    sent = {
        (group, resource)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert sent == {
        ("apps", "deployments"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
    }
    assert all(rule["operations"] == ["CREATE", "UPDATE"] for rule in webhook["rules"])
    (condition,) = webhook["matchConditions"]
    for name in (identity.ANNOTATION_KEY, identity.ANNOTATION_WORKLOAD, identity.LABEL_INJECT):
        assert f"'{name}'" in condition["expression"]


def test_system_namespaces_are_never_sent(webhook: dict[str, Any]) -> None:
    """The system's own pods and those of kube-system start without the webhook."""
    assert webhook["namespaceSelector"] == {
        "matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": [SYSTEM_NAMESPACE, "kube-system"],
            }
        ]
    }


def test_webhook_fails_closed(webhook: dict[str, Any]) -> None:
    """Without an answer the object is refused; other versions of its API are sent too."""
    assert webhook["failurePolicy"] == "Fail"
    assert webhook["matchPolicy"] == "Equivalent"
    assert webhook["timeoutSeconds"] == 10


def test_webhook_may_be_called_twice_and_changes_nothing_else(webhook: dict[str, Any]) -> None:
    """It has no side effects, so dry runs reach it, and it runs again if a later one changes the object."""
    assert webhook["sideEffects"] == "None"
    assert webhook["reinvocationPolicy"] == "IfNeeded"


def test_webhook_is_called_where_the_service_is(manifests: list[Manifest], webhook: dict[str, Any]) -> None:
    """The address is the Service's, with the path that the webhook serves."""
    service = find(manifests, "Service", "datakeys-webhook")
    assert webhook["clientConfig"]["service"] == {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "port": 443,
        "path": "/mutate-workloads" if webhook["name"] == WORKLOADS else "/mutate-pods",
    }


def test_new_installation_has_no_certificate_authority(webhook: dict[str, Any]) -> None:
    """The caBundle is the webhook's to set; without one every call fails, which is closed."""
    assert "caBundle" not in webhook["clientConfig"]


def test_failure_policy_and_timeout_follow_the_values() -> None:
    """Both can be set, for all three."""
    manifests = render({"webhook.failurePolicy": "Ignore", "webhook.timeoutSeconds": 3})
    for webhook in webhooks_of(manifests).values():
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", 3)


def test_policy_judges_every_write_of_a_role_binding(manifests: list[Manifest]) -> None:
    """Creation and change are matched in every API version, and what can't be judged is refused."""
    spec = find(manifests, "ValidatingAdmissionPolicy", "datakeys-controller-rolebindings")["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"] == {
        "resourceRules": [
            {
                "apiGroups": ["rbac.authorization.k8s.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["rolebindings"],
            }
        ]
    }


def test_policy_judges_every_deletion_of_a_secret(manifests: list[Manifest]) -> None:
    """In every API version, and what can't be judged is refused."""
    spec = find(manifests, "ValidatingAdmissionPolicy", "datakeys-controller-secrets")["spec"]
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert (rule["apiVersions"], rule["operations"], rule["resources"]) == (["*"], ["DELETE"], ["secrets"])


@pytest.mark.parametrize("name", CONTROLLER_POLICIES)
def test_policy_is_for_the_controller_alone(manifests: list[Manifest], name: str) -> None:
    """Nobody else's RoleBindings and Secrets are touched."""
    spec = find(manifests, "ValidatingAdmissionPolicy", name)["spec"]
    (condition,) = spec["matchConditions"]
    controller = identity.service_account_principal(SYSTEM_NAMESPACE, "datakeys-controller")
    assert condition["expression"] == f"request.userInfo.username == '{controller}'"


@pytest.mark.parametrize("name", CONTROLLER_POLICIES)
def test_policy_is_in_force(manifests: list[Manifest], name: str) -> None:
    """The binding denies, in all namespaces."""
    binding = find(manifests, "ValidatingAdmissionPolicyBinding", name)
    assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
