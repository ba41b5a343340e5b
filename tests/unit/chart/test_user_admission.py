"""The policies that judge users' objects, and the roles that pass them, as the chart renders them."""

import json
import re
from typing import Any

import botocore.session
import pytest

from chart_rendering import Manifest, find, of_kind, render
from datakeys.contract import identity
from datakeys.keyservice.operations.table import VERBS
from rbac_table import flatten
from user_rights import POLICIES

CREATION = ["CREATE"]
ALL_WRITES = ["CREATE", "UPDATE"]
#: ReEncrypt is a permission on each of its two keys. Source: AWS KMS, "Key policy actions".
REENCRYPT = {"reencryptfrom", "reencryptto"}
USER_ROLES = ["edit", "view", "encrypter", "decrypter", "signer", "key-admin"]
READS_PLAINTEXT = {"decrypt", "reencryptfrom"}
GIVES_RIGHTS = {"creategrant", "putkeypolicy"}


def _operations(manifests: list[Manifest], role: str) -> set[str]:
    rights = flatten(find(manifests, "ClusterRole", f"datakeys-{role}")["rules"])
    return {right.resource.split("/")[1] for right in rights if "/" in right.resource}


def _known_operations() -> set[str]:
    service: Any = botocore.session.get_session().get_service_model("kms")
    return ({name.lower() for name in service.operation_names} - {"reencrypt"}) | REENCRYPT


@pytest.mark.parametrize(
    ("resource", "operations"),
    [
        ("datakeyrequests", ALL_WRITES),
        ("kmsgrants", CREATION),
        ("kmsaliases", ALL_WRITES),
        ("kmskeys", ALL_WRITES),
    ],
)
def test_policies_match_each_write_that_uses_a_key(
    manifests: list[Manifest], resource: str, operations: list[str]
) -> None:
    """All API versions are judged, deletion and status never, and what can't be judged is refused."""
    spec = find(manifests, "ValidatingAdmissionPolicy", POLICIES[resource])["spec"]
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule == {
        "apiGroups": ["datakeys.dev"],
        "apiVersions": ["*"],
        "operations": operations,
        "resources": [resource],
    }


@pytest.mark.parametrize(
    ("name", "groups", "resources"),
    [
        ("workloads", ["apps", "batch"], ["deployments", "statefulsets", "daemonsets", "jobs"]),
        ("cronjobs", ["batch"], ["cronjobs"]),
        ("pods", [""], ["pods"]),
    ],
)
def test_policies_match_each_kind_that_can_be_annotated(
    manifests: list[Manifest], name: str, groups: list[str], resources: list[str]
) -> None:
    """Creation and every update of all kinds for which the controller makes requests, in all namespaces."""
    spec = find(manifests, "ValidatingAdmissionPolicy", f"datakeys-annotated-{name}")["spec"]
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule == {
        "apiGroups": groups,
        "apiVersions": ["*"],
        "operations": ALL_WRITES,
        "resources": resources,
    }
    binding = find(manifests, "ValidatingAdmissionPolicyBinding", f"datakeys-annotated-{name}")
    assert binding["spec"] == {"policyName": f"datakeys-annotated-{name}", "validationActions": ["Deny"]}


@pytest.mark.parametrize("name", POLICIES.values())
def test_policies_are_in_force_everywhere(manifests: list[Manifest], name: str) -> None:
    """The binding denies, and excludes no namespace and no object."""
    binding = find(manifests, "ValidatingAdmissionPolicyBinding", name)
    assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}


@pytest.mark.parametrize("name", POLICIES.values())
def test_policies_ask_in_the_namespace_of_the_object(manifests: list[Manifest], name: str) -> None:
    """One question to the authorizer: this key, this namespace, the verb create; 403 if it says no."""
    (validation,) = find(manifests, "ValidatingAdmissionPolicy", name)["spec"]["validations"]
    assert re.sub(r"\s", "", validation["expression"]) == (
        "authorizer.group('datakeys.dev').resource('kmskeys').subresource(variables.permission)"
        ".namespace(request.namespace).name(variables.key).check('create').allowed()"
    )
    assert validation["reason"] == "Forbidden"
    assert "\n" not in validation["messageExpression"]


def test_switch_removes_policies_and_bindings_of_users_only() -> None:
    """Without checkCreators the policies stay that limit the controller and debuggers, or only warn."""
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    left = list(of_kind(render({"admission.checkCreators": False}), *kinds))
    assert {item["metadata"]["name"] for item in left} == {
        "datakeys-controller-rolebindings",
        "datakeys-controller-secrets",
        "datakeys-ephemeral-containers",
        *(f"datakeys-unknown-annotations-{kind}" for kind in ("workloads", "cronjobs", "pods")),
    }


@pytest.mark.parametrize("role", USER_ROLES)
def test_roles_name_operations_of_aws_kms_only(manifests: list[Manifest], role: str) -> None:
    """A misspelt subresource would give nobody anything."""
    assert _operations(manifests, role)
    assert _operations(manifests, role) <= _known_operations()


def test_policies_ask_for_operations_that_some_role_gives(manifests: list[Manifest]) -> None:
    """Each permission of a policy is an operation that an administrator of a namespace has."""
    given = set().union(*(_operations(manifests, role) for role in USER_ROLES))
    for name in POLICIES.values():
        variables = find(manifests, "ValidatingAdmissionPolicy", name)["spec"]["variables"]
        (permission,) = [item["expression"] for item in variables if item["name"] == "permission"]
        assert set(re.findall("'([a-z]+)'", permission)) <= given


def test_administrators_have_every_operation_of_the_key_service(manifests: list[Manifest]) -> None:
    """They can hand out whatever the service offers; nothing that it serves is out of RBAC's reach."""
    served = {name.lower() for name in VERBS} & _known_operations()
    given = set().union(*(_operations(manifests, role) for role in USER_ROLES))
    assert len(served) > 20
    assert served <= given


@pytest.mark.parametrize("role", ["edit", "view", "encrypter", "signer", "key-admin"])
def test_only_the_decrypter_reads_ciphertext(manifests: list[Manifest], role: str) -> None:
    """No other role has Decrypt or the source side of ReEncrypt."""
    assert not _operations(manifests, role) & READS_PLAINTEXT


@pytest.mark.parametrize("role", ["edit", "view", "encrypter", "decrypter", "signer"])
def test_only_the_key_administrator_gives_rights(manifests: list[Manifest], role: str) -> None:
    """No other role has CreateGrant or PutKeyPolicy."""
    assert not _operations(manifests, role) & GIVES_RIGHTS


def test_key_administrator_uses_no_key(manifests: list[Manifest]) -> None:
    """Managing keys and using them are apart; only what tells about a key is in both."""
    uses = set().union(*(_operations(manifests, role) for role in ("encrypter", "decrypter", "signer")))
    assert _operations(manifests, "key-admin") & uses == {"describekey", "getpublickey"}


@pytest.mark.parametrize("kind", ["workloads", "cronjobs", "pods"])
def test_every_annotation_is_known_to_the_policy_that_warns(manifests: list[Manifest], kind: str) -> None:
    """What the contract has is known, nothing else is, and nobody is ever refused."""
    name = f"datakeys-unknown-annotations-{kind}"
    spec = find(manifests, "ValidatingAdmissionPolicy", name)["spec"]
    (unknown,) = [one["expression"] for one in spec["variables"] if one["name"] == "unknown"]
    known = {
        f"{identity.GROUP}/{one}" for one in json.loads(unknown[unknown.index("[") : unknown.index("]") + 1])
    }
    constants = {value for name, value in vars(identity).items() if name.startswith("ANNOTATION_")}
    assert known == constants
    assert known == {*identity.USER_ANNOTATIONS, identity.ANNOTATION_WORKLOAD, identity.ANNOTATION_INJECTED}
    assert find(manifests, "ValidatingAdmissionPolicyBinding", name)["spec"]["validationActions"] == ["Warn"]
    assert spec["failurePolicy"] == "Ignore"
